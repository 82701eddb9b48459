"""The baseline that the network must beat, statistics and an SVM: `python -m models.voice_affect_nc.recipe.baseline`.

The same folds of actors, recordings and distorted copies, EmoDB always in training; as in `voice_affect`. Writes
folds_svm.csv beside folds.csv; `evaluate` compares the two.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kernels.scores import unweighted_recall
from kernels.voice.audio_files import speech_only
from models.voice_affect.recipe.baseline import out_of_fold, utterance_statistics
from models.voice_affect.recipe.corpus import labels
from models.voice_affect.recipe.fitting import feature_versions
from models.voice_affect.recipe.folds import write_folds
from models.voice_affect_nc.recipe.corpus import CLASSES, FOLDER, emodb, folds_of, ravdess
from models.voice_affect_nc.train import RECIPE


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m models.voice_affect_nc.recipe.baseline", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("build/voice_affect_nc"))
    parser.add_argument("--out", type=Path, default=FOLDER)
    chosen = parser.parse_args(arguments)
    chosen.work.mkdir(parents=True, exist_ok=True)
    english, german = ravdess(chosen.data), emodb(chosen.data)
    utterances = [*english, *german]
    x = utterance_statistics(feature_versions(utterances, chosen.work, RECIPE.copies, speech_only))
    folds = np.array([f"fold-{k}" for k in folds_of(english)] + [""] * len(german))
    scores, targets = out_of_fold(x, labels(utterances), folds)[: len(english)], labels(english)
    write_folds(chosen.out / "folds_svm.csv", english, CLASSES, {0: scores})
    print(f"statistics + SVM, actors left out: UAR {unweighted_recall(targets, scores.argmax(axis=1)):.3f}")


if __name__ == "__main__":
    main()
