"""The shipped head and EmoBank in, R2 and Pearson r out. `python -m models.text_vad.evaluate --data DIR`.

Needs the run-time packages only. `--write` (with matplotlib) states what it finds: figures.json, the card's table and
picture, and a line of `test_log.jsonl` for the look at the test split; without it no trace is left.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from kernels.engines import MODELS, load
from models import figures as cards
from models import pictures, scores
from models.figures import Figure
from models.test_log import append_look
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
    """Ratings and predictions (n x k, or n) in, 1 - residual / total sum of squares of each column (k, or one) out."""
    residual = ((truth - guess) ** 2).sum(axis=0)
    return np.asarray(1.0 - residual / ((truth - truth.mean(axis=0)) ** 2).sum(axis=0), dtype=np.float64)


def pearson(truth: Floats, guess: Floats) -> Floats:
    """Ratings and predictions (n x k) in, Pearson's r of each column (k) out."""
    a, b = truth - truth.mean(axis=0), guess - guess.mean(axis=0)
    return np.asarray((a * b).sum(axis=0) / np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0)), dtype=np.float64)


def guesses(data: Path, sentences: Sentences, models: Path = MODELS) -> Floats:
    """Sentences (n) in, valence, arousal and dominance (n x 3) in [-1, 1] out, as the pipeline would find them.

    Raises:
        ModelError: one of them is of the train split, which the head was fitted on.
    """
    heard = set(read(data, "train").ids).intersection(sentences.ids)
    if heard:
        raise ModelError(f"models/{MODEL} was trained on {len(heard)} of these sentences, {min(heard)} among them")
    features = Encoder(models=models).outputs(sentences.texts)[READS]
    return np.clip(np.asarray(load(MODEL, models=models).infer({READS: features})["vad"], np.float64), -1.0, 1.0)


def figures(data: Path) -> list[Figure]:
    """Data folder in, every figure of the card out: R2 and r of test, and R2 of dev, which chose the penalties."""
    known = set(read(data, "train").texts)
    test, dev = read(data, "test"), read(data, "dev")
    new = np.array([text not in known for text in test.texts])
    guess, on_dev = guesses(data, test), guesses(data, dev)
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
    """A dimension's ratings and estimates (n,), and which texts are no copies of trained ones (n,), to its figures."""
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
    """Command line in, the card's table of figures out."""
    parser = argparse.ArgumentParser(prog="python -m models.text_vad.evaluate", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds emobank/")
    parser.add_argument("--write", action="store_true", help="state the figures: figures.json, card, picture, test log")
    given = parser.parse_args()
    found = figures(given.data)
    if given.write:
        folder, test = MODELS / MODEL, read(given.data, "test")
        pictures.draw_rated(folder, guesses(given.data, test), test.vad, DIMENSIONS)
        cards.write(folder, found)
        cards.fill_card(folder)
        append_look(folder, {figure.name: figure.value for figure in found if not figure.choice})
    print(cards.table(found))


if __name__ == "__main__":
    main()
