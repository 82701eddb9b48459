"""Draw a board for a terminal of a given size (with rich): designed for 80 x 24, with more content where it fits."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle
from typing import Literal

from rich.text import Text

from demo.view.board import STATE_WORDS, Board, clock_text, likeliest, reasons
from kernels.emotions import EMOTIONS
from operators.payloads import AffectEvent, RankedItem

BANNER = "estimates of expression, not of inner state"
COLOURS = {
    "happiness": "yellow", "sadness": "blue", "surprise": "magenta", "fear": "dark_violet", "anger": "red",
    "disgust": "green", "anticipation": "orange3", "trust": "cyan", "neutral": "grey70",
}  # fmt: skip
MODALITY_COLOURS = ("bright_cyan", "bright_magenta", "bright_green", "bright_yellow", "bright_blue", "bright_red")
"""Of the topology's modalities in their order, in a cycle."""
EIGHTHS = " ▏▎▍▌▋▊▉█"
WIDE, TALL = 104, 32
"""From this many columns and rows on the picture and the notes are displayed."""
PICTURE_COLUMNS = 28
CONFLICTING = 0.5


@dataclass(frozen=True, slots=True)
class Frame:
    """What is displayed besides the board: what is played, the time, the ranking goal, and the footer."""

    label: str
    at_ms: int
    length_ms: int | None
    face: str
    voice: str
    goal: str
    footer: str


def render(board: Board, frame: Frame, columns: int, rows: int) -> list[Text]:
    """Draw the full screen: at most `rows` lines of at most `columns` cells (for a screen of at least 72 x 20)."""
    columns, rows = max(columns, 72), max(rows, 20)
    roomy = columns >= WIDE and rows >= TALL
    lines = [*_header(frame, columns), *_playing(board, frame, columns)]
    if roomy:
        lines.append(Text())
    lines += _affect(board, columns, roomy)
    if roomy:
        lines.append(Text())
    items = 10 if rows >= 26 else 8  # noqa: PLR2004 - two more lines than the smallest screen
    items = min(items, rows - len(lines) - 2)
    lines += _items(board, frame, columns, items)
    if roomy:
        lines += _notes(board, columns, rows - len(lines) - 1)
    lines = lines[: rows - 1]
    lines.append(_fit(Text(frame.footer, style="dim"), columns))
    return lines


def _header(frame: Frame, columns: int) -> list[Text]:
    name = Text.assemble((" affectstream ", "bold reverse"), (f" {frame.label}", "bold"))
    time = clock_text(frame.at_ms)
    if frame.length_ms:
        done = f"{_bar(frame.at_ms / frame.length_ms, 10)} " if columns >= name.cell_len + 25 else ""
        time = f"{done}{time} of {clock_text(frame.length_ms)}"
    return [_justified(name, Text(f"{time} "), columns), _fit(Text(f" {BANNER}", style="italic dim"), columns)]


def _playing(board: Board, frame: Frame, columns: int) -> list[Text]:
    face, voice = (frame.face or "–", ""), (frame.voice or "–", "")
    first, second = MODALITY_COLOURS[:2]
    played = Text.assemble((" plays ", "dim"), ("face ", first), face, ("  voice ", second), voice)
    chat = Text.assemble((" chat  ", "dim"), (board.chat or "–", MODALITY_COLOURS[2]))
    return [_fit(played, columns), _fit(chat, columns)]


def _affect(board: Board, columns: int, roomy: bool) -> list[Text]:
    event = board.newest
    picture = _picture(board.picture, PICTURE_COLUMNS, len(EMOTIONS)) if roomy else []
    space = columns - (PICTURE_COLUMNS + 2 if picture else 0)
    left_width = space // 2
    left = [_emotion(name, event, left_width) for name in EMOTIONS]
    right = _measurements(board, event, space - left_width - 2)
    lines = [_rule(_headline(event), columns)]
    for n, (a, b) in enumerate(zip(left, right, strict=True)):
        parts = [_fit(a, left_width), Text("  "), _fit(b, space - left_width - 2)]
        lines.append(Text.assemble(*parts, *([Text("  "), picture[n]] if picture else [])))
    return lines


def _headline(event: AffectEvent | None) -> Text:
    if event is None:
        return Text("waiting for the first window", style="dim")
    top = likeliest(event.emotions)
    if top is None:
        return Text("no estimate: too little to go by" if event.abstained else "no estimate", style="dim")
    kind = "final" if event.final else "provisional"
    return Text.assemble((f"{top[0]} {top[1]:.2f}", f"bold {COLOURS[top[0]]}"), (f" ({kind})", "dim"))


def _emotion(name: str, event: AffectEvent | None, width: int) -> Text:
    value = (event.emotions or {}).get(name) if event else None
    dim = "" if value else "dim"
    bar = (_bar(value or 0.0, max(width - 20, 4)), COLOURS[name])
    return Text.assemble((f" {name:<13}", dim), bar, (f" {value:.2f}" if value is not None else "  –", dim))


def _measurements(board: Board, event: AffectEvent | None, width: int) -> list[Text]:
    axis_width = max(width - 17, 5)
    conflict, confidence = (event.conflict, event.confidence) if event else (0.0, 0.0)
    red = "bold red" if conflict >= CONFLICTING else ""
    p50, p95 = (board.latency_ms(share) or "–" for share in (0.5, 0.95))
    refused = ", ".join(f"{n} {reason}" for reason, n in sorted(board.refused.items())) or "nothing"
    return [
        _axis("valence", event.valence if event else None, axis_width),
        _axis("arousal", event.arousal if event else None, axis_width),
        *(_modality(m, event, width, c) for m, c in zip(board.modalities, cycle(MODALITY_COLOURS), strict=False)),
        Text.assemble("conflict ", (f"{_bar(conflict, 6)} {conflict:.2f}", red), f"  confidence {confidence:.2f}"),
        Text(f"latency  frame→live p50 {p50} p95 {p95} ms"),
        Text(f"events   {board.provisionals} provisional, {len(board.finals)} final", style="dim"),
        Text(f"refused  {refused}", style="dim"),
    ]


