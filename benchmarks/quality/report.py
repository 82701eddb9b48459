"""Rooms as examined in, what a person reads out: the table of bounds, every other figure, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.quality.model_folders import Comparison, Room
from models.figures import Figure, number
from models.speed import absent

WEIGHTS_MOST = 120_000_000
_LONGEST_CELL = 26


def weights_bytes(folders: Iterable[Path]) -> int:
    """Model folders to the bytes of all their ONNX files."""
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*.onnx"))


def report(rooms: Sequence[Room], weights: int) -> str:
    """All rooms and the bytes of all weights to Markdown: tables first, then what to know about each room."""
    bounded = [(r, c) for r in rooms for c in r.comparisons if _is_bounded(c.figure)]
    others = [(r, c) for r in rooms for c in r.comparisons if not _is_bounded(c.figure)]
    parts = ["", _table(_HEAD, [_bounded_row(room, compared) for room, compared in bounded]) if bounded else ""]
    if others:
        parts += ["", "Figures without a bound:", "", _table(_HEAD_OTHER, [_other_row(r, c) for r, c in others])]
    parts += ["", *(_summary(room) for room in rooms), _reached(rooms)]
    over = weights > WEIGHTS_MOST
    parts.append(
        f"weights of all models: {weights / 1e6:.1f} MB, at most {WEIGHTS_MOST / 1e6:.0f}: "
        f"{'MISSED' if over else 'reached'}"
    )
    missed = [
        f"- {room.name} {f.name}: {f.missed}"
        for room in rooms
        for compared in room.comparisons
        if (f := compared.stated) and f.missed
    ]
    if missed:
        parts += ["", "Missed, with the reason that the card gives:", *missed]
    skipped = _skipped(rooms)
    if skipped:
        parts += ["", "Not looked for:", *skipped]
    problems = [f"- {room.name}: {problem}" for room in rooms for problem in room.problems]
    parts += ["", "What is wrong:", *problems] if problems else ["", "Every figure that was looked for is reproduced."]
    return "\n".join(parts)


_HEAD = ("model", "figure", "floor", "must", "aim", "published", "stated", "found", "verdict")
_HEAD_OTHER = ("model", "figure", "stated", "found", "allowed", "verdict")


def _is_bounded(figure: Figure) -> bool:
    return figure.must is not None or figure.aim is not None


def _bounded_row(room: Room, compared: Comparison) -> tuple[str, ...]:
    f = compared.figure
    return (
        room.name, f.name, _cut(f.floor), _bound(f, f.must), _bound(f, f.aim), _cut(f.published),
        *_values(compared), f"{f.verdict}, {_state(compared)}",
    )  # fmt: skip


def _other_row(room: Room, compared: Comparison) -> tuple[str, ...]:
    return (room.name, compared.figure.name, *_values(compared), f"{compared.figure.tolerance:.3g}", _state(compared))


def _values(compared: Comparison) -> tuple[str, str]:
    stated, found = (number(f.value) if f else "-" for f in (compared.stated, compared.found))
    return stated, found


def _state(compared: Comparison) -> str:
    return "NOT REPRODUCED" if compared.problem else "not looked for" if compared.skipped else "reproduced"


def _bound(figure: Figure, bound: float | None) -> str:
    if bound is None:
        return "-"
    return ("≤ " if figure.lower_is_better else "") + number(bound)


def _cut(text: str) -> str:
    text = text.replace("a perfect calibrator's", "perfect")
    return text if len(text) <= _LONGEST_CELL else text[: _LONGEST_CELL - 1].rstrip() + "…"


def _summary(room: Room) -> str:
    looked = [c for c in room.comparisons if not c.skipped]
    right = sum(not c.problem for c in looked)
    return f"{room.name}: {right} of {len(looked)} figures reproduced in {room.seconds:.0f} s"


def _reached(rooms: Sequence[Room]) -> str:
    """How many of the stated bounds are reached."""
    stated = [c.stated for room in rooms for c in room.comparisons if c.stated]
    counts = []
    for name in ("must", "aim"):
        bounds = [(f, bound) for f in stated if (bound := getattr(f, name)) is not None]
        counts.append(f"{sum(f.reaches(bound) for f, bound in bounds)} of {len(bounds)} {name}s")
    return f"reached as stated: {' and '.join(counts)}"


def _skipped(rooms: Sequence[Room]) -> list[str]:
    lines = []
    for room in rooms:
        lines += [f"- {room.name}, {part}" for part in room.skipped]
        lines += [
            f"- {room.name} {c.figure.name}: {c.skipped} is not installed"
            for c in room.comparisons
            if c.skipped and c.skipped == absent(c.figure.name)
        ]
    return lines


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells to a Markdown table whose columns line up in a terminal."""
    wide = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, wide, strict=True)) + " |" for row in (head, *rows)
    ]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in wide) + "|")
    return "\n".join(lines)
