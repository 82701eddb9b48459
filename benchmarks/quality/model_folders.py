"""Compare the figures that a model's folder states with those that its evaluation finds now.

A model folder is one of the package `models` that states figures. Its module `evaluate` has `figures(data)`, and
optionally `speed()` and `retrain_one(data, work)`: see models/figures.py. An error in one folder stops no other.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

import msgspec

from models import figures, speed
from models.figures import Figure

Part = Literal["figures", "speed", "retraining"]
_ROUNDED = 5e-5
_OUR_PACKAGES = ("models", "benchmarks", "kernels", "operators", "streamer")
BROKE = "broke"

OnProgress = Callable[[str], None]
"""Receives the step that begins, such as `face_affect: speed`."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure as the card states it and as the evaluation finds it.

    `problem` says why it is not reproduced, `skipped` why it was not measured; both are empty where it is reproduced.
    """

    stated: Figure | None
    found: Figure | None
    problem: str = ""
    skipped: str = ""

    @property
    def figure(self) -> Figure:
        """The stated figure, or the found one where the card states none."""
        figure = self.stated or self.found
        assert figure  # noqa: S101 - a comparison is of at least one
        return figure


@dataclass(frozen=True, slots=True)
class FolderResult:
    """The result of one model folder.

    `broken` lists errors, `skipped` the parts of the evaluation that were not run with the reason, `seconds` the
    duration.
    """

    name: str
    comparisons: tuple[Comparison, ...] = ()
    broken: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def problems(self) -> list[str]:
        """Everything that makes the benchmark fail for this folder."""
        wrong = [f"{c.figure.name}: {c.problem}" for c in self.comparisons if c.problem]
        unexplained = [
            f"{f.name}: {figures.number(f.value)} misses its must of {figures.number(f.must)}, and no reason is given"
            for c in self.comparisons
            if (f := c.stated) and f.must is not None and f.verdict == "missed" and not f.missed
        ]
        return [*self.broken, *wrong, *unexplained]


def find_model_folders(package: str) -> dict[str, Path]:
    """Find a package's model folders, by name: those that state figures, and those that lack them but should."""
    root = Path(str(importlib.import_module(package).__file__)).parent
    found = {path.parent for file in (figures.FIGURES, "model.json", "evaluate.py") for path in root.glob(f"*/{file}")}
    return {folder.name: folder for folder in sorted(found)}


def examine(
    folder: Path, package: str, data: Path, *, with_speed: bool, with_retraining: bool, on_progress: OnProgress
) -> FolderResult:
    """Run the evaluation of a model folder and compare what it finds with what the folder states.

    Args:
        folder: with `figures.json` and `evaluate.py`.
        package: that the folder is in.
        data: the folder with the data sets.
        with_speed: measure times too.
        with_retraining: train one fold again too.
        on_progress: called before each part.
    """
    start_s = time.perf_counter()
    try:
        stated = figures.read(folder)
    except FileNotFoundError:
        return FolderResult(folder.name, broken=(f"has no {figures.FIGURES}: `evaluate --write` makes it",))
    except msgspec.DecodeError as error:
        return FolderResult(folder.name, broken=(f"{figures.FIGURES} is not a list of figures: {error}",))
    try:
        module = importlib.import_module(f"{package}.{folder.name}.evaluate")
    except Exception as error:  # noqa: BLE001 - one folder's error doesn't stop the others
        return FolderResult(folder.name, broken=(f"evaluate can't be imported: {_describe_error(error, folder)}",))
    found: list[Figure] = []
    broken = [f"{name} is stated {n} times" for name, n in _duplicates(stated)]
    not_run: dict[Part, str] = {}
    for part, wanted, run in _parts(module, data, with_speed, with_retraining):
        if not wanted:
            not_run[part] = "not asked for"
            continue
        on_progress(f"{folder.name}: {part}")
        try:
            with redirect_stdout(sys.stderr):
                found += run()
        except Exception as error:  # noqa: BLE001 - as above
            not_run[part] = _to_install(error) if part == "retraining" else ""
            if not not_run[part]:
                not_run[part] = BROKE
                broken.append(f"{part}: {_describe_error(error, folder)}")
    broken += [f"{name} is found {n} times" for name, n in _duplicates(found)]
    skipped = tuple(f"{part}: {why}" for part, why in not_run.items() if why != BROKE)
    comparisons = tuple(_compare(stated, found, not_run))
    return FolderResult(folder.name, comparisons, tuple(broken), skipped, time.perf_counter() - start_s)


