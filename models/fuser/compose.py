"""Compose labelled windows of held-out items of three modalities.

No encoder was trained on these items: faces are the `held_a` and `held_b` of models/face_affect, comments the halves A
and B of models/text_affect, voices the out-of-fold predictions of models/voice_affect/folds.csv, whose speakers are
divided between the halves. Half A is for fitting, half B for judging. Errors are independent given the label;
real people's are not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kernels import model_input
from kernels.emotions import EMOTIONS, SEVEN, fold_to_seven
from kernels.engines import MODELS, ModelSpec, load, read_spec
from kernels.fusion import WeightedOutput
from models.face_affect.recipe import split as faces
from models.text_affect.recipe import split as comments
from models.text_affect.recipe.encode import Encoder
from models.voice_affect.recipe import corpus
from models.voice_affect.recipe.folds import cross_fitted, mean_logits, read_folds

Half = Literal["A", "B"]
Modality = Literal["face", "voice", "text"]
MODALITIES: tuple[Modality, ...] = ("face", "voice", "text")
KINDS = ("agree", "agree", "conflict", "missing")
"""Shares of the kinds, as in composed sessions: how often real modalities contradict each other is not known."""
HALF_LIFE_S: Mapping[Modality, float] = {"face": 1.0, "voice": 2.0, "text": 4.0}
OLDEST_S: Mapping[Modality, float] = {"face": 2.0, "voice": 2.0, "text": 6.0}
MOST: Mapping[Modality, int] = {"face": 2, "voice": 1, "text": 2}
"""The most model outputs in a window: faces always have two, text has a second one half of the time."""

_BATCH = 64

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Items:
    """Outputs of one modality: probabilities over EMOTIONS (n, 9; NaN for emotions not covered) and classes (n,)."""

    p: Floats
    label: Ints
    prior: Mapping[str, float]

    def of(self, label: int) -> Ints:
        """Return the indices of the items of one of SEVEN."""
        return np.flatnonzero(self.label == label)


@dataclass(frozen=True, slots=True)
class Composed:
    """n windows: true class of SEVEN (n,), kind (n,); of each modality the items (n, most; -1: none) and weights."""

    truth: Ints
    kind: NDArray[np.str_]
    chosen: Mapping[Modality, Ints]
    weight: Mapping[Modality, Floats]
    items: Mapping[Modality, Items]

    def outputs(self, row: int) -> dict[Modality, list[WeightedOutput]]:
        """Return one window as `kernels.fusion.expert` takes it; the confidence is the greatest probability."""
        found: dict[Modality, list[WeightedOutput]] = {}
        for m, chosen in self.chosen.items():
            found[m] = []
            for item, weight in zip(chosen[row].tolist(), self.weight[m][row].tolist(), strict=True):
                if item >= 0:
                    shares = zip(EMOTIONS, self.items[m].p[item].tolist(), strict=True)
                    p = {name: share for name, share in shares if not math.isnan(share)}
                    found[m].append(WeightedOutput(p, self.items[m].prior, weight, max(p.values())))
        return found


def read(data: Path, half: Half) -> dict[Modality, Items]:
    """Read a half's held-out items and run the models on them; about half a minute on one core."""
    return {"face": _faces(data, half), "voice": _voices(data, half), "text": _comments(data, half)}


def compose(items: Mapping[Modality, Items], n: int, seed: int) -> Composed:
    """Compose n windows with balanced classes and kinds; each modality's items are drawn with replacement.

    For a class without recordings (EmoDB's originals have four) a voice of any class is drawn: a model of four classes
    always predicts one of these, and the presence of a voice must not reveal the class.
    """
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.arange(n) % len(SEVEN))
    kind = rng.permutation(np.array([KINDS[i % len(KINDS)] for i in range(n)]))
    label_of = np.repeat(truth[:, None], len(MODALITIES), axis=1)
    for row in np.flatnonzero(kind == "conflict"):
        others = [k for k in range(len(SEVEN)) if k != truth[row]]
        label_of[row, rng.integers(len(MODALITIES))] = rng.choice(others)
    for row in np.flatnonzero(kind == "missing"):
        label_of[row, rng.choice(len(MODALITIES), rng.integers(1, len(MODALITIES)), replace=False)] = -1
    chosen, weight = {}, {}
    for at, m in enumerate(MODALITIES):
        chosen[m], age = np.full((n, MOST[m]), -1), rng.uniform(0, OLDEST_S[m], (n, MOST[m]))
        for label in range(len(SEVEN)):
            rows, candidates = np.flatnonzero(label_of[:, at] == label), items[m].of(label)
            chosen[m][rows] = rng.choice(candidates if len(candidates) else len(items[m].p), (len(rows), MOST[m]))
        if m == "text":
            chosen[m][rng.random(n) < 0.5, 1:] = -1  # noqa: PLR2004 - half of the windows have one line
        weight[m] = np.where(chosen[m] >= 0, 2.0 ** (-age / HALF_LIFE_S[m]), 0.0)
    return Composed(truth, kind, chosen, weight, items)


def _faces(data: Path, half: Half) -> Items:
    data_set = faces.load(data)
    rows = data_set.where("held_a" if half == "A" else "held_b")
    rows = rows[data_set.plurality[rows] >= 0]
    engine = load("face_affect", threads=1)
    pictures = np.array_split(data_set.images[rows, None].astype(np.float32), 1 + len(rows) // _BATCH)
    p, _ = model_input.emotions(engine.spec, np.concatenate([engine.infer({"faces": x})["logits"] for x in pictures]))
    return Items(_over_all(p, engine.spec), data_set.plurality[rows], engine.spec.prior)


def _comments(data: Path, half: Half) -> Items:
    held_out = [c for c in comments.read_half(data, half) if len(c.labels) == 1]
    encoder = Encoder(threads=1)
    p, _ = model_input.emotions(encoder.engine.spec, encoder.outputs([c.text for c in held_out])["logits"])
    fold = np.array([[fold_to_seven({name: 1.0})[seven] for seven in SEVEN] for name in EMOTIONS])
    label = (comments.emotion_targets(held_out) @ fold).argmax(axis=1)
    return Items(_over_all(p, encoder.engine.spec), label, encoder.engine.spec.prior)


def _voices(data: Path, half: Half) -> Items:
    spec = read_spec("voice_affect")
    utterances = corpus.emodb(data)
    truth, speakers = corpus.labels(utterances), np.array([u.speaker for u in utterances])
    logits = mean_logits(read_folds(MODELS / "voice_affect" / "folds.csv", utterances, corpus.LABELS))
    p = cross_fitted(logits, truth, speakers)
    rows = np.flatnonzero(np.isin(speakers, np.unique(speakers)[0 if half == "A" else 1 :: 2]))
    label = np.array([SEVEN.index(corpus.LABELS[k]) for k in truth[rows].tolist()])
    by_label = model_input.by_label(p[rows], model_input.class_label_matrix(spec))
    return Items(_over_all(by_label, spec), label, spec.prior)


def _over_all(p: NDArray[np.floating], spec: ModelSpec) -> Floats:
    found = np.full((len(p), len(EMOTIONS)), np.nan)
    for at, name in enumerate(spec.labels):
        found[:, EMOTIONS.index(name)] = p[:, at]
    return found
