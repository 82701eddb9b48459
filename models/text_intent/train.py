"""Train the head on templates, CLINC150, GoEmotions and the frozen text_affect encoder.

`python -m models.text_intent.train --data DIR`. Directions that separate template families and CLINC classes
(`recipe/discriminant.py`), a logistic regression of the ten intents in their space, and matrix scaling fitted on lines
that the regression was not fitted on: some of unseen families, some of seen ones. Their shares are chosen on
development lines (`_SHARES`). The layers and the penalties were chosen too; `--choose` prints the figures that they
were chosen by. The test lines are not opened here. Features are cached in --work, so an interrupted run resumes. The
lines are drawn with a seed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import LogisticRegression

from kernels.calibration import softmax
from kernels.engines import MODELS
from kernels.intents import INTENTS
from models.text_affect.recipe.encode import Encoder
from models.text_intent.evaluate import MODEL, read_dev
from models.text_intent.recipe import corpus, discriminant
from models.text_intent.recipe.corpus import READS
from models.text_intent.recipe.discriminant import Directions
from models.text_intent.recipe.scaling import matrix_scaling, with_nearness
from models.text_intent.recipe.scores import choose_threshold, macro_f1, name_all, nll

VERSION = "1"
OPSET = 17
_WIDTH = 384
_SETS = {"layers": slice(None), "embedding": slice(-_WIDTH, None)}
_PENALTIES = (0.1, 0.3)
_STRENGTHS = (0.3, 1.0, 3.0)
_STEPS = 500
_SHARES = (0.0, 0.3, 0.5, 0.7)
"""The share of the weight in fitting the scaling that is on lines whose family the regression has seen."""

Floats = NDArray[np.float64]


class Choice(NamedTuple):
    """Features, the ridge of the directions, and the strength of the logistic regression (scikit-learn's C)."""

    reads: str
    penalty: float
    strength: float


CHOSEN = Choice("layers", penalty=0.1, strength=0.3)
"""The best macro-F1 on unseen template families."""


class Lines(NamedTuple):
    """The training lines as arrays: features; intent, weight, fold, group and whether a template's, each (n).

    No family is in two of the `fold`s; the lines of a family are spread over all of the `line_fold`s.
    """

    features: NDArray[np.float32]
    truth: NDArray[np.int64]
    weight: Floats
    fold: NDArray[np.int64]
    line_fold: NDArray[np.int64]
    group: NDArray[np.int64]
    ours: NDArray[np.bool_]

    def part(self, chosen: NDArray[np.bool_]) -> Lines:
        """Select lines; their groups are numbered anew."""
        group = np.unique(self.group[chosen], return_inverse=True)[1].astype(np.int64)
        folds = (self.fold[chosen], self.line_fold[chosen])
        return Lines(self.features[chosen], self.truth[chosen], self.weight[chosen], *folds, group, self.ours[chosen])


def regression(u: Floats, lines: Lines, strength: float) -> tuple[Floats, Floats]:
    """Fit weights (r x 10) and offset (10) of a multinomial regression to coordinates (n x r) of lines."""
    fitted = LogisticRegression(C=strength, max_iter=_STEPS, tol=1e-5).fit(u, lines.truth, sample_weight=lines.weight)
    return fitted.coef_.T, fitted.intercept_


class Scored(NamedTuple):
    """Scores (n x 10) of lines, and the cosine of each (n) to the nearest training group."""

    scores: Floats
    near: Floats

    def features(self) -> Floats:
        """The inputs of scaling (n x 21)."""
        return with_nearness(self.scores, self.near)


def scored(found: Directions, weights: Floats, offset: Floats, features: NDArray[np.float32]) -> Scored:
    """Score features (n x d) by a regression in the space of directions."""
    u = found.coordinates(features)
    return Scored(u @ weights + offset, (u @ found.prototypes.T).max(axis=1))


def unseen_scores(lines: Lines, fold: NDArray[np.int64], choices: Sequence[Choice]) -> dict[Choice, Scored]:
    """Score each line by fits without its fold (n), for every choice."""
    n = len(fold)
    made = {choice: Scored(np.zeros((n, len(INTENTS))), np.zeros(n)) for choice in choices}
    for left_out in range(corpus.FOLDS):
        out = fold == left_out
        rest = lines.part(~out)
        spreads = {name: discriminant.scatter(rest.features[:, _SETS[name]], rest.group) for name in _read_by(choices)}
        for choice in choices:
            columns = _SETS[choice.reads]
            found = discriminant.directions(spreads[choice.reads], choice.penalty)
            fitted = regression(found.coordinates(rest.features[:, columns]), rest, choice.strength)
            part = scored(found, *fitted, lines.features[out][:, columns])
            made[choice].scores[out], made[choice].near[out] = part
        print(f"fold {left_out + 1} of {corpus.FOLDS}", flush=True)
    return made


def _read_by(choices: Sequence[Choice]) -> list[str]:
    return sorted({choice.reads for choice in choices})


class Unseen(NamedTuple):
    """Scores of the training lines by fits without their family, and by fits with their family but without the line."""

    family: Scored
    line: Scored

    def scaling(self, lines: Lines, share: float, among: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """Fit map (21 x 10) and offset (10) on the lines `among` (n), with `share` of the weight on `line`."""
        parts = [(of.features()[among], part) for of, part in ((self.family, 1 - share), (self.line, share)) if part]
        weight = np.concatenate([lines.weight[among] * part for _, part in parts])
        truth = np.concatenate([lines.truth[among]] * len(parts))
        return matrix_scaling(np.concatenate([x for x, _ in parts]), truth, weight, len(INTENTS))

    def cross_scaled(self, lines: Lines, share: float) -> Floats:
        """Return probabilities (n x 10) by fits without the line's family, scaled on other folds' lines."""
        x = self.family.features()
        p = np.zeros_like(self.family.scores)
        for fold in range(corpus.FOLDS):
            matrix, offset = self.scaling(lines, share, lines.fold != fold)
            p[lines.fold == fold] = softmax(x[lines.fold == fold] @ matrix + offset)
        return p


def choose_share(unseen: Unseen, lines: Lines, dev: Scored, dev_truth: NDArray[np.int64]) -> float:
    """Choose the share of `_SHARES` to scale with, by scores and classes of CLINC150 validation and unseen scores.

    It has the least sum of the NLL on validation, whose classes were seen, and on unseen template families: lines of
    people are as similar to the training lines as the first, or as little as the second.
    """
    found: dict[float, float] = {}
    for share in _SHARES:
        matrix, offset = unseen.scaling(lines, share, np.ones(len(lines.truth), np.bool_))
        seen = nll(softmax(dev.features() @ matrix + offset), dev_truth, np.ones(len(dev_truth)))
        new = nll(unseen.cross_scaled(lines, share)[lines.ours], lines.truth[lines.ours], lines.weight[lines.ours])
        found[share] = seen + new
        print(f"share {share}: NLL {seen:.4f} on CLINC150 validation, {new:.4f} on unseen families", flush=True)
    return min(found, key=lambda share: found[share])


class Head(NamedTuple):
    """Directions, a regression (r x 10, 10) in their space, and the scaling (21 x 10, 10) of its scores."""

    found: Directions
    weights: Floats
    offset: Floats
    scaling: Floats
    shift: Floats


def build(head: Head) -> onnx.ModelProto:
    """Build and check the ONNX model from `layers` (n x d) to `logits` (n x 10)."""
    k = len(INTENTS)
    plain, near, both = head.scaling[:k], head.scaling[k : k + 1], head.scaling[k + 1 :]
    tensors = {
        "directions": head.found.matrix, "origin": head.found.offset, "weights": head.weights, "offset": head.offset,
        "groups": head.found.prototypes.T, "plain": plain, "shift": head.shift, "near": near, "both": both,
    }  # fmt: skip
    nodes = [
        helper.make_node("Gemm", [READS, "directions", "origin"], ["coordinates"]),
        helper.make_node("ReduceL2", ["coordinates"], ["length"], axes=[1], keepdims=1),
        helper.make_node("Div", ["coordinates", "length"], ["angles"]),
        helper.make_node("Gemm", ["angles", "weights", "offset"], ["scores"]),
        helper.make_node("MatMul", ["angles", "groups"], ["cosines"]),
        helper.make_node("ReduceMax", ["cosines"], ["nearness"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["scores", "nearness"], ["products"]),
        helper.make_node("Gemm", ["scores", "plain", "shift"], ["from_scores"]),
        helper.make_node("MatMul", ["nearness", "near"], ["from_nearness"]),
        helper.make_node("MatMul", ["products", "both"], ["from_products"]),
        helper.make_node("Sum", ["from_scores", "from_nearness", "from_products"], ["logits"]),
    ]
    features = helper.make_tensor_value_info(READS, TensorProto.FLOAT, ["n", len(head.found.matrix)])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", k])
    constants = [
        numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name) for name, value in tensors.items()
    ]
    model = helper.make_model(
        helper.make_graph(nodes, MODEL, [features], [logits], constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,
        producer_name="affectstream",
    )
    onnx.checker.check_model(model)
    return model


def read(data: Path, encoder: Encoder, work: Path) -> Lines:
    """Collect the training lines and compute their features."""
    lines = corpus.lines(data)
    return Lines(
        corpus.features_of(lines, encoder, work),
        corpus.indices([line.intent for line in lines]),
        corpus.weights(lines),
        corpus.folds(lines),
        corpus.line_folds(lines),
        corpus.groups(lines, data),
        np.array([corpus.source(line) == "template" for line in lines]),
    )


def choose(lines: Lines) -> None:
    """Print macro-F1 and NLL of every choice on unseen template families."""
    choices = [Choice(*made) for made in product(_SETS, _PENALTIES, _STRENGTHS)]
    truth, weight = lines.truth[lines.ours], lines.weight[lines.ours]
    for choice, made in unseen_scores(lines, lines.fold, choices).items():
        p = Unseen(made, made).cross_scaled(lines, 0.0)[lines.ours]
        print(f"{choice}: macro-F1 {macro_f1(truth, p.argmax(axis=1), weight):.4f}, NLL {nll(p, truth, weight):.4f}")


def train(data: Path, models: Path, work: Path, encoder: Encoder) -> None:
    """Train the head and write the folder text_intent of `models`; the encoder is the text_affect beside it."""
    lines, dev = read(data, encoder, work), read_dev(data)
    unseen = Unseen(*(unseen_scores(lines, fold, [CHOSEN])[CHOSEN] for fold in (lines.fold, lines.line_fold)))
    columns = _SETS[CHOSEN.reads]
    found = discriminant.directions(discriminant.scatter(lines.features[:, columns], lines.group), CHOSEN.penalty)
    weights, offset = regression(found.coordinates(lines.features[:, columns]), lines, CHOSEN.strength)
    on_dev = scored(found, weights, offset, corpus.features(dev.texts, encoder, work)[:, columns])
    share = choose_share(unseen, lines, on_dev, dev.truth)
    scaling, shift = unseen.scaling(lines, share, np.ones(len(lines.truth), np.bool_))
    p = unseen.cross_scaled(lines, share)[lines.ours]
    truth, weight = lines.truth[lines.ours], lines.weight[lines.ours]
    threshold = choose_threshold(p, truth, weight)
    matrix = np.zeros((lines.features.shape[1], found.matrix.shape[1]))
    matrix[columns] = found.matrix
    folder = models / MODEL
    folder.mkdir(parents=True, exist_ok=True)
    head = Head(found._replace(matrix=matrix), weights, offset, scaling, shift)
    onnx.save(build(head), folder / "model.onnx")
    unseen_f1 = macro_f1(truth, name_all(p, threshold), weight)
    write_spec(folder, encoder, threshold, {"share": share, "unseen_macro_f1": round(unseen_f1, 4)})
    print(f"{folder}: share {share}, threshold {threshold:.2f}, macro-F1 on unseen families {unseen_f1:.4f}")


def write_spec(folder: Path, encoder: Encoder, threshold: float, found: Mapping[str, float]) -> None:
    """Write model.json beside the `model.onnx` in a folder; `found` adds to the choices that it records."""
    spec = {
        "name": MODEL,
        "version": VERSION,
        "modality": "text",
        "labels": list(INTENTS),
        "prior": {intent: round(share, 6) for intent, share in corpus.PRIOR.items()},
        "temperature": 1.0,
        "licence": "free",
        "input": {
            "reads": READS,
            "of": encoder.engine.spec.id,
            "of_sha256": encoder.engine.spec.sha256,
            "chosen": {**CHOSEN._asdict(), **found},
            "none_below": round(threshold, 2),
        },
        "outputs": {"logits": f"n x {len(INTENTS)}"},
        "sha256": hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest(),
    }
    (folder / "model.json").write_text(json.dumps(spec, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m models.text_intent.train", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds clinc150/ and goemotions/")
    parser.add_argument("--models", type=Path, default=MODELS, help="folder of the model folders")
    parser.add_argument("--work", type=Path, default=Path("build/text_intent"), help="features, kept for the next run")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--choose", action="store_true", help="show what layers and penalties were chosen from")
    given = parser.parse_args()
    encoder = Encoder(threads=given.threads, models=given.models)
    if given.choose:
        choose(read(given.data, encoder, given.work))
    else:
        train(given.data, given.models, given.work, encoder)


if __name__ == "__main__":
    main()
