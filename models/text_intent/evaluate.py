"""Evaluate the shipped head on the test lines and on CLINC150. `python -m models.text_intent.evaluate --data DIR`.

Needs the run-time packages only. `--write` (with matplotlib) states the figures: figures.json, the card's table and
picture, and a line of `test_log.jsonl`. Without it nothing is stored. `--data` is needed for CLINC150, and for the
training lines, to find copies of them among the test lines.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.calibration import softmax
from kernels.engines import MODELS, load
from kernels.intents import INTENTS, NONE
from kernels.scores import f1_of, macro_f1
from models import evaluation, pictures
from models.figures import Figure
from models.scores import calibration_figures, interval
from models.text_affect.recipe.encode import Encoder
from models.text_intent.recipe import clinc, corpus, rejects
from models.text_intent.recipe.corpus import READS
from models.text_intent.recipe.scores import name_all
from streamer.errors import ModelError

MODEL = "text_intent"
TEST_LINES = Path(__file__).with_name("test_lines.tsv")
_TOLERANCE, _TOLERANCE_OF_A_CLASS, _TOLERANCE_OF_CLINC = 0.015, 0.035, 0.005

Floats = NDArray[np.float64]


class Judged(NamedTuple):
    """Texts and their true intents (n)."""

    texts: list[str]
    truth: NDArray[np.int64]


def read_test() -> Judged:
    """Read the 300 hand-written lines, in the file's order."""
    rows = [line.split("\t") for line in TEST_LINES.read_text(encoding="utf-8").splitlines()]
    return Judged([text for _, text in rows], corpus.indices([intent for intent, _ in rows]))


def read_dev(data: Path) -> Judged:
    """Read the questions of CLINC150 validation that `clinc.intent_of` maps, without three copies of training."""
    trained = {question.text for question in clinc.read(data, "train")}
    mapped = [(one.text, clinc.intent_of(one)) for one in clinc.read(data, "val") if one.text not in trained]
    judged = [(text, intent) for text, intent in mapped if intent is not None]
    return Judged([text for text, _ in judged], corpus.indices([intent for _, intent in judged]))


def refuse_trained(data: Path, texts: Sequence[str]) -> None:
    """Refuse to judge questions of CLINC150 or comments of GoEmotions that the head was fitted on.

    Raises:
        ModelError: one of the texts is a training line.
    """
    trained = {line.text for line in corpus.lines(data) if corpus.source(line) != "template"}.intersection(texts)
    if trained:
        raise ModelError(f"models/{MODEL} was trained on {len(trained)} of these lines, {min(trained)!r} among them")


def plain(text: str) -> str:
    """Normalise a text for comparison: its words in lower case, joined by single spaces."""
    return " ".join(re.findall(r"\w+", text.casefold().replace("'", "")))


def probabilities(texts: Sequence[str], models: Path = MODELS) -> Floats:
    """Predict the intents of n texts with the shipped models: probabilities (n x 10)."""
    head = load(MODEL, models=models)
    outputs = head.infer({READS: Encoder(models=models).outputs(texts)[READS]})
    return softmax(outputs["logits"], head.spec.temperature)


def figures(data: Path) -> list[Figure]:
    """Measure every figure of the card."""
    return _judged(data)[0]


def _judged(data: Path) -> tuple[list[Figure], Floats]:
    test = read_test()
    p = probabilities(test.texts)
    least = float(load(MODEL).spec.input["none_below"])
    found = _of_test(test, name_all(p, least), _without_copies(data, test))
    found += calibration_figures(p, test.truth, of="the 300 lines", tolerance=_TOLERANCE)
    found += _of_clinc(data)
    dev = read_dev(data)
    refuse_trained(data, dev.texts)
    ece = calibration_figures(probabilities(dev.texts), dev.truth, of="CLINC150 validation as mapped", tolerance=0.005)
    found.append(Figure(name="ece_clinc_dev", what=ece[0].what, value=ece[0].value, tolerance=0.005, n=ece[0].n,
                        floor=ece[0].floor, choice=True))  # fmt: skip
    return found, p


