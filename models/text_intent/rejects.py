"""CLINC150 and the frozen encoder in, in-scope accuracy and out-of-scope recall out: the recipe on 150 classes.

`python -m models.text_intent.rejects --data DIR`: how well a linear map of the same frozen features tells 150 intents
apart and what is none of them, beside published figures. A figure of the recipe: these weights are not shipped. A
question is given the class with the nearest prototype; it is rejected where that cosine is below one threshold. The
penalty and the threshold come from validation. A look at test is appended to `test_log.jsonl`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.engines import MODELS
from models.text_affect.encode import Encoder
from models.text_affect.test_log import append_look
from models.text_intent import clinc, corpus, discriminant
from models.text_intent.clinc import OUT_OF_SCOPE

MODEL = "text_intent"
MUST, AIM = (0.94, 0.60), (0.955, 0.70)
_PENALTIES = (0.001, 0.002, 0.005, 0.02)
_IN_SCOPE_KEPT = 0.95
"""The in-scope accuracy on validation, rejects counted wrong, that the threshold has to leave."""

Floats = NDArray[np.float64]


class Part(NamedTuple):
    """Features of a split (n x 2688) and class names (n)."""

    features: NDArray[np.float32]
    labels: NDArray[np.str_]


class Named(NamedTuple):
    """The nearest class of each question (n), its cosine (n), and the true one (n)."""

    guess: NDArray[np.str_]
    cosine: Floats
    truth: NDArray[np.str_]

    def in_scope(self, least: float) -> float:
        """The least cosine in, the share of in-scope questions that are named right and not rejected out."""
        known = self.truth != OUT_OF_SCOPE
        return float(((self.guess == self.truth) & (self.cosine >= least))[known].mean())

    def rejected(self, least: float) -> float:
        """The least cosine in, the share of out-of-scope questions that are rejected out."""
        return float((self.cosine < least)[self.truth == OUT_OF_SCOPE].mean())


def read(data: Path, part: clinc.Part, encoder: Encoder, work: Path) -> Part:
    """Data folder and split in, features and labels out."""
    questions = clinc.read(data, part)
    texts, labels = [question.text for question in questions], [question.label for question in questions]
    return Part(corpus.features(texts, encoder, work), np.array(labels))


def name(part: Part, found: discriminant.Directions, classes: NDArray[np.str_]) -> Named:
    """A split, directions and the classes of their prototypes in, what each question is nearest to out."""
    cosines = found.coordinates(part.features) @ found.prototypes.T
    return Named(classes[cosines.argmax(axis=1)], cosines.max(axis=1), part.labels)


def choose(train: Part, validation: Part) -> tuple[discriminant.Directions, NDArray[np.str_], float]:
    """Train and validation in; directions, their classes, and the least cosine out.

    The penalty has the best in-scope accuracy, the threshold is the highest that leaves `_IN_SCOPE_KEPT`. Training has
    100 out-of-scope questions: too few to be a class, they are left out.
    """
    known = train.labels != OUT_OF_SCOPE
    classes, group = np.unique(train.labels[known], return_inverse=True)
    spread = discriminant.scatter(train.features[known], group.astype(np.int64))
    tried = [discriminant.directions(spread, penalty) for penalty in _PENALTIES]
    accuracies = [name(validation, found, classes).in_scope(-1.0) for found in tried]
    for penalty, accuracy in zip(_PENALTIES, accuracies, strict=True):
        print(f"penalty {penalty}: validation in-scope accuracy {accuracy:.4f}")
    best = tried[int(np.argmax(accuracies))]
    named = name(validation, best, classes)
    fitting = [least for least in np.sort(named.cosine) if named.in_scope(least) >= _IN_SCOPE_KEPT]
    return best, classes, float(fitting[-1]) if fitting else -1.0


def main() -> None:
    """Command line in, the figures out."""
    parser = argparse.ArgumentParser(prog="python -m models.text_intent.rejects", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds clinc150/")
    parser.add_argument("--part", choices=("val", "test"), default="test")
    parser.add_argument("--models", type=Path, default=MODELS, help="folder of the model folders")
    parser.add_argument("--work", type=Path, default=Path("build/text_intent"), help="features, kept for the next run")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    encoder = Encoder(threads=given.threads, models=given.models)
    train, validation = (read(given.data, part, encoder, given.work) for part in ("train", "val"))
    found, classes, least = choose(train, validation)
    judged = validation if given.part == "val" else read(given.data, "test", encoder, given.work)
    named = name(judged, found, classes)
    figures = {
        "clinc_threshold": least,
        "clinc_in_scope_all": named.in_scope(-1.0),
        "clinc_in_scope": named.in_scope(least),
        "clinc_oos_recall": named.rejected(least),
    }
    if given.part == "test":
        append_look(given.models / MODEL, figures)
    for key, value in figures.items():
        print(f"{key:20} {value:.4f}")
    print(f"must {MUST}, aim {AIM} for clinc_in_scope and clinc_oos_recall")


if __name__ == "__main__":
    main()
