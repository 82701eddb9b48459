"""Templates, CLINC150, GoEmotions and the frozen text_affect encoder in, models/text_intent out.

`python -m models.text_intent.train --data DIR`. Directions that tell template families and CLINC classes apart
(`discriminant.py`), a logistic regression on the ten intents in their space, and matrix scaling fitted on lines whose
family it has not seen. Which layers are read and the penalties are chosen on such lines too; the test lines are not
opened here. Features are kept in --work, so an interrupted run goes on. The lines are drawn with a seed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
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
from models.text_affect.encode import Encoder
from models.text_intent import corpus, discriminant
from models.text_intent.corpus import READS
from models.text_intent.discriminant import Directions
from models.text_intent.scaling import matrix_scaling
from models.text_intent.scores import choose_threshold, macro_f1, name_all, nll

MODEL = "text_intent"
VERSION = "1"
OPSET = 17
_WIDTH = 384
_SETS = {"layers": slice(None), "embedding": slice(-_WIDTH, None)}
_PENALTIES = (0.1, 0.3)
_STRENGTHS = (0.3, 1.0, 3.0)
_STEPS = 500

Floats = NDArray[np.float64]


class Choice(NamedTuple):
    """Features, the ridge of the directions, and the strength of the logistic regression (scikit-learn's C)."""

    reads: str
    penalty: float
    strength: float


class Lines(NamedTuple):
    """The training lines as numbers: features; intent, weight, fold, group and whether a template's, each (n)."""

    features: NDArray[np.float32]
    truth: NDArray[np.int64]
    weight: Floats
    fold: NDArray[np.int64]
    group: NDArray[np.int64]
    ours: NDArray[np.bool_]

    def part(self, chosen: NDArray[np.bool_]) -> Lines:
        """The chosen lines; their groups are numbered anew."""
        group = np.unique(self.group[chosen], return_inverse=True)[1].astype(np.int64)
        rest = (self.truth[chosen], self.weight[chosen], self.fold[chosen], group, self.ours[chosen])
        return Lines(self.features[chosen], *rest)


def regression(u: Floats, lines: Lines, strength: float) -> tuple[Floats, Floats]:
    """Coordinates (n x r) of lines in, the weights (r x 10) and offset (10) of a multinomial regression out."""
    fitted = LogisticRegression(C=strength, max_iter=_STEPS, tol=1e-5).fit(u, lines.truth, sample_weight=lines.weight)
    return fitted.coef_.T, fitted.intercept_


def unseen_scores(lines: Lines) -> dict[Choice, Floats]:
    """Lines in, for every choice the scores (n x 10) of each line by a fit that has not seen its family, out."""
    scores: dict[Choice, Floats] = {}
    for fold in range(corpus.FOLDS):
        out = lines.fold == fold
        rest = lines.part(~out)
        for reads, columns in _SETS.items():
            spread = discriminant.scatter(rest.features[:, columns], rest.group)
            for penalty in _PENALTIES:
                found = discriminant.directions(spread, penalty)
                u, judged = (
                    found.coordinates(rest.features[:, columns]),
                    found.coordinates(lines.features[out][:, columns]),
                )
                for strength in _STRENGTHS:
                    weights, offset = regression(u, rest, strength)
                    kept = scores.setdefault(Choice(reads, penalty, strength), np.zeros((len(out), len(INTENTS))))
                    kept[out] = judged @ weights + offset
        print(f"fold {fold + 1} of {corpus.FOLDS}", flush=True)
    return scores


def cross_scaled(scores: Floats, lines: Lines) -> Floats:
    """Scores of unseen lines in, probabilities out: each fold's by a scaling fitted on the other folds."""
    p = np.zeros_like(scores)
    for fold in range(corpus.FOLDS):
        rest = lines.fold != fold
        matrix, offset = matrix_scaling(scores[rest], lines.truth[rest], lines.weight[rest])
        p[~rest] = softmax(scores[~rest] @ matrix + offset)
    return p


def build(found: Directions, weights: Floats, offset: Floats) -> onnx.ModelProto:
    """Directions (d x r), weights (r x 10) and offset (10) in, a checked model out: `layers` to `logits` (n x 10)."""
    tensors = {"directions": found.matrix, "origin": found.offset, "weights": weights, "offset": offset}
    nodes = [
        helper.make_node("Gemm", [READS, "directions", "origin"], ["coordinates"]),
        helper.make_node("ReduceL2", ["coordinates"], ["length"], axes=[1], keepdims=1),
        helper.make_node("Div", ["coordinates", "length"], ["angles"]),
        helper.make_node("Gemm", ["angles", "weights", "offset"], ["logits"]),
    ]
    features = helper.make_tensor_value_info(READS, TensorProto.FLOAT, ["n", len(found.matrix)])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", len(INTENTS)])
    constants = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in tensors.items()]
    model = helper.make_model(
        helper.make_graph(nodes, MODEL, [features], [logits], constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,
        producer_name="affectstream",
    )
    onnx.checker.check_model(model)
    return model


def read(data: Path, encoder: Encoder, work: Path) -> Lines:
    """Data folder in, the training lines as numbers out."""
    lines = corpus.lines(data)
    return Lines(
        corpus.features_of(lines, encoder, work),
        corpus.indices([line.intent for line in lines]),
        corpus.weights(lines),
        corpus.folds(lines),
        corpus.groups(lines, data),
        np.array([corpus.source(line) == "template" for line in lines]),
    )


def train(data: Path, models: Path, work: Path, *, threads: int = 2) -> None:
    """Data folder in; the folder text_intent of `models` is written. Its encoder is the text_affect beside it."""
    encoder = Encoder(threads=threads, models=models)
    lines = read(data, encoder, work)
    truth, weight = lines.truth[lines.ours], lines.weight[lines.ours]
    tried = unseen_scores(lines)
    judged: dict[Choice, float] = {}
    for choice, scores in tried.items():
        p = cross_scaled(scores, lines)[lines.ours]
        judged[choice] = macro_f1(truth, p.argmax(axis=1), weight)
        print(f"{choice}: macro-F1 {judged[choice]:.4f}, NLL {nll(p, truth, weight):.4f}", flush=True)
    best = max(judged, key=lambda choice: judged[choice])
    p = cross_scaled(tried[best], lines)[lines.ours]
    threshold = choose_threshold(p, truth, weight)
    columns = _SETS[best.reads]
    found = discriminant.directions(discriminant.scatter(lines.features[:, columns], lines.group), best.penalty)
    weights, offset = regression(found.coordinates(lines.features[:, columns]), lines, best.strength)
    scaling, shift = matrix_scaling(tried[best], lines.truth, lines.weight)
    matrix = np.zeros((lines.features.shape[1], found.matrix.shape[1]))
    matrix[columns] = found.matrix
    folder = models / MODEL
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(build(found._replace(matrix=matrix), weights @ scaling, offset @ scaling + shift), folder / "model.onnx")
    write_spec(folder, encoder, best, threshold)
    kept = macro_f1(truth, name_all(p, threshold), weight)
    print(f"{folder}: {best}, threshold {threshold:.2f}, macro-F1 on unseen families {kept:.4f}")


def write_spec(folder: Path, encoder: Encoder, chosen: Choice, threshold: float) -> None:
    """The folder of `model.onnx`, its encoder, and what was chosen in; model.json is written."""
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
            "chosen": chosen._asdict(),
            "none_below": round(threshold, 2),
        },
        "outputs": {"logits": f"n x {len(INTENTS)}"},
        "sha256": hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest(),
    }
    (folder / "model.json").write_text(json.dumps(spec, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Command line in, the model folder out."""
    parser = argparse.ArgumentParser(prog="python -m models.text_intent.train", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds clinc150/ and goemotions/")
    parser.add_argument("--models", type=Path, default=MODELS, help="folder of the model folders")
    parser.add_argument("--work", type=Path, default=Path("build/text_intent"), help="features, kept for the next run")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    train(given.data, given.models, given.work, threads=given.threads)


if __name__ == "__main__":
    main()
