"""A model's stated figures in, and what a fresh evaluation finds beside them out: the contract of every card's numbers.

`models/<name>/figures.json` states them, `models/<name>/evaluate.py` finds them again (`figures(data)`, and `speed()`
where it has one), `python -m benchmarks.quality` compares, and a test holds each card's table to the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

FIGURES = "figures.json"


class Figure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One number of a card.

    `name` is short and unique within the model (`macro_f1_7`), `what` is for people and names data and split. A fresh
    evaluation may lie `tolerance` away on either side. `interval` is of 95 %. `must` and `aim` are bounds: the least
    that will do, or with `lower_is_better` the most. `missed` says why a `must` that isn't reached was shipped anyway.
    `choice` marks a figure of development data, where something was chosen by it.
    """

    name: str
    what: str
    value: float
    tolerance: float
    n: int | None = None
    interval: tuple[float, float] | None = None
    must: float | None = None
    aim: float | None = None
    lower_is_better: bool = False
    floor: str = ""
    published: str = ""
    missed: str = ""
    choice: bool = False

    def reaches(self, bound: float) -> bool:
        """Whether the value, as rounded for people, is on the good side of a bound."""
        shown = round(self.value, 3)
        return shown <= bound if self.lower_is_better else shown >= bound

    @property
    def verdict(self) -> str:
        """`aim reached`, `must reached`, `missed`, or nothing where no bound is set."""
        if self.aim is not None and self.reaches(self.aim):
            return "aim reached"
        if self.must is not None:
            return "must reached" if self.reaches(self.must) else "missed"
        return "aim missed" if self.aim is not None else ""


def read(model: Path) -> list[Figure]:
    """A model's folder to the figures that it states.

    Raises:
        FileNotFoundError: it states none.
        msgspec.ValidationError: the file isn't a list of figures.
    """
    return msgspec.json.decode((model / FIGURES).read_bytes(), type=list[Figure])


def write(model: Path, figures: Sequence[Figure]) -> None:
    """State figures in a model's folder, in the order given."""
    text = "[\n" + ",\n".join(msgspec.json.encode(_rounded(f)).decode() for f in figures) + "\n]\n"
    (model / FIGURES).write_text(text, encoding="utf-8")


def table(figures: Sequence[Figure]) -> str:
    """Figures to the Markdown table that cards show, a row for each, in their order."""
    lines = ["| figure | value | n | must / aim | verdict | floor | published |", "|---|---|---|---|---|---|---|"]
    for f in figures:
        between = f" [{_number(f.interval[0])}, {_number(f.interval[1])}]" if f.interval else ""
        sign = "≤ " if f.lower_is_better else ""
        bounds = " / ".join(f"{sign}{_number(b)}" if b is not None else "-" for b in (f.must, f.aim))
        cells = [
            f.what + (" (development)" if f.choice else ""),
            f"{_number(f.value)}{between}",
            f"{f.n:,}" if f.n is not None else "",
            bounds if f.must is not None or f.aim is not None else "",
            f.verdict,
            f.floor,
            f.published,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.2f}".rstrip("0").rstrip(".")


def _rounded(figure: Figure) -> Figure:
    between = tuple(round(v, 4) for v in figure.interval) if figure.interval else None
    changed = {"value": round(figure.value, 4), "interval": between}
    return msgspec.structs.replace(figure, **changed)
