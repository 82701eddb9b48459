"""The figures that a model's card states, and the file and the table that hold them.

`models/<name>/figures.json` states the figures, `models/<name>/evaluate.py` measures them again, and
`python -m benchmarks.quality` compares the two. A test compares each card's table with the file.

An `evaluate` module has `figures(data)`. One that times a network also has `speed()`, whose figures are named `ms`,
`ms_...` and `times_...`. One whose figures come from models that are not shipped has `retrain_one(data, work)`, whose
figures' names begin with `retrained_`.
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

    `name` is short and unique within the model (`macro_f1_7`). `what` describes it for people, with data and split. A
    fresh evaluation is allowed to differ by `tolerance` in either direction. `interval` is the 95 % interval. `must`
    and `aim` are lower bounds, upper ones with `lower_is_better`: what is required, and what is aimed at. `missed`
    gives the reason for shipping a model whose figure doesn't reach its `must`. `choice` marks a figure of development
    data, by which something was chosen.
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
        """Whether the value, rounded to three places as in the card, satisfies a bound."""
        rounded = round(self.value, 3)
        return rounded <= bound if self.lower_is_better else rounded >= bound

    @property
    def verdict(self) -> str:
        """`aim reached`, `must reached`, `missed`, or nothing where no bound is set."""
        if self.aim is not None and self.reaches(self.aim):
            return "aim reached"
        if self.must is not None:
            return "must reached" if self.reaches(self.must) else "missed"
        return "aim missed" if self.aim is not None else ""


def read(model: Path) -> list[Figure]:
    """Read the figures that a model's folder states.

    Raises:
        FileNotFoundError: the folder has no figures.json.
        msgspec.ValidationError: the file isn't a list of figures.
    """
    return msgspec.json.decode((model / FIGURES).read_bytes(), type=list[Figure])


def write(model: Path, figures: Sequence[Figure]) -> None:
    """Write figures to a model's figures.json, in the given order, numbers rounded to 4 places."""
    text = "[\n" + ",\n".join(msgspec.json.encode(_rounded(f)).decode() for f in figures) + "\n]\n"
    (model / FIGURES).write_text(text, encoding="utf-8")


def fill_card(model: Path) -> None:
    """Write the table of a model's stated figures between the two marks of its `card.md`.

    Raises:
        ModelError: the card lacks a mark.
    """
    card = model / "card.md"
    before, _, rest = card.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ModelError(f"{card}: add the lines {BEGIN} and {END} where the table of figures belongs")
    card.write_text(f"{before}{BEGIN}\n\n{table(read(model))}\n\n{END}{after}", encoding="utf-8")


def table_in_card(model: Path) -> str:
    """Read the text between the two marks of a model's `card.md`; an empty string if a mark is missing."""
    _, _, rest = (model / "card.md").read_text(encoding="utf-8").partition(BEGIN)
    text, end, _ = rest.partition(END)
    return text.strip() if end else ""


def table(figures: Sequence[Figure]) -> str:
    """Format figures as a card's Markdown: a row for each, in their order, then the missed bounds with the reasons.

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
    filled = [at for at in range(len(rows[0])) if any(row[at] for row in rows[1:])]
    lines = [f"| {' | '.join(row[at] for at in filled)} |" for row in rows]
    lines.insert(1, "|---" * len(filled) + "|")
    missed = [f"- {f.what}: {f.missed}" for f in figures if f.missed]
    return "\n".join([*lines, *(["", "Missed, and why it is shipped all the same:", "", *missed] if missed else [])])


def bounds(figure: Figure) -> str:
    """Format a figure's must and aim, such as `.60 / .62`; an empty string if it has neither."""
    if figure.must is None and figure.aim is None:
        return ""
    sign = "≤ " if figure.lower_is_better else ""
    both = ["-" if bound is None else number(bound) for bound in (figure.must, figure.aim)]
    return sign + " / ".join(text[:-1] if "." in text and text.endswith("0") else text for text in both)


def number(value: float) -> str:
    """Format a figure's value: three places below 1 without the leading 0, else two."""
    text = f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}".rstrip("0").rstrip(".")
    return text.replace("0.", ".", 1) if abs(float(text)) < 1 else text


def _described(figure: Figure) -> str:
    notes = [f"n = {figure.n:,}"] if figure.n is not None else []
    notes += ["development"] if figure.choice else []
    return figure.what + (f" ({', '.join(notes)})" if notes else "")


def _rounded(figure: Figure) -> Figure:
    interval = tuple(round(v, 4) for v in figure.interval) if figure.interval else None
    changed = {"value": round(figure.value, 4), "tolerance": round(figure.tolerance, 4), "interval": interval}
    return msgspec.structs.replace(figure, **changed)
