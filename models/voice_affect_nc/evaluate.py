"""`python -m models.voice_affect_nc.evaluate --data DIR`: the card's figures again, from folds.csv; needs no torch.

They are the recipe's: networks that nobody is handed, each judged on the actors that it never heard. Weights that the
recipe wrote are judged with `--weights DIR`, on RAVDESS actors 17-20: they have heard actors 1-16 and all of EmoDB.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kernels.engines import load
from kernels.model_input import emotions
from kernels.scores import unweighted_recall
from kernels.voice.audio_files import read_audio, speech_only
from kernels.voice.speech import stack_pieces, track_pitch, voice_features
from models import figures as stated
from models.figures import Figure
from models.scores import calibration_figures
from models.voice_affect.evaluate import (
    FEW,
    OF_FOLDS,
    OF_ONNX,
    refuse_heard,
    retrained,
    seed_figures,
    state,
    svm_figures,
    uar_figures,
)
from models.voice_affect.evaluate import FOLDER as EMODB_FOLDER
from models.voice_affect.recipe.corpus import Utterance, labels, split_pieces
from models.voice_affect.recipe.folds import cross_fitted, read_folds, speakers_by_item, together
from models.voice_affect_nc.recipe.corpus import (
    CHOICES,
    CLASSES,
    FOLDER,
    FOLDS,
    HANDED_OVER,
    LABELS,
    emodb,
    folds_of,
    label_of_class,
    ravdess,
)

PUBLISHED = "LSTM with 47k parameters .623, CNN14 .766, wav2vec2 .818"


def out_of_fold(english: Sequence[Utterance]) -> NDArray[np.float64]:
    """RAVDESS's utterances to p (n, 8) by networks that never heard the actor; calibrated on the other folds."""
    logits = together(read_folds(FOLDER / "folds.csv", english, CLASSES))
    return cross_fitted(logits, labels(english), folds_of(english).astype(str))


def figures(data: Path) -> list[Figure]:
    """The data folder to every figure of the card."""
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
    """Train the network without the last fold's actors again, seed 0: it must be as often right as folds.csv has it."""
    from models.voice_affect.recipe.fitting import pictures
    from models.voice_affect_nc.train import RECIPE, leave_actors_out

    english, fold = ravdess(data), len(FOLDS) - 1
    utterances = [*english, *emodb(data)]
    pool = pictures(utterances, work, RECIPE.copies, speech_only)
    logits = leave_actors_out(RECIPE, utterances, pool, 0, work, f"fold-{fold}")[: len(english)]
    rows, kept = folds_of(english) == fold, read_folds(FOLDER / "folds.csv", english, CLASSES)[0]
    return [retrained(logits, kept, labels(english), rows, f"without actors {FOLDS[fold]}", tolerance=0.08)]


def read_weights(english: Sequence[Utterance], folder: Path) -> NDArray[np.float64]:
    """Utterances and the folder of `voice_affect_nc/` to p (n, 7) of the emotions, by the weights in it.

    Raises:
        HeardItemError: these weights were trained on one of them.
        ModelFolderError: the folder doesn't hold them.
    """
    actors = speakers_by_item(FOLDER / "folds.csv")
    heard = {item for item, actor in actors.items() if int(actor) in HANDED_OVER}
    refuse_heard(english, heard | set(speakers_by_item(EMODB_FOLDER / "folds.csv")))
    engine, logits = load("voice_affect_nc", threads=1, imported=folder), []
    for utterance in english:
        clip = track_pitch(speech_only(read_audio(utterance.path)))
        features, mask = stack_pieces(split_pieces(voice_features(clip)))
        logits.append(engine.infer({"features": features, "mask": mask})["logits"].mean(axis=0))
    return emotions(engine.spec, np.array(logits))[0]


def weights_figures(data: Path, folder: Path) -> list[Figure]:
    """The data folder and that of the weights to how these do on actors 17-20 (development)."""
    english = ravdess(data, [actor for actor in CHOICES if actor not in HANDED_OVER])
    named = np.array([LABELS.index(label) for label in label_of_class().values()])
    seven = [Utterance(u.path, u.item, u.speaker, u.group, int(named[u.label])) for u in english]
    p, of = read_weights(english, folder), "weights made by the recipe, RAVDESS actors 17-20, 7 emotions"
    return [
        *uar_figures(p, seven, "uar_weights", of, OF_ONNX, choice=True),
        *calibration_figures(p, labels(seven), of=of, tolerance=OF_ONNX, prefix="weights_", missed=FEW),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures; `--write` states them: figures.json, card, picture, and a line of test_log.jsonl."""
    parser = argparse.ArgumentParser(prog="python -m models.voice_affect_nc.evaluate", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the data folder, with ravdess/ in it")
    parser.add_argument("--weights", type=Path, help="the folder that holds voice_affect_nc/: judge the weights there")
    parser.add_argument("--write", action="store_true", help="state the figures in this folder")
    parser.add_argument("--retrain", type=Path, metavar="WORK", help="train one network again too (extra `train`)")
    chosen = parser.parse_args(arguments)
    if chosen.weights:
        print(stated.table(weights_figures(chosen.data, chosen.weights)))
        return
    found = [*figures(chosen.data), *(retrain_one(chosen.data, chosen.retrain) if chosen.retrain else [])]
    if chosen.write:
        english = ravdess(chosen.data)
        state(FOLDER, found, out_of_fold(english), labels(english), CLASSES)
    print(stated.table(found))


if __name__ == "__main__":
    main()