def _of_test(test: Judged, guess: NDArray[np.int64], new: NDArray[np.bool_]) -> list[Figure]:
    truth, n = test.truth, len(test.truth)
    none = truth == INTENTS.index(NONE)
    found = [
        Figure(
            name="macro_f1", what="macro-F1, ten intents, 300 hand-written lines", value=macro_f1(truth, guess),
            interval=interval(lambda rows: macro_f1(truth[rows], guess[rows]), n), tolerance=_TOLERANCE, n=n,
            must=0.75, aim=0.85, floor=".821 (TF-IDF, linear, same lines)",
        ),
        _plain("macro_f1_new", "the same without copies of training lines", macro_f1(truth[new], guess[new]), new),
        _plain("accuracy", "accuracy, the 300 lines", float((guess == truth).mean()), np.ones(n, np.bool_)),
        _plain("none_kept", "lines that ask for nothing, left alone", float((guess == truth)[none].mean()), none),
        _plain("intents_found", "lines with an intent, named right", float((guess == truth)[~none].mean()), ~none),
    ]  # fmt: skip
    for at, (intent, value) in enumerate(zip(INTENTS, f1_of(truth, guess, len(INTENTS)), strict=True)):
        found.append(_plain(f"f1_{intent}", f"F1 of {intent}", float(value), truth == at, _TOLERANCE_OF_A_CLASS))
    return found


def _of_clinc(data: Path) -> list[Figure]:
    """Measure the recipe on CLINC150's 150 classes; ridge, neighbours and threshold were chosen on validation."""
    named = rejects.named(data, "test")
    in_scope = named.truth != clinc.OUT_OF_SCOPE
    least = rejects.CHOSEN.least
    rows, others = np.flatnonzero(in_scope), np.flatnonzero(~in_scope)
    return [
        Figure(
            name="clinc_in_scope", value=named.in_scope(least), n=len(rows), tolerance=_TOLERANCE_OF_CLINC,
            what="figure of the recipe: CLINC150 test, 150 classes, in-scope accuracy, rejects counted wrong",
            interval=interval(lambda at: named.at(rows[at]).in_scope(least), len(rows)),
            must=0.94, aim=0.955, floor=".935 (without rejects)", published="BERT .969 (without rejects)",
        ),
        Figure(
            name="clinc_oos_recall", value=named.rejected(least), n=len(others), tolerance=0.015,
            what="figure of the recipe: CLINC150 test, out-of-scope recall at the same threshold",
            interval=interval(lambda at: named.at(others[at]).rejected(least), len(others)),
            must=0.60, aim=0.70, published="BERT .40",
        ),
        Figure(
            name="clinc_in_scope_all", value=named.in_scope(-np.inf), n=len(rows), tolerance=_TOLERANCE_OF_CLINC,
            what="figure of the recipe: CLINC150 test, in-scope accuracy where nothing is rejected",
            floor=".935", published="BERT .969",
        ),
    ]  # fmt: skip


def _without_copies(data: Path, judged: Judged) -> NDArray[np.bool_]:
    """Mark the lines (n) that are no copy of a training line, by `plain`."""
    trained = {plain(line.text) for line in corpus.lines(data)}
    return np.array([plain(text) not in trained for text in judged.texts])


def _plain(name: str, what: str, value: float, of: NDArray[np.bool_], tolerance: float = _TOLERANCE) -> Figure:
    return Figure(name=name, what=what, value=value, tolerance=tolerance, n=int(of.sum()))


def main() -> None:
    """Run the command line."""
    given = evaluation.parser(MODEL, __doc__, "folder that holds clinc150/ and goemotions/").parse_args()
    found, p = _judged(given.data)

    def draw(folder: Path) -> None:
        pictures.draw(folder, p, read_test().truth, INTENTS)

    evaluation.report(MODELS / MODEL, found, draw, write=given.write)


if __name__ == "__main__":
    main()
