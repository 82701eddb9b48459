"""A model's stated figures in, and what a fresh evaluation finds beside them out: the contract of every card's numbers.

`models/<name>/figures.json` states them, `models/<name>/evaluate.py` finds them again, `python -m benchmarks.quality`
compares, and a test holds each card's table to the file. An `evaluate` has `figures(data)`; where it times a network
`speed()`, whose figures' names are `ms`, `ms_...` and `times_...`; where figures come from models that are not shipped
`retrain_one(data, work)`, whose names begin with `retrained_`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from streamer.errors import ModelError

FIGURES = "figures.json"
BEGIN, END = "<!-- figures -->", "<!-- /figures -->"


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


def fill_card(model: Path) -> None:
    """A model's folder in; the table of its figures stands between the two marks of its `card.md`.

    Raises:
        ModelError: the card lacks a mark.
    """
    card = model / "card.md"
    before, _, rest = card.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ModelError(f"{card}: add the lines {BEGIN} and {END} where the table of figures belongs")
    card.write_text(f"{before}{BEGIN}\n\n{table(read(model))}\n\n{END}{after}", encoding="utf-8")


def shown_in(model: Path) -> str:
    """A model's folder to the text that its card shows between the two marks; empty where it lacks them."""
    _, _, rest = (model / "card.md").read_text(encoding="utf-8").partition(BEGIN)
    shown, end, _ = rest.partition(END)
    return shown.strip() if end else ""


def table(figures: Sequence[Figure]) -> str:
    """Figures to the Markdown that cards show: a row for each, in their order, and below it what was missed and why.

    Columns that no figure fills are left out.
    """
    rows = [
        (
            _described(f),
            f"**{number(f.value)}**" + (f" [{number(f.interval[0])}, {number(f.interval[1])}]" if f.interval else ""),
            bounds(f) + (f": {f.verdict}" if f.verdict else ""),
            f.floor,
            f.published,
        )
        for f in figures
    ]
    rows.insert(0, ("figure", "value", "must / aim", "floor", "published"))
    kept = [at for at in range(len(rows[0])) if any(row[at] for row in rows[1:])]
    lines = [f"| {' | '.join(row[at] for at in kept)} |" for row in rows]
    lines.insert(1, "|---" * len(kept) + "|")
    missed = [f"- {f.what}: {f.missed}" for f in figures if f.missed]
    return "\n".join([*lines, *(["", "Missed, and why it is shipped all the same:", "", *missed] if missed else [])])


def bounds(figure: Figure) -> str:
    """A figure's must and aim for people, `.60 / .62`; empty where it has neither."""
    if figure.must is None and figure.aim is None:
        return ""
    sign = "≤ " if figure.lower_is_better else ""
    both = ["-" if bound is None else number(bound) for bound in (figure.must, figure.aim)]
    return sign + " / ".join(shown[:-1] if "." in shown and shown.endswith("0") else shown for shown in both)


def number(value: float) -> str:
    """A figure's number as people see it: three places below 1, else two."""
    shown = f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}".rstrip("0").rstrip(".")
    return shown.replace("0.", ".", 1) if abs(float(shown)) < 1 else shown


def _described(figure: Figure) -> str:
    notes = [f"n = {figure.n:,}"] if figure.n is not None else []
    notes += ["development"] if figure.choice else []
    return figure.what + (f" ({', '.join(notes)})" if notes else "")


def _rounded(figure: Figure) -> Figure:
    between = tuple(round(v, 4) for v in figure.interval) if figure.interval else None
    changed = {"value": round(figure.value, 4), "tolerance": round(figure.tolerance, 4), "interval": between}
    return msgspec.structs.replace(figure, **changed)
