"""Train on RAVDESS and EmoDB: folds.csv and weights. `python -m models.voice_affect_nc.train --data DIR --out DIR`.

For each of three seeds, one network for each of the five actor folds, trained on the other actors and EmoDB, gives the
figure of the recipe; those networks are not published. The weights written to `--out` are the mean of three networks,
one for each seed, trained on RAVDESS actors 1-16 and EmoDB. Every finished network is stored in `--work`, so an
interrupted run resumes. CPU; about an hour on one core.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.calibration import fit_temperature
from kernels.scores import unweighted_recall
from kernels.voice.audio_files import speech_only
from models.voice_affect.recipe.corpus import Utterance, labels
from models.voice_affect.recipe.fitting import (
    FeatureVersions,
    Recipe,
    describe,
    export,
    feature_versions,
    fit,
    out_of_fold,
)
from models.voice_affect.recipe.folds import mean_logits, write_folds
from models.voice_affect_nc.recipe.corpus import (
    CLASSES,
    FOLDER,
    LABELS,
    TRAINED_ON,
    emodb,
    folds_of,
    label_of_class,
    ravdess,
)

SEEDS = (0, 1, 2)
RECIPE = Recipe(classes=CLASSES, steps=1000, copies=6, clean=0.35, mixing=0.5, shortest=100)
EMODB_SHARE = 0.2
"""The share of draws from EmoDB, in the classes that it has."""


def share(utterances: Sequence[Utterance]) -> NDArray[np.float64]:
    """Return how often to draw each utterance: every class equally often, EmoDB in a class by `EMODB_SHARE`."""
    targets, german = labels(utterances), np.array([u.speaker.startswith("emodb") for u in utterances])
    found = np.zeros(len(utterances))
    for k in np.unique(targets):
        ours, theirs = (targets == k) & ~german, (targets == k) & german
        of_emodb = EMODB_SHARE if theirs.any() and ours.any() else float(theirs.any())
        found[ours], found[theirs] = (1 - of_emodb) / max(ours.sum(), 1), of_emodb / max(theirs.sum(), 1)
    return found


def leave_actors_out(
    recipe: Recipe,
    utterances: Sequence[Utterance],
    pool: FeatureVersions,
    seed: int,
    work: Path,
    only: str | None = None,
) -> NDArray[np.float64]:
    """Return logits (n, 8) of RAVDESS's, then EmoDB's utterances by networks trained without the actor.

    The logits of EmoDB's utterances, which are always trained on, are NaN.
    """
    english = [u for u in utterances if not u.speaker.startswith("emodb")]
    folds = [f"fold-{k}" for k in folds_of(english)] + [""] * (len(utterances) - len(english))
    return out_of_fold(
        recipe, utterances, folds, pool, lambda rows: share([utterances[i] for i in rows]), seed, work, only
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m models.voice_affect_nc.train", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the data folder, with ravdess/ and emodb/ in it")
    parser.add_argument("--work", type=Path, default=Path("build/voice_affect_nc"), help="features, finished networks")
    parser.add_argument("--out", type=Path, required=True, help="a folder for voice_affect_nc/, outside the repository")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--steps", type=int, default=RECIPE.steps)
    parser.add_argument("--only", choices=["folds", "weights"], help="only the folds, or only the weights")
    chosen = parser.parse_args(arguments)
    out = chosen.out / "voice_affect_nc"
    for folder in (chosen.work, out):
        folder.mkdir(parents=True, exist_ok=True)
    recipe = replace(RECIPE, steps=chosen.steps)
    english = ravdess(chosen.data)
    utterances = [*english, *emodb(chosen.data)]
    pool = feature_versions(utterances, chosen.work, recipe.copies, speech_only)
    targets, seeds = labels(english), {}
    if chosen.only != "weights":
        for seed in chosen.seeds:
            seeds[seed] = leave_actors_out(recipe, utterances, pool, seed, chosen.work)[: len(english)]
            print(f"seed {seed}, actors left out: UAR {unweighted_recall(targets, seeds[seed].argmax(1)):.3f}")
        write_folds(out / "folds.csv", english, CLASSES, seeds)
        trained_on = np.array([int(u.speaker) in TRAINED_ON for u in english])
        temperature = fit_temperature(mean_logits(seeds)[trained_on], targets[trained_on])
        (chosen.work / "temperature").write_text(f"{temperature:.4f}\n")
    if chosen.only != "folds":
        rows = [i for i, u in enumerate(utterances) if u.speaker.startswith("emodb") or int(u.speaker) in TRAINED_ON]
        examples, often = [pool[i] for i in rows], share([utterances[i] for i in rows])
        wanted = labels([utterances[i] for i in rows])
        members = [fit(recipe, examples, wanted, often, s, chosen.work / f"weights-seed-{s}.pt") for s in chosen.seeds]
        export(members, out / "model.onnx")
        fields: dict[str, Any] = {
            "name": "voice_affect_nc",
            "version": "1",
            "labels": LABELS,
            "licence": "non_commercial",
        }
        fields["prior"] = {label: sum(to == label for to in label_of_class().values()) / 8 for label in LABELS}
        fitted = chosen.work / "temperature"
        temperature = float(fitted.read_text()) if fitted.exists() else 1.0
        fields["classes"] = label_of_class()
        describe(out / "model.onnx", recipe, temperature, len(members), fields)
        for name in ("card.md", "LICENSE", "NOTICE"):
            shutil.copy(FOLDER / name, out / name)


if __name__ == "__main__":
    main()
