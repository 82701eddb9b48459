"""Evaluate the shipped head on EmoBank: R2 and Pearson's r. `python -m models.text_vad.evaluate --data DIR`.

Needs the run-time packages only. `--write` (with matplotlib) states the figures: figures.json, the card's table and
picture, and a line of `test_log.jsonl`. Without it nothing is stored.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from kernels.engines import MODELS, load
from models import evaluation, pictures, scores
from models.figures import Figure
from models.text_affect.recipe.encode import Encoder
from models.text_vad.emobank import DIMENSIONS, Sentences, read
from streamer.errors import ModelError

MODEL = "text_vad"
READS = "layers"
FLOORS = {"valence": ".312, r .565", "arousal": ".162, r .408", "dominance": ".079, r .292"}
_WORDS_TO_WAVES = ".427 (Words to Waves, valence and arousal, validation)"
PUBLISHED = {"valence": _WORDS_TO_WAVES, "arousal": _WORDS_TO_WAVES, "dominance": ""}
MUST_AND_AIM = {"valence": (0.45, 0.50), "arousal": (0.20, 0.25), "dominance": (0.12, 0.15)}
_TOLERANCE = 0.005

Floats = NDArray[np.float64]


def r_squared(truth: Floats, guess: Floats) -> Floats:
    """Return 1 - residual / total sum of squares for each column of ratings and estimates (n x k, or n)."""
    residual = ((truth - guess) ** 2).sum(axis=0)
    return np.asarray(1.0 - residual / ((truth - truth.mean(axis=0)) ** 2).sum(axis=0), dtype=np.float64)


def pearson(truth: Floats, guess: Floats) -> Floats:
    """Return Pearson's r for each column of ratings and estimates (n x k)."""
    a, b = truth - truth.mean(axis=0), guess - guess.mean(axis=0)
    return np.asarray((a * b).sum(axis=0) / np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0)), dtype=np.float64)


def estimates(data: Path, sentences: Sentences, models: Path = MODELS) -> Floats:
    """Estimate valence, arousal and dominance of n sentences as the pipeline does; (n x 3) in [-1, 1].

    Raises:
        ModelError: a sentence is in the train split, which the head was fitted on.
    """
    trained = set(read(data, "train").ids).intersection(sentences.ids)
    if trained:
        raise ModelError(f"models/{MODEL} was trained on {len(trained)} of these sentences, {min(trained)} among them")
    features = Encoder(models=models).outputs(sentences.texts)[READS]
    return np.clip(np.asarray(load(MODEL, models=models).infer({READS: features})["vad"], np.float64), -1.0, 1.0)


def figures(data: Path) -> list[Figure]:
    """Measure every figure of the card: R2 and r on test, and R2 on dev, which chose the penalties."""
    trained = set(read(data, "train").texts)
    test, dev = read(data, "test"), read(data, "dev")
    new = np.array([text not in trained for text in test.texts])
    guess, on_dev = estimates(data, test), estimates(data, dev)
    found = []
    for at, name in enumerate(DIMENSIONS):
        found += _of_test(name, test.vad[:, at], guess[:, at], new)
    return found + [
        _figure(
            f"r2_{name}_dev", f"R2 of {name}, EmoBank dev", r_squared(dev.vad, on_dev)[at], len(dev.ids), choice=True
        )
        for at, name in enumerate(DIMENSIONS)
    ]


def _of_test(name: str, rated: Floats, guess: Floats, new: NDArray[np.bool_]) -> list[Figure]:
    """Measure one dimension from ratings and estimates (n,); `new` marks texts that the train split lacks (n,)."""
    between = scores.interval(lambda rows: float(r_squared(rated[rows], guess[rows])), len(rated))
    must, aim = MUST_AND_AIM[name]
    r2 = _figure(f"r2_{name}", f"R2 of {name}, EmoBank test", r_squared(rated, guess), len(rated))
    bounds = {"interval": between, "must": must, "aim": aim, "floor": FLOORS[name], "published": PUBLISHED[name]}
    return [
        msgspec.structs.replace(r2, **bounds),
        _figure(f"r_{name}", f"Pearson's r of {name}, the same", pearson(rated, guess), len(rated)),
        _figure(
            f"r2_{name}_new",
            f"R2 of {name} without copies of training texts",
            r_squared(rated[new], guess[new]),
            int(new.sum()),
        ),
    ]


def _figure(name: str, what: str, value: Floats, n: int, *, choice: bool = False) -> Figure:
    return Figure(name=name, what=what, value=float(value), tolerance=_TOLERANCE, n=n, choice=choice)


def main() -> None:
    """Run the command line."""
    given = evaluation.parser(MODEL, __doc__, "folder that holds emobank/").parse_args()

    def draw(folder: Path) -> None:
        test = read(given.data, "test")
        pictures.draw_rated(folder, estimates(given.data, test), test.vad, DIMENSIONS)

    evaluation.report(MODELS / MODEL, figures(given.data), draw, write=given.write)


if __name__ == "__main__":
    main()
