"""Evaluate the recipe on RAVDESS, from folds.csv. `python -m models.voice_affect_nc.evaluate --data DIR`.

Needs no torch. folds.csv holds the predictions of networks that are not published, each for the actors left out of its
training. With `--weights DIR`, weights that the recipe wrote are judged instead, on RAVDESS actors 17-20: their
training holds actors 1-16 and all of EmoDB.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kernels.engines import load
from kernels.model_input import emotions
from kernels.scores import unweighted_recall
from kernels.voice.audio_files import speech_only
from models import evaluation, pictures
from models import figures as cards
from models.figures import Figure
from models.scores import calibration_figures
from models.voice_affect.evaluate import (
    FEW,
    OF_FOLDS,
    OF_ONNX,
    logits_of,
    refuse_trained,
    retrained,
    seed_figures,
    svm_figures,
    uar_figures,
)
from models.voice_affect.evaluate import FOLDER as EMODB_FOLDER
from models.voice_affect.recipe.corpus import Utterance, labels
from models.voice_affect.recipe.folds import cross_fitted, mean_logits, read_folds, speakers_by_item
from models.voice_affect_nc.recipe.corpus import (
    CLASSES,
    DEVELOPMENT_ACTORS,
    FOLDER,
    FOLDS,
    LABELS,
    TRAINED_ON,
    emodb,
    folds_of,
    label_of_class,
    ravdess,
)

PUBLISHED = "LSTM with 47k parameters .623, CNN14 .766, wav2vec2 .818"


def out_of_fold(english: Sequence[Utterance]) -> NDArray[np.float64]:
    """Return p (n, 8) of RAVDESS's utterances by networks trained without the actor, calibrated on the other folds."""
    logits = mean_logits(read_folds(FOLDER / "folds.csv", english, CLASSES))
    return cross_fitted(logits, labels(english), folds_of(english).astype(str))


def figures(data: Path) -> list[Figure]:
    """Measure every figure of the card."""
    english = ravdess(data)
    truth, actors = labels(english), np.array([u.speaker for u in english])
    seeds = read_folds(FOLDER / "folds.csv", english, CLASSES)
    of, p = "RAVDESS, 8 classes, the five actor folds", out_of_fold(english)
    found = uar_figures(
        p, english, "uar", of, OF_FOLDS, must=0.57, aim=0.65, floor=".476 (statistics + SVM)", published=PUBLISHED
    )
    found += seed_figures(seeds, truth, actors, of)
    found += svm_figures(p, english, read_folds(FOLDER / "folds_svm.csv", english, CLASSES)[0])
    found += calibration_figures(p, truth, of=of, tolerance=OF_FOLDS, missed=FEW)
    of_label = np.array([LABELS.index(label) for label in label_of_class().values()])
    merged = np.stack([p[:, of_label == k].sum(axis=1) for k in range(len(LABELS))], axis=1)
    value = unweighted_recall(of_label[truth], merged.argmax(axis=1))
    what = "the same, calm counted as neutral: UAR of the seven emotions that an observation names"
    return [*found, Figure(name="uar_7", what=what, value=value, tolerance=OF_FOLDS, n=len(english))]


def retrain_one(data: Path, work: Path) -> list[Figure]:
    """Train the network without the last fold's actors again, seed 0, and measure how often it is right."""
    from models.voice_affect.recipe.fitting import feature_versions
    from models.voice_affect_nc.train import RECIPE, leave_actors_out

    english, fold = ravdess(data), len(FOLDS) - 1
    utterances = [*english, *emodb(data)]
    pool = feature_versions(utterances, work, RECIPE.copies, speech_only)
    logits = leave_actors_out(RECIPE, utterances, pool, 0, work, f"fold-{fold}")[: len(english)]
    rows, stored = folds_of(english) == fold, read_folds(FOLDER / "folds.csv", english, CLASSES)[0]
    return [retrained(logits, stored, labels(english), rows, f"without actors {FOLDS[fold]}", tolerance=0.08)]


def predict(english: Sequence[Utterance], folder: Path) -> NDArray[np.float64]:
    """Predict p (n, 7) of the emotions with the weights in `folder`/voice_affect_nc.

    Raises:
        TrainedItemError: these weights were trained on one of the utterances.
        ModelFolderError: the folder holds no such weights.
    """
    actors = speakers_by_item(FOLDER / "folds.csv")
    trained = {item for item, actor in actors.items() if int(actor) in TRAINED_ON}
    refuse_trained(english, trained | set(speakers_by_item(EMODB_FOLDER / "folds.csv")))
    engine = load("voice_affect_nc", threads=1, imported=folder)
    return emotions(engine.spec, logits_of(engine, english))[0]


def weights_figures(data: Path, folder: Path) -> list[Figure]:
    """Measure the weights in `folder`/voice_affect_nc on RAVDESS actors 17-20 (development)."""
    english = ravdess(data, [actor for actor in DEVELOPMENT_ACTORS if actor not in TRAINED_ON])
    named = np.array([LABELS.index(label) for label in label_of_class().values()])
    seven = [Utterance(u.path, u.item, u.speaker, u.group, int(named[u.label])) for u in english]
    p, of = predict(english, folder), "weights made by the recipe, RAVDESS actors 17-20, 7 emotions"
    return [
        *uar_figures(p, seven, "uar_weights", of, OF_ONNX, choice=True),
        *calibration_figures(p, labels(seven), of=of, tolerance=OF_ONNX, prefix="weights_", missed=FEW),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = evaluation.parser("voice_affect_nc", __doc__, "the data folder, with ravdess/ in it", retrain=True)
    parser.add_argument("--weights", type=Path, help="the folder that holds voice_affect_nc/: judge the weights there")
    given = parser.parse_args(arguments)
    if given.weights:
        print(cards.table(weights_figures(given.data, given.weights)))
        return
    found = [*figures(given.data), *(retrain_one(given.data, given.retrain) if given.retrain else [])]

    def draw(folder: Path) -> None:
        english = ravdess(given.data)
        pictures.draw(folder, out_of_fold(english), labels(english), CLASSES)

    evaluation.report(FOLDER, found, draw, write=given.write, log="all", retain=True)


if __name__ == "__main__":
    main()
