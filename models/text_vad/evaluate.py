"""The shipped head and EmoBank in, R2 and Pearson r out. `python -m models.text_vad.evaluate --data DIR`.

Needs the run-time packages only. Each look at the test split is appended to `test_log.jsonl`; `--part dev` leaves no
trace.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kernels.engines import MODELS, load
from models.text_affect.encode import Encoder
from models.text_affect.test_log import append_look
from models.text_vad.emobank import DIMENSIONS, Part, read

MODEL = "text_vad"
READS = "layers"
FLOORS = {"r2_valence": 0.312, "r2_arousal": 0.162, "r2_dominance": 0.079}
_DRAWS = 1000

Floats = NDArray[np.float64]


def r_squared(truth: Floats, guess: Floats) -> Floats:
    """Ratings and predictions (n x k) in, 1 - residual / total sum of squares of each column (k) out."""
    residual = ((truth - guess) ** 2).sum(axis=0)
    return np.asarray(1.0 - residual / ((truth - truth.mean(axis=0)) ** 2).sum(axis=0), dtype=np.float64)


def pearson(truth: Floats, guess: Floats) -> Floats:
    """Ratings and predictions (n x k) in, Pearson's r of each column (k) out."""
    a, b = truth - truth.mean(axis=0), guess - guess.mean(axis=0)
    return np.asarray((a * b).sum(axis=0) / np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0)), dtype=np.float64)


def evaluate(data: Path, part: Part, models: Path = MODELS) -> dict[str, float]:
    """Data folder and split in, R2 with its 95 % bootstrap interval over sentences, and Pearson's r, out."""
    sentences = read(data, part)
    features = Encoder(models=models).outputs(sentences.texts)[READS]
    guess = np.clip(np.asarray(load(MODEL, models=models).infer({READS: features})["vad"], np.float64), -1.0, 1.0)
    random, n = np.random.default_rng(0), len(sentences.texts)
    rows = [random.integers(0, n, n) for _ in range(_DRAWS)]
    low, high = np.quantile([r_squared(sentences.vad[row], guess[row]) for row in rows], [0.025, 0.975], axis=0)
    r2, r = r_squared(sentences.vad, guess), pearson(sentences.vad, guess)
    figures = {"n": float(n)}
    for at, name in enumerate(DIMENSIONS):
        figures |= {f"r2_{name}": r2[at], f"r2_{name}_low": low[at], f"r2_{name}_high": high[at], f"r_{name}": r[at]}
    return {name: float(value) for name, value in figures.items()}


def main() -> None:
    """Command line in, a table of figures out."""
    parser = argparse.ArgumentParser(prog="python -m models.text_vad.evaluate", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds emobank/")
    parser.add_argument("--part", choices=("dev", "test"), default="test")
    parser.add_argument("--models", type=Path, default=MODELS, help="folder of the model folders")
    given = parser.parse_args()
    figures = evaluate(given.data, given.part, given.models)
    if given.part == "test":
        append_look(given.models / MODEL, figures)
    for name, value in figures.items():
        print(f"{name:20} {value:.4f}" + (f"  (floor {FLOORS[name]})" if name in FLOORS else ""))


if __name__ == "__main__":
    main()
