"""`python -m models.voice_affect.recipe.baseline --data DIR`: statistics and an SVM, what the network must beat.

The same speakers left out, the same features, the same distorted copies: means, deviations, percentiles and slopes over
the whole utterance, and an RBF SVM of scikit-learn (its p are not calibrated). Writes folds_svm.csv beside folds.csv;
`evaluate` compares the two. Short, noisy or clipped speech has a rival of its own (`gate`): there a machine that heard
random stretches too is the stronger one, on clean whole utterances the one that heard whole ones alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from kernels.scores import unweighted_recall
from kernels.voice.log_mel import BANDS
from kernels.voice.speech import PIECE_FRAMES
from models.voice_affect.recipe.corpus import LABELS, emodb, labels
from models.voice_affect.recipe.fitting import Pictures, pictures
from models.voice_affect.recipe.folds import write_folds
from models.voice_affect.train import RECIPE

FOLDER = Path(__file__).resolve().parents[1]
VERSIONS = 4
_CEPSTRA = 20
_FEWEST_VOICED = 5


def statistics(features: NDArray[np.floating]) -> NDArray[np.float64]:
    """Features (frames, 67) of an utterance to its statistics (191,)."""
    f = features.astype(np.float64)
    mel, voiced = f[:, :BANDS], f[:, BANDS + 2] > 0
    change = np.abs(mel[3:] - mel[:-3]).mean(axis=0)
    waves = np.cos(np.pi / BANDS * (np.arange(BANDS) + 0.5) * np.arange(_CEPSTRA)[:, None])
    cepstra = mel @ waves.T
    level = np.log(np.exp(5.0 * mel).mean(axis=1) + 1e-4)
    octaves, melody = f[voiced, BANDS + 1], np.zeros(7)
    if len(octaves) > _FEWEST_VOICED:
        melody[:5] = np.percentile(octaves, [5, 25, 50, 75, 95])
        melody[5:] = octaves.std(), np.abs(np.diff(octaves)).mean()
    spread = [mel.mean(axis=0)[::2], mel.std(axis=0)[::2], change[::2], cepstra.std(axis=0)]
    moving = [np.abs(cepstra[4:] - cepstra[:-4]).mean(axis=0), np.percentile(cepstra, [10, 90], axis=0).ravel()]
    loud = [np.percentile(level, [5, 25, 50, 75, 95]), [np.abs(np.diff(level)).mean()]]
    return np.concatenate([*spread, *moving, melody, [f[:, BANDS].mean(), voiced.mean()], *loud])


def whole(pool: Pictures) -> NDArray[np.float64]:
    """The features of n utterances, each in several versions, to the statistics (n, VERSIONS, 191) of the first few."""
    return np.array([[statistics(one) for one in versions[:VERSIONS]] for versions in pool])


def stretch(features: NDArray[np.floating], rng: np.random.Generator) -> NDArray[np.floating]:
    """A random 0.7 to 3 s of features (frames, 67), as long as the networks are trained on; shorter ones whole."""
    frames = int(rng.integers(RECIPE.shortest, PIECE_FRAMES, endpoint=True))
    start = int(rng.integers(0, max(len(features) - frames, 0), endpoint=True))
    return features[start : start + frames]


def stretches(pool: Pictures) -> NDArray[np.float64]:
    """As `whole`, of one random stretch of each version."""
    rng = np.random.default_rng(0)
    return np.array([[statistics(stretch(one, rng)) for one in versions[:VERSIONS]] for versions in pool])


def machine(x: NDArray[np.float64], targets: NDArray[np.int64]) -> Any:
    """Statistics (n, versions, 191) and classes (n,) to the machine of scikit-learn that heard every version of them.

    `decision_function` of it: statistics (m, 191) to scores (m, classes).
    """
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    untaught = make_pipeline(StandardScaler(), SVC(C=1.0, class_weight="balanced", random_state=0))
    return untaught.fit(x.reshape(-1, x.shape[2]), np.repeat(targets, x.shape[1]))


def left_out(x: NDArray[np.float64], targets: NDArray[np.int64], folds: NDArray[np.str_]) -> NDArray[np.float64]:
    """Statistics (n, versions, 191), classes and the fold that each is judged in ("": none) to scores (n, classes).

    By machines that never saw the fold; the first version of each is judged. NaN where nothing was.
    """
    scores = np.full((len(x), len(np.unique(targets))), np.nan)
    for fold in track(np.unique(folds[folds != ""]), "machines"):
        kept, out = folds != fold, folds == fold
        scores[out] = machine(x[kept], targets[kept]).decision_function(x[out, 0])
    return scores


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the baseline."""
    parser = argparse.ArgumentParser(prog="python -m models.voice_affect.recipe.baseline", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("build/voice_affect"))
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    chosen = parser.parse_args(arguments)
    chosen.work.mkdir(parents=True, exist_ok=True)
    utterances = emodb(chosen.data)
    targets = labels(utterances)
    x = whole(pictures(utterances, chosen.work, RECIPE.copies))
    scores = left_out(x, targets, np.array([u.speaker for u in utterances]))
    write_folds(chosen.out / "folds_svm.csv", utterances, LABELS, {0: scores})
    print(f"statistics + SVM, speakers left out: UAR {unweighted_recall(targets, scores.argmax(axis=1)):.3f}")


if __name__ == "__main__":
    main()
