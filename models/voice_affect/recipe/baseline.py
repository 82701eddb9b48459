"""The baseline that the network must beat, statistics and an SVM: `python -m models.voice_affect.recipe.baseline`.

The same speakers left out, the same features, the same distorted copies: means, deviations, percentiles and slopes over
the full utterance, and an RBF SVM of scikit-learn (its p are not calibrated). Writes recipe/folds_svm.csv, which
`evaluate` compares with folds.csv. `gate` trains another SVM for short, noisy or clipped speech, on full utterances
and random stretches of them: it is the stronger one there, the SVM of full utterances alone on clean full ones.
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
from models.voice_affect.recipe.fitting import FeatureVersions, feature_versions
from models.voice_affect.recipe.folds import write_folds
from models.voice_affect.train import RECIPE

VERSIONS = 4
_CEPSTRA = 20
_FEWEST_VOICED = 5


def statistics(features: NDArray[np.floating]) -> NDArray[np.float64]:
    """Compute the statistics (191,) of an utterance's features (frames, 67)."""
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


def utterance_statistics(pool: FeatureVersions) -> NDArray[np.float64]:
    """Compute the statistics (n, VERSIONS, 191) of the first versions of n utterances' features."""
    return np.array([[statistics(one) for one in versions[:VERSIONS]] for versions in pool])


def stretch(features: NDArray[np.floating], rng: np.random.Generator) -> NDArray[np.floating]:
    """Cut a random 0.7 to 3 s out of features (frames, 67), as in training the networks; shorter ones stay complete."""
    frames = int(rng.integers(RECIPE.shortest, PIECE_FRAMES, endpoint=True))
    start = int(rng.integers(0, max(len(features) - frames, 0), endpoint=True))
    return features[start : start + frames]


def stretch_statistics(pool: FeatureVersions) -> NDArray[np.float64]:
    """As `utterance_statistics`, of one random stretch of each version."""
    rng = np.random.default_rng(0)
    return np.array([[statistics(stretch(one, rng)) for one in versions[:VERSIONS]] for versions in pool])


def fit_svm(x: NDArray[np.float64], targets: NDArray[np.int64]) -> Any:
    """Fit scikit-learn's SVM to statistics (n, versions, 191), every version an example, and classes (n,).

    Its `decision_function` maps statistics (m, 191) to scores (m, classes).
    """
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    pipeline = make_pipeline(StandardScaler(), SVC(C=1.0, class_weight="balanced", random_state=0))
    return pipeline.fit(x.reshape(-1, x.shape[2]), np.repeat(targets, x.shape[1]))


def out_of_fold(x: NDArray[np.float64], targets: NDArray[np.int64], folds: NDArray[np.str_]) -> NDArray[np.float64]:
    """Score the first version of each item by an SVM fitted without its fold: (n, classes).

    Args:
        x: statistics (n, versions, 191).
        targets: classes (n,).
        folds: the fold that each item is judged in (n,); "": in none, always trained on. Its scores are NaN.
    """
    scores = np.full((len(x), len(np.unique(targets))), np.nan)
    for fold in track(np.unique(folds[folds != ""]), "machines"):
        rest, out = folds != fold, folds == fold
        scores[out] = fit_svm(x[rest], targets[rest]).decision_function(x[out, 0])
    return scores


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m models.voice_affect.recipe.baseline", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("build/voice_affect"))
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    chosen = parser.parse_args(arguments)
    chosen.work.mkdir(parents=True, exist_ok=True)
    utterances = emodb(chosen.data)
    targets = labels(utterances)
    x = utterance_statistics(feature_versions(utterances, chosen.work, RECIPE.copies))
    scores = out_of_fold(x, targets, np.array([u.speaker for u in utterances]))
    write_folds(chosen.out / "folds_svm.csv", utterances, LABELS, {0: scores})
    print(f"statistics + SVM, speakers left out: UAR {unweighted_recall(targets, scores.argmax(axis=1)):.3f}")


if __name__ == "__main__":
    main()
