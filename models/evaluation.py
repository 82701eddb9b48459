"""The command line that every `models/<name>/evaluate.py` has: `--data`, `--write`, and the table of figures it prints.

An `evaluate.py` measures; this module states. With `--write`, `report` stores the figures in the model's folder, fills
its card, has its picture drawn and appends a line to its test log. Without it nothing is stored.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from models import figures as cards
from models.figures import Figure
from models.speed import is_time
from models.test_log import append_figures

RETRAINED = "retrained_"
"""How the names of the figures begin that `retrain_one` measures."""


def parser(model: str, description: str | None, data_help: str, *, retrain: bool = False) -> argparse.ArgumentParser:
    """Make the parser of `python -m models.<model>.evaluate`.

    Args:
        model: the name of the model's folder.
        description: what `--help` prints first, the module's docstring.
        data_help: which data sets the folder given to `--data` must hold.
        retrain: add `--retrain WORK`, for models whose `evaluate` has `retrain_one`.
    """
    made = argparse.ArgumentParser(prog=f"python -m models.{model}.evaluate", description=description)
    made.add_argument("--data", type=Path, required=True, help=data_help)
    made.add_argument("--write", action="store_true", help="state the figures in the model's folder")
    if retrain:
        made.add_argument("--retrain", type=Path, metavar="WORK", help="train one network again too (extra `train`)")
    return made


def report(
    folder: Path,
    figures: Sequence[Figure],
    draw: Callable[[Path], object],
    *,
    write: bool,
    log: Literal["test", "all", "none"] = "test",
    retain: bool = False,
) -> None:
    """Print figures as the card's table; with `write`, state them in the model's folder first.

    Args:
        folder: the model's folder.
        figures: what was measured.
        draw: draws the card's picture in a folder; called with `write` only.
        write: whether to state the figures.
        log: which figures go into the line of the test log: those of test data, all, or no line at all.
        retain: leave the stated figures that `not_measured` lists in `figures.json`, after the new ones. They are
            neither printed nor logged.
    """
    if write:
        draw(folder)
        cards.write(folder, [*figures, *(not_measured(folder, figures) if retain else [])])
        cards.fill_card(folder)
        if log != "none":
            append_figures(folder, {f.name: f.value for f in figures if log == "all" or not f.choice})
    print(cards.table(figures))


def not_measured(folder: Path, figures: Sequence[Figure]) -> list[Figure]:
    """List the stated times and retraining figures of a model that are not among `figures`, in stated order."""
    names = {figure.name for figure in figures}
    stated = cards.read(folder) if (folder / cards.FIGURES).exists() else []
    return [f for f in stated if f.name not in names and (is_time(f.name) or f.name.startswith(RETRAINED))]
