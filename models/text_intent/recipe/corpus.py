"""The training lines from templates, CLINC150 and GoEmotions, with their weights, folds and features."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from kernels.intents import INTENTS, NONE
from models.text_affect.recipe.encode import Encoder
from models.text_affect.recipe.split import read_training
from models.text_intent.recipe import clinc, templates
from models.text_intent.recipe.templates import Line

READS = "layers"
FOLDS = 4
PRIOR: dict[str, float] = {intent: 0.5 if intent == NONE else 0.5 / (len(INTENTS) - 1) for intent in INTENTS}
"""The training prior: every other line is `none`, the rest is spread evenly."""
_NONE_SHARES = {"template": 0.5, "clinc": 0.2, "goemotions": 0.3}
_CLINC_PER_NONE_CLASS = 20
_GOEMOTIONS_LINES = 2500
_CHUNK = 500

Floats = NDArray[np.float64]
Features = NDArray[np.float32]


def lines(data: Path, seed: int = 0) -> list[Line]:
    """Collect the training lines: templates, then CLINC150 train as mapped, then GoEmotions train.

    Of a CLINC class that is `none` the first 20 lines are taken; of GoEmotions, all as `none`, 2,500 drawn with the
    seed from the comments that text_affect was trained on. Few of those ask a platform for anything; none was checked.
    """
    taken = templates.lines(templates.read(), seed=seed)
    seen: Counter[str] = Counter()
    for question in clinc.read(data, "train"):
        intent = clinc.intent_of(question)
        seen[question.label] += 1
        if intent is not None and (intent != NONE or seen[question.label] <= _CLINC_PER_NONE_CLASS):
            taken.append(Line(question.text, intent, "clinc"))
    comments = read_training(data)
    drawn = np.sort(np.random.default_rng(seed).permutation(len(comments))[:_GOEMOTIONS_LINES])
    return [*taken, *(Line(comments[at].text, NONE, "goemotions") for at in drawn)]


def indices(intents: Sequence[str]) -> NDArray[np.int64]:
    """Return the indices of intents in `INTENTS`."""
    return np.array([INTENTS.index(intent) for intent in intents])


def weights(given: Sequence[Line]) -> Floats:
    """Weigh lines (n, mean 1) so that an intent has its `PRIOR`, and `none` is split by source as `_NONE_SHARES`."""
    groups = [(line.intent, source(line) if line.intent == NONE else "") for line in given]
    sizes = Counter(groups)
    parts = {group: PRIOR[group[0]] * (_NONE_SHARES[group[1]] if group[1] else 1.0) for group in sizes}
    each = np.array([parts[group] / sizes[group] for group in groups])
    return np.asarray(each / each.mean())


def folds(given: Sequence[Line]) -> NDArray[np.int64]:
    """Assign each line a fold (0..3): a template family has one fold, other lines go by a hash of their text."""
    family_fold: dict[str, int] = {}
    counts: Counter[str] = Counter()
    for line in given:
        if line.family not in family_fold and source(line) == "template":
            family_fold[line.family] = counts[line.intent] % FOLDS
            counts[line.intent] += 1
    return np.array([family_fold.get(line.family, at) for line, at in zip(given, line_folds(given), strict=True)])


def line_folds(given: Sequence[Line]) -> NDArray[np.int64]:
    """Assign each line a fold (0..3) by a hash of its text: the lines of a family are spread over all folds."""
    return np.array([int(hashlib.sha256(line.text.casefold().encode()).hexdigest()[:8], 16) % FOLDS for line in given])


def features(texts: Sequence[str], encoder: Encoder, work: Path) -> Features:
    """Compute `layers` (float32, n x 2688) of n texts; chunks are cached in `work`, so an interrupted run resumes."""
    work.mkdir(parents=True, exist_ok=True)
    parts = []
    for start in track(range(0, len(texts), _CHUNK), description=f"{len(texts)} lines", transient=True):
        chunk = list(texts[start : start + _CHUNK])
        key = hashlib.sha256("\0".join([encoder.engine.spec.sha256, *chunk]).encode()).hexdigest()[:24]
        path = work / f"layers-{key}.npy"
        if not path.is_file():
            writing = work / "writing.npy"
            np.save(writing, np.asarray(encoder.outputs(chunk)[READS], np.float32))
            writing.replace(path)
        parts.append(np.load(path))
    return np.concatenate(parts)


def features_of(given: Sequence[Line], encoder: Encoder, work: Path) -> Features:
    """Compute features (n x 2688) of lines that are grouped by source; no chunk has lines of two sources."""
    groups = [[line.text for line in given if source(line) == name] for name in _NONE_SHARES]
    return np.concatenate([features(group, encoder, work) for group in groups])


def groups(given: Sequence[Line], data: Path) -> NDArray[np.int64]:
    """Number each line's group (0..g-1): its template family, CLINC class with intent, or GoEmotions as one."""
    classes = {question.text: question.label for question in clinc.read(data, "train")}
    names = [f"clinc {classes[line.text]} {line.intent}" if source(line) == "clinc" else line.family for line in given]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def source(line: Line) -> str:
    """Return a line's source: `template`, `clinc` or `goemotions`."""
    return line.family if line.family in _NONE_SHARES else "template"