def _axis(name: str, value: float | None, width: int) -> Text:
    cells = ["─"] * width
    cells[width // 2] = "┼"
    if value is None:
        return Text.assemble(f"{name:<9}", ("".join(cells), "dim"), ("  –", "dim"))
    at = min(max(round((value + 1) / 2 * (width - 1)), 0), width - 1)
    before, after = "".join(cells[:at]), "".join(cells[at + 1 :])
    return Text.assemble(f"{name:<9}", (before, "dim"), ("●", "bold"), (after, "dim"), f" {value:+.2f}")


def _modality(name: str, event: AffectEvent | None, width: int, colour: str) -> Text:
    modality = event.modalities.get(name) if event else None
    state = STATE_WORDS[modality.state] if modality else "–"
    style = {"no consent": "bold red", "present": ""}.get(state, "dim")
    weight = modality.weight if modality else 0.0
    bar = (_bar(weight, max(width - 27, 4)), colour)
    return Text.assemble((f"{name:<9}", colour), (f"{state:<11}", style), bar, (f" {weight:.2f}", style))


def _items(board: Board, frame: Frame, columns: int, rows: int) -> list[Text]:
    left_width = columns * 5 // 8
    with_names = columns >= WIDE
    head = Text.assemble("order by affect", (f" (goal: {frame.goal})" if with_names else " ── base + affect", "dim"))
    lines = [Text.assemble(_rule(head, left_width), _rule(Text("the platform's own order"), columns - left_width))]
    ranked = board.rises()
    by_platform = sorted((item for item, _ in ranked), key=lambda i: i.base_rank)
    for n, (item, rise) in enumerate(ranked[:rows]):
        mark, style = ("▲", "bold green") if rise > 0 else ("▼", "red") if rise < 0 else (" ", "")
        contributions = _contributions(item, with_names=with_names)
        title = _fit(Text(board.title(item.item_id), style=style), left_width - 9 - contributions.cell_len)
        left = Text.assemble(f" {n + 1:>2} ", (f"{mark}{abs(rise) or ' '} ", style), title, " ", contributions)
        base = Text(f" {n + 1:>2} {board.title(by_platform[n].item_id)}", style="dim")
        lines.append(Text.assemble(_fit(left, left_width), _fit(base, columns - left_width)))
    lines += [Text()] * (rows - len(lines) + 1)
    return lines


def _contributions(item: RankedItem, *, with_names: bool) -> Text:
    """The contributions to an item's score; in a narrow terminal without the names `base` and `affect`."""
    text = Text()
    for name, value in reasons(item):
        style = "dim" if name == "base" else "green" if value.startswith("+") else "red"
        named = with_names or name not in {"base", "affect"}
        text = Text.assemble(text, (f" {name} {value}" if named else f" {value}", style))
    padding = max(0, 11 - text.cell_len)
    return text if with_names else Text.assemble(text, " " * padding)


def _notes(board: Board, columns: int, rows: int) -> list[Text]:
    if rows < 3:  # noqa: PLR2004 - a heading and two lines
        return []
    lines = [_rule(Text("what happened"), columns)]
    notes = board.notes[-(rows - 1) :]
    return lines + [_fit(Text.assemble((f" {clock_text(n.at_ms)}  ", "dim"), n.text), columns) for n in notes]


def _picture(jpeg: bytes, columns: int, rows: int) -> list[Text]:
    """Draw a JPEG in half blocks, two pixels a cell, cropped at the sides."""
    if not jpeg:
        return [Text(" " * columns)] * rows
    import cv2
    import numpy as np

    pixels = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        return [Text(" " * columns)] * rows
    height, width = pixels.shape[:2]
    ratio = columns / (2 * rows)
    cropped = min(width, round(height * ratio))
    start = (width - cropped) // 2
    small = cv2.resize(pixels[:, start : start + cropped], (columns, 2 * rows), interpolation=cv2.INTER_AREA)[..., ::-1]
    lines = []
    for row in range(rows):
        line = Text()
        for upper, lower in zip(small[2 * row].tolist(), small[2 * row + 1].tolist(), strict=True):
            line.append("▀", style=f"rgb({','.join(map(str, upper))}) on rgb({','.join(map(str, lower))})")
        lines.append(line)
    return lines


def _bar(share: float, width: int) -> str:
    """Draw a share (0..1) as a bar of `width` cells, to an eighth of a cell."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (EIGHTHS[rest] if rest else "")).ljust(width)


def _rule(title: Text, width: int) -> Text:
    return _fit(Text.assemble(("── ", "dim"), title, (" " + "─" * width, "dim")), width, overflow="crop")


def _justified(left: Text, right: Text, width: int) -> Text:
    return Text.assemble(_fit(left, width - right.cell_len), right)


def _fit(text: Text, width: int, *, overflow: Literal["ellipsis", "crop"] = "ellipsis") -> Text:
    fitted = text.copy()
    fitted.truncate(max(width, 0), overflow=overflow, pad=True)
    fitted.no_wrap = True
    return fitted
