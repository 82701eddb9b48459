"""The shipped head and the test lines in, figures out. `python -m models.text_intent.evaluate --data DIR`.

Needs the run-time packages only. Each look at the test lines is appended to `test_log.jsonl`; `--part dev` (CLINC150
validation, as mapped) leaves no trace. `--data` is asked for what the training lines were, to tell copies apart.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.calibration import expected_calibration_error, perfect_ece_band, softmax
from kernels.engines import MODELS, load
from kernels.intents import INTENTS, NONE
from models.text_affect.encode import Encoder
from models.text_affect.test_log import append_look
from models.text_intent import clinc, corpus, scores
from models.text_intent.corpus import READS

MODEL = "text_intent"
TEST_LINES = Path(__file__).with_name("test_lines.tsv")
MUST, AIM = 0.75, 0.85
_DRAWS = 1000

Floats = NDArray[np.float64]


class Judged(NamedTuple):
    """Texts and their true intents (n)."""

    texts: list[str]
    truth: NDArray[np.int64]


def read_test() -> Judged:
    """The 300 hand-written lines, in the file's order."""
    rows = [line.split("\t") for line in TEST_LINES.read_text(encoding="utf-8").splitlines()]
    return Judged([text for _, text in rows], corpus.indices([intent for intent, _ in rows]))


def read_dev(data: Path) -> Judged:
    """CLINC150 validation in, the questions that the map gives an intent out."""
    mapped = [(question.text, clinc.intent_of(question)) for question in clinc.read(data, "val")]
    kept = [(text, intent) for text, intent in mapped if intent is not None]
    return Judged([text for text, _ in kept], corpus.indices([intent for _, intent in kept]))


def plain(text: str) -> str:
    """A text in, its words in lower case with single spaces out: what two copies have in common."""
    return " ".join(re.findall(r"\w+", text.casefold().replace("'", "")))


def probabilities(texts: Sequence[str], models: Path = MODELS) -> Floats:
    """Texts in, the shipped models' probabilities (n x 10) out."""
    head = load(MODEL, models=models)
    outputs = head.infer({READS: Encoder(models=models).outputs(texts)[READS]})
    return softmax(outputs["logits"], head.spec.temperature)


def figures_of(p: Floats, judged: Judged, least: float) -> dict[str, float]:
    """Probabilities, truth and the least that an intent needs in, every figure but those on copies out."""
    truth, even = judged.truth, np.ones(len(p))
    guess = scores.name_all(p, least)
    random = np.random.default_rng(0)
    draws = [random.integers(0, len(p), len(p)) for _ in range(_DRAWS)]
    low, high = np.quantile([scores.macro_f1(truth[at], guess[at], even[at]) for at in draws], [0.025, 0.975])
    confidence, correct = p.max(axis=1), p.argmax(axis=1) == truth
    band_low, band_high = perfect_ece_band(confidence)
    none = truth == INTENTS.index(NONE)
    figures = {
        "n": float(len(p)),
        "macro_f1": scores.macro_f1(truth, guess, even),
        "macro_f1_low": float(low),
        "macro_f1_high": float(high),
        "macro_f1_no_threshold": scores.macro_f1(truth, p.argmax(axis=1), even),
        "accuracy": float((guess == truth).mean()),
        "none_kept": float((guess[none] == truth[none]).mean()),
        "intents_found": float((guess[~none] == truth[~none]).mean()),
        "nll": scores.nll(p, truth, even),
        "brier": scores.brier(p, truth, even),
        "ece": expected_calibration_error(confidence, correct),
        "ece_band_low": band_low,
        "ece_band_high": band_high,
    }
    return figures | dict(
        zip([f"f1_{intent}" for intent in INTENTS], scores.f1_by_class(truth, guess, even), strict=True)
    )


def without_copies(data: Path, p: Floats, judged: Judged, least: float) -> dict[str, float]:
    """The same in, macro-F1 over the lines whose words no training line has, and how many those are, out."""
    known = {plain(line.text) for line in corpus.lines(data)}
    new = np.array([plain(text) not in known for text in judged.texts])
    guess = scores.name_all(p[new], least)
    return {
        "n_new": float(new.sum()),
        "macro_f1_new": scores.macro_f1(judged.truth[new], guess, np.ones(int(new.sum()))),
    }


def table(p: Floats, judged: Judged, least: float) -> str:
    """Probabilities, truth and threshold in, the confusion table (rows true, columns named) as Markdown out."""
    counts = scores.confusion(judged.truth, scores.name_all(p, least))
    rows = [
        f"| {intent} | " + " | ".join(str(n) if n else "" for n in row) + " |"
        for intent, row in zip(INTENTS, counts, strict=True)
    ]
    return "\n".join(["| true \\ named | " + " | ".join(INTENTS) + " |", "|---" * (len(INTENTS) + 1) + "|", *rows])


def main() -> None:
    """Command line in, a table of figures and the confusion table out."""
    parser = argparse.ArgumentParser(prog="python -m models.text_intent.evaluate", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds clinc150/ and goemotions/")
    parser.add_argument("--part", choices=("dev", "test"), default="test")
    parser.add_argument("--models", type=Path, default=MODELS, help="folder of the model folders")
    given = parser.parse_args()
    judged = read_test() if given.part == "test" else read_dev(given.data)
    least = float(load(MODEL, models=given.models).spec.input["none_below"])
    p = probabilities(judged.texts, given.models)
    figures = figures_of(p, judged, least)
    if given.part == "test":
        figures |= without_copies(given.data, p, judged, least)
        append_look(given.models / MODEL, figures)
    for name, value in figures.items():
        print(f"{name:24} {value:.4f}")
    print(f"must {MUST}, aim {AIM} for macro_f1\n\n{table(p, judged, least)}")


if __name__ == "__main__":
    main()
