"""Write the results of all model folders as Markdown: figures with bounds, other figures, and every problem."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.quality.model_folders import Comparison, FolderResult
from models.figures import Figure, number
from models.speed import absent

WEIGHTS_MAX = 120_000_000
"""Bytes of all ONNX files together."""
_CELL_CHARS_MAX = 26


def weights_bytes(folders: Iterable[Path]) -> int:
    """Sum the sizes of all ONNX files in these model folders."""
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*.onnx"))


def report(results: Sequence[FolderResult], weights: int) -> str:
    """Write all results and the bytes of all weights as Markdown: tables first, then a line for each model folder."""
    bounded = [(r, c) for r in results for c in r.comparisons if _is_bounded(c.figure)]
    others = [(r, c) for r in results for c in r.comparisons if not _is_bounded(c.figure)]
    parts = ["", _table(_HEAD, [_bounded_row(r, c) for r, c in bounded]) if bounded else ""]
    if others:
        parts += ["", "Figures without a bound:", "", _table(_HEAD_OTHER, [_other_row(r, c) for r, c in others])]
    parts += ["", *(_summary(result) for result in results), _reached(results)]
    over = weights > WEIGHTS_MAX
    parts.append(
        f"weights of all models: {weights / 1e6:.1f} MB, at most {WEIGHTS_MAX / 1e6:.0f}: "
        f"{'MISSED' if over else 'reached'}"
    )
    missed = [
        f"- {result.name} {f.name}: {f.missed}"
        for result in results
        for compared in result.comparisons
        if (f := compared.stated) and f.missed
    ]
    if missed:
        parts += ["", "Missed, with the reason that the card gives:", *missed]
    skipped = _skipped(results)
    if skipped:
        parts += ["", "Not looked for:", *skipped]
    problems = [f"- {result.name}: {problem}" for result in results for problem in result.problems]
    parts += ["", "What is wrong:", *problems] if problems else ["", "Every figure that was looked for is reproduced."]
    return "\n".join(parts)


_HEAD = ("model", "figure", "floor", "must", "aim", "published", "stated", "found", "verdict")
_HEAD_OTHER = ("model", "figure", "stated", "found", "allowed", "verdict")


def _is_bounded(figure: Figure) -> bool:
    return figure.must is not None or figure.aim is not None


def _bounded_row(result: FolderResult, compared: Comparison) -> tuple[str, ...]:
    f = compared.figure
    return (
        result.name, f.name, _shortened(f.floor), _bound(f, f.must), _bound(f, f.aim), _shortened(f.published),
        *_values(compared), f"{f.verdict}, {_state(compared)}",
    )  # fmt: skip


def _other_row(result: FolderResult, compared: Comparison) -> tuple[str, ...]:
    figure = compared.figure
    return (result.name, figure.name, *_values(compared), f"{figure.tolerance:.3g}", _state(compared))


def _values(compared: Comparison) -> tuple[str, str]:
    stated, found = (number(f.value) if f else "-" for f in (compared.stated, compared.found))
    return stated, found


def _state(compared: Comparison) -> str:
    return "NOT REPRODUCED" if compared.problem else "not looked for" if compared.skipped else "reproduced"


def _bound(figure: Figure, bound: float | None) -> str:
    if bound is None:
        return "-"
    return ("≤ " if figure.lower_is_better else "") + number(bound)


def _shortened(text: str) -> str:
    text = text.replace("a perfect calibrator's", "perfect")
    return text if len(text) <= _CELL_CHARS_MAX else text[: _CELL_CHARS_MAX - 1].rstrip() + "…"


def _summary(result: FolderResult) -> str:
    checked = [c for c in result.comparisons if not c.skipped]
    reproduced = sum(not c.problem for c in checked)
    return f"{result.name}: {reproduced} of {len(checked)} figures reproduced in {result.seconds:.0f} s"


def _reached(results: Sequence[FolderResult]) -> str:
    """How many of the stated bounds are reached."""
    stated = [c.stated for result in results for c in result.comparisons if c.stated]
    counts = []
    for name in ("must", "aim"):
        bounds = [(f, bound) for f in stated if (bound := getattr(f, name)) is not None]
        counts.append(f"{sum(f.reaches(bound) for f, bound in bounds)} of {len(bounds)} {name}s")
    return f"reached as stated: {' and '.join(counts)}"


def _skipped(results: Sequence[FolderResult]) -> list[str]:
    lines = []
    for result in results:
        lines += [f"- {result.name}, {part}" for part in result.skipped]
        lines += [
            f"- {result.name} {c.figure.name}: {c.skipped} is not installed"
            for c in result.comparisons
            if c.skipped and c.skipped == absent(c.figure.name)
        ]
    return lines


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write cells as a Markdown table whose columns line up in a terminal."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in (head, *rows)
    ]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines)
