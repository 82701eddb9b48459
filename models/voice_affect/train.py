"""Train the shipped ONNX on EmoDB, with model.json and folds.csv: `python -m models.voice_affect.train --data DIR`.

For each of three seeds, one network for each left-out speaker gives the figure of the recipe and the out-of-fold
predictions in `folds.csv`, on which the temperature is fitted. The shipped ONNX is the mean of three networks, one for
each seed, trained on every speaker but the demo's. Every finished network is stored in `--work`, so an interrupted run
resumes. CPU; about half an hour on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.calibration import fit_temperature
from kernels.emotions import SEVEN
from kernels.scores import unweighted_recall
from kernels.vad import word_likelihoods
from models.voice_affect.recipe.corpus import DEMO_SPEAKER, LABELS, Utterance, emodb, labels
from models.voice_affect.recipe.fitting import (
    FeatureVersions,
    Recipe,
    describe,
    evenly,
    export,
    feature_versions,
    fit,
    out_of_fold,
)
from models.voice_affect.recipe.folds import mean_logits, write_folds

FOLDER = Path(__file__).resolve().parent
SEEDS = (0, 1, 2)
RECIPE = Recipe(classes=LABELS, steps=600, copies=10, clean=0.2, mixing=0.0, width=64, dilations=(2, 3), dropout=0.3)


def leave_speakers_out(
    recipe: Recipe,
    utterances: Sequence[Utterance],
    pool: FeatureVersions,
    seed: int,
    work: Path,
    only: str | None = None,
) -> NDArray[np.float64]:
    """Return the logits (n, 4) of EmoDB's utterances by networks trained without their speaker."""
    targets = labels(utterances)
    speakers = [u.speaker for u in utterances]
    return out_of_fold(recipe, utterances, speakers, pool, lambda rows: evenly(targets[rows]), seed, work, only)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m models.voice_affect.train", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the data folder, with emodb/ in it")
    parser.add_argument("--work", type=Path, default=Path("build/voice_affect"), help="features and finished networks")
    parser.add_argument("--out", type=Path, default=FOLDER, help="where the model is written")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--steps", type=int, default=RECIPE.steps)
    chosen = parser.parse_args(arguments)
    for folder in (chosen.work, chosen.out):
        folder.mkdir(parents=True, exist_ok=True)
    recipe = replace(RECIPE, steps=chosen.steps)
    utterances = emodb(chosen.data)
    pool = feature_versions(utterances, chosen.work, recipe.copies)
    targets = labels(utterances)
    rows = [i for i, u in enumerate(utterances) if u.speaker != DEMO_SPEAKER]
    examples, wanted = [pool[i] for i in rows], targets[rows]
    members = [
        fit(recipe, examples, wanted, evenly(wanted), s, chosen.work / f"shipped-seed-{s}.pt") for s in chosen.seeds
    ]
    export(members, chosen.out / "model.onnx")
    seeds = {s: leave_speakers_out(recipe, utterances, pool, s, chosen.work) for s in chosen.seeds}
    for seed, logits in seeds.items():
        print(f"seed {seed}, speakers left out: UAR {unweighted_recall(targets, logits.argmax(1)):.3f}")
    write_folds(chosen.out / "folds.csv", utterances, LABELS, seeds)
    fields: dict[str, Any] = {"name": "voice_affect", "version": "3", "labels": SEVEN, "licence": "free"}
    fields["prior"] = {name: round(1 / len(SEVEN), 6) for name in SEVEN}
    fields["classes"] = {
        word: {name: round(p, 4) for name, p in row.items()} for word, row in word_likelihoods(LABELS, SEVEN).items()
    }
    temperature = fit_temperature(mean_logits(seeds), targets.astype(float))
    describe(chosen.out / "model.onnx", recipe, temperature, len(members), fields)


if __name__ == "__main__":
    main()