def _parts(
    module: ModuleType, data: Path, with_speed: bool, with_retraining: bool
) -> list[tuple[Part, bool, Callable[[], list[Figure]]]]:
    def retrain() -> list[Figure]:
        with tempfile.TemporaryDirectory(prefix="retraining-") as work:
            retrained: list[Figure] = module.retrain_one(data, Path(work))
            return retrained

    parts: list[tuple[Part, bool, Callable[[], list[Figure]]]] = [("figures", True, lambda: module.figures(data))]
    if hasattr(module, "speed"):
        parts.append(("speed", with_speed, module.speed))
    if hasattr(module, "retrain_one"):
        parts.append(("retraining", with_retraining, retrain))
    return parts


def _compare(stated: Sequence[Figure], found: Sequence[Figure], not_run: dict[Part, str]) -> list[Comparison]:
    """Compare every stated figure, in order, and then add those that are found only."""
    by_name = {figure.name: figure for figure in found}
    compared = []
    for figure in stated:
        again = by_name.get(figure.name)
        if again:
            compared.append(Comparison(figure, again, problem=_difference(figure, again)))
        elif why := not_run.get(part_of(figure)) or speed.absent(figure.name):
            compared.append(Comparison(figure, None, skipped=why))
        else:
            compared.append(Comparison(figure, None, problem="stated, but evaluate doesn't find it"))
    names = {figure.name for figure in stated}
    compared += [
        Comparison(None, figure, problem="found, but the card doesn't state it")
        for figure in found
        if figure.name not in names
    ]
    return compared


def part_of(figure: Figure) -> Part:
    """The part of an evaluation that finds a figure, by its name (models/figures.py)."""
    if speed.is_time(figure.name):
        return "speed"
    return "retraining" if figure.name.startswith("retrained_") else "figures"


def _difference(stated: Figure, found: Figure) -> str:
    gap = abs(stated.value - found.value)
    if not gap <= stated.tolerance + _ROUNDED:
        return (
            f"stated {figures.number(stated.value)}, found {figures.number(found.value)}: "
            f"{gap:.4f} apart, {stated.tolerance:g} allowed"
        )
    for bound in ("must", "aim"):
        card, code = getattr(stated, bound), getattr(found, bound)
        if (card is None) != (code is None) or (card is not None and abs(card - code) > stated.tolerance):
            return f"its {bound} is stated as {card}, evaluate has {code}"
    return ""


def _to_install(error: Exception) -> str:
    """What to install if the error is that a third-party package is missing, else an empty string."""
    missing = (error.name or "") if isinstance(error, ModuleNotFoundError) else ""
    ours = missing.partition(".")[0] in _OUR_PACKAGES
    return f"needs {missing}: pip install -e '.[train]'" if missing and not ours else ""


def _duplicates(listed: Sequence[Figure]) -> list[tuple[str, int]]:
    return [(name, n) for name, n in Counter(figure.name for figure in listed).items() if n > 1]


def _describe_error(error: Exception, folder: Path) -> str:
    """An error in one line: its type, its message, and the innermost line of the folder's code in its traceback."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).parent == folder]
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    lines = str(error).strip().splitlines() or ["no words"]
    message = lines[0] if len(lines) == 1 else f"{lines[0]} ... {lines[-1]}"
    return f"{type(error).__name__}: {message[:300]}{where}"
