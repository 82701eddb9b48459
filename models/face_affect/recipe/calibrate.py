"""Fit the temperature and the quality gate's lines on half B, which is used for nothing else.

`python -m models.face_affect.recipe.calibrate --data DIR` fits both again and prints them, with the run-time packages
only. The temperature is in `model.json`; the lines, for every face model, are in `kernels.face.crop.FAULTS`.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels import backend_openvino
from kernels.calibration import fit_temperature, softmax
from kernels.engines import MODELS
from kernels.face.crop import FAULTS, Fault, quality, trust
from models.face_affect.recipe import spoil
from models.face_affect.recipe.augment import as_on_video
from models.face_affect.recipe.split import Faces, load

Run = Callable[[Mapping[str, NDArray[Any]]], Mapping[str, NDArray[Any]]]
Floats = NDArray[np.float64]
_BATCH = 64
_LEFT = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_ROUNDS = 2
_GAIN = 1e-5
_LEAST = 1e-6


@dataclass(frozen=True, slots=True)
class Spoiled:
    """n pictures with one fault each: its name (n,), probabilities (n, 7), truth (n,), and measures of quality (n,)."""

    fault: NDArray[np.str_]
    p: Floats
    truth: NDArray[np.int64]
    quality: Mapping[str, Floats]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the most probable class is the true one."""
        return np.asarray(self.p.argmax(1) == self.truth)

    def confidence(self, faults: Mapping[str, Fault]) -> Floats:
        """Compute the confidence (n,) as `sense_face` does, with these lines."""
        chance = 1 / self.p.shape[1]
        trusted = [trust({k: float(v[n]) for k, v in self.quality.items()}, faults) for n in range(len(self.p))]
        return np.asarray(chance + np.array(trusted) * (self.p.max(1) - chance))


def outputs(run: Run, faces: NDArray[np.generic]) -> dict[str, NDArray[np.float32]]:
    """Run the network on pictures (n x 48 x 48, 0..255): `logits` (n x 7) and `embedding` (n x 256)."""
    parts = [run({"faces": faces[at : at + _BATCH, None].astype(np.float32)}) for at in range(0, len(faces), _BATCH)]
    return {name: np.concatenate([part[name] for part in parts]) for name in ("logits", "embedding")}


def on_video(images: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """Simulate pictures (n x 48 x 48) as on video, by `as_on_video`; depends on the seed alone."""
    rng = np.random.default_rng(seed)
    return np.stack([as_on_video(image, rng) for image in images])


def labelled(faces: Faces, part: str) -> NDArray[np.int64]:
    """List the rows of a part that have a most voted class among the seven and, in a test set, no copy in Training."""
    rows = faces.where(part)
    return rows[(faces.plurality[rows] >= 0) & ~faces.copied[rows]]


def fitted_temperature(run: Run, faces: Faces) -> float:
    """Fit the temperature on half B, each picture twice: as in the data set, and as on video."""
    rows = labelled(faces, "held_b")
    pictures = np.concatenate([faces.images[rows], on_video(faces.images[rows], seed=0)])
    return fit_temperature(outputs(run, pictures)["logits"], np.tile(faces.plurality[rows], 2))


def write_temperature(faces: Faces, folder: Path) -> None:
    """Fit the temperature on half B for the `model.onnx` in a folder and write it to the `model.json` there."""
    path = folder / "model.json"
    spec = json.loads(path.read_text(encoding="utf-8"))
    run = backend_openvino.compile(folder / "model.onnx", 1)
    spec["temperature"] = round(fitted_temperature(run, faces), 4)
    path.write_text(json.dumps(spec, indent=2) + "\n", encoding="utf-8")
    print(f"{path}: temperature {spec['temperature']}")


def spoiled(run: Run, temperature: float, faces: Faces, rows: NDArray[np.int64], *, every: bool, seed: int) -> Spoiled:
    """Spoil pictures at uniformly drawn levels and run the network on them.

    Args:
        run: the network.
        temperature: of its logits.
        faces: the data set.
        rows: which pictures.
        every: spoil each picture with each fault; else each with one fault, in turn.
        seed: of the levels and the noise.
    """
    rng = np.random.default_rng(seed)
    drawn = [(row, fault) for row in rows for fault in spoil.KINDS]
    if not every:
        drawn = [(row, spoil.KINDS[n % len(spoil.KINDS)]) for n, row in enumerate(rows)]
    crops = [spoil.spoil(faces.images[row], fault, rng.random(), rng) for row, fault in drawn]
    measures = [quality(face, square) for face, square in crops]
    return Spoiled(
        fault=np.array([fault for _, fault in drawn]),
        p=softmax(outputs(run, np.stack([face for face, _ in crops]))["logits"], temperature),
        truth=faces.plurality[np.array([row for row, _ in drawn])],
        quality={name: np.array([one[name] for one in measures]) for name in measures[0]},
    )


def fitted_faults(spoiled: Spoiled) -> dict[str, Fault]:
    """Fit the lines with the least NLL of (confidence, right) by coordinate descent over faults, two rounds.

    A line's ends are quantiles of the measure, so it can't depend on a handful of pictures.
    """
    chance, top, right = 1 / spoiled.p.shape[1], spoiled.p.max(1), spoiled.right
    factors = {name: np.ones(len(top)) for name in FAULTS}
    lines: dict[str, Fault] = {}

    def loss(trusted: Floats) -> float:
        sure = (chance + trusted * (top - chance)).clip(_LEAST, 1 - _LEAST)
        return float(-np.log(np.where(right, sure, 1 - sure)).mean())

    for _ in range(_ROUNDS):
        for name in FAULTS:
            others = np.prod([factors[other] for other in FAULTS if other != name], axis=0)
            values, small_is_bad = spoiled.quality[name], name == "size"
            shares = np.linspace(0, 0.5, 21) if small_is_bad else np.linspace(0.4, 1, 25)
            ends = np.unique(np.quantile(values, shares).round(3))
            best, least = None, loss(others) - _GAIN
            for low, high in itertools.combinations(ends.tolist(), 2):
                for left in _LEFT:
                    line = Fault(high, low, left) if small_is_bad else Fault(low, high, left)
                    found = loss(others * line.factors(values))
                    if found < least:
                        best, least = line, found
            if best is not None:
                lines[name], factors[name] = best, best.factors(values)
    return lines


def main() -> None:
    """Print the fitted temperature and lines beside those in use."""
    options = argparse.ArgumentParser(prog="python -m models.face_affect.recipe.calibrate", description=__doc__)
    options.add_argument("--data", type=Path, required=True, help="the folder that holds fer2013/")
    given = options.parse_args()
    folder = MODELS / "face_affect"
    faces, run = load(given.data), backend_openvino.compile(folder / "model.onnx", 1)
    temperature = fitted_temperature(run, faces)
    stated = json.loads((folder / "model.json").read_text(encoding="utf-8"))["temperature"]
    print(f"temperature {temperature:.4f}, in force {stated}")
    pictures = spoiled(run, temperature, faces, labelled(faces, "held_b"), every=True, seed=0)
    for name, line in fitted_faults(pictures).items():
        print(f"{name}: {line}, in force {FAULTS[name]}")


if __name__ == "__main__":
    main()
