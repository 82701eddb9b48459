"""A model's folder in; what it states, beside what its evaluation finds now, out.

A room is a folder of the package `models` that states figures. Its `evaluate` module has `figures(data)`, and may have
`speed()` and `retrain_one(data, work)`: see models/figures.py. A room that fails doesn't stop the others.
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
_OURS = ("models", "benchmarks", "kernels", "operators", "streamer")
BROKE = "broke"

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure: as stated, as found, what is wrong with that, or why it was not looked for; nothing: reproduced."""

    stated: Figure | None
    found: Figure | None
    problem: str = ""
    skipped: str = ""

    @property
    def figure(self) -> Figure:
        """The figure as stated; as found, where it is not."""
        figure = self.stated or self.found
        assert figure  # noqa: S101 - a comparison is of at least one
        return figure


@dataclass(frozen=True, slots=True)
class Room:
    """What one model's evaluation gave: each figure, what broke, which parts were left out and why, and how long."""

    name: str
    comparisons: tuple[Comparison, ...] = ()
    broken: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def problems(self) -> list[str]:
        """Why this room's card can't be believed, or ships what it shouldn't; empty where all is well."""
        wrong = [f"{c.figure.name}: {c.problem}" for c in self.comparisons if c.problem]
        unexplained = [
            f"{f.name}: {figures.number(f.value)} misses its must of {figures.number(f.must)}, and no reason is given"
            for c in self.comparisons
            if (f := c.stated) and f.must is not None and f.verdict == "missed" and not f.missed
        ]
        return [*self.broken, *wrong, *unexplained]


def find_rooms(package: str) -> dict[str, Path]:
    """A package's name to its model folders, by name: those that state figures, and those that should."""
    root = Path(str(importlib.import_module(package).__file__)).parent
    holding = {
        path.parent for file in (figures.FIGURES, "model.json", "evaluate.py") for path in root.glob(f"*/{file}")
    }
    return {folder.name: folder for folder in sorted(holding)}


def examine(
    folder: Path, package: str, data: Path, *, with_speed: bool, with_retraining: bool, tell: Tell = lambda what: None
) -> Room:
    """A room's folder to what it states beside what is found now; progress is told part by part."""
    begun = time.perf_counter()
    try:
        stated = figures.read(folder)
    except FileNotFoundError:
        return Room(folder.name, broken=(f"has no {figures.FIGURES}: `evaluate --write` makes it",))
    except msgspec.DecodeError as error:
        return Room(folder.name, broken=(f"{figures.FIGURES} is not a list of figures: {error}",))
    try:
        module = importlib.import_module(f"{package}.{folder.name}.evaluate")
    except Exception as error:  # noqa: BLE001 - whatever is wrong with this room, the others are examined
        return Room(folder.name, broken=(f"evaluate can't be imported: {_told(error, folder)}",))
    found: list[Figure] = []
    broken = [f"{name} is stated {n} times" for name, n in _repeated(stated)]
    left_out: dict[Part, str] = {}
    for part, wanted, run in _parts(module, data, with_speed, with_retraining):
        if not wanted:
            left_out[part] = "not asked for"
            continue
        tell(f"{folder.name}: {part}")
        try:
            with redirect_stdout(sys.stderr):
                found += run()
        except Exception as error:  # noqa: BLE001 - the same
            left_out[part] = _needs(error) if part == "retraining" else ""
            if not left_out[part]:
                left_out[part] = BROKE
                broken.append(f"{part}: {_told(error, folder)}")
    broken += [f"{name} is found {n} times" for name, n in _repeated(found)]
    skipped = tuple(f"{part}: {why}" for part, why in left_out.items() if why != BROKE)
    comparisons = tuple(_compare(stated, found, left_out))
    return Room(folder.name, comparisons, tuple(broken), skipped, time.perf_counter() - begun)


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


def _compare(stated: Sequence[Figure], found: Sequence[Figure], left_out: dict[Part, str]) -> list[Comparison]:
    """Every figure that is stated, in its order, and then those that are found only."""
    by_name = {figure.name: figure for figure in found}
    compared = []
    for figure in stated:
        again = by_name.get(figure.name)
        if again:
            compared.append(Comparison(figure, again, problem=_difference(figure, again)))
        elif why := left_out.get(part_of(figure)) or speed.absent(figure.name):
            compared.append(Comparison(figure, None, skipped=why))
        else:
            compared.append(Comparison(figure, None, problem="stated, but evaluate doesn't find it"))
    told = {figure.name for figure in stated}
    compared += [
        Comparison(None, figure, problem="found, but the card doesn't state it")
        for figure in found
        if figure.name not in told
    ]
    return compared


def part_of(figure: Figure) -> Part:
    """The part of an evaluation that finds a figure, by how its name begins (models/figures.py)."""
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
        ours, theirs = getattr(stated, bound), getattr(found, bound)
        if (ours is None) != (theirs is None) or (ours is not None and abs(ours - theirs) > stated.tolerance):
            return f"its {bound} is stated as {ours}, evaluate has {theirs}"
    return ""


def _needs(error: Exception) -> str:
    """What has to be installed first, where an error says that something is not; else nothing."""
    lacks = (error.name or "") if isinstance(error, ModuleNotFoundError) else ""
    return f"needs {lacks}: pip install -e '.[train]'" if lacks and lacks.partition(".")[0] not in _OURS else ""


def _repeated(listed: Sequence[Figure]) -> list[tuple[str, int]]:
    return [(name, n) for name, n in Counter(figure.name for figure in listed).items() if n > 1]


def _told(error: Exception, folder: Path) -> str:
    """An error in a line: its kind, its words, and the last line of the room's own code that it passed."""
    own = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).parent == folder]
    where = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    words = str(error).strip().splitlines() or ["no words"]
    told = words[0] if len(words) == 1 else f"{words[0]} ... {words[-1]}"
    return f"{type(error).__name__}: {told[:300]}{where}"
