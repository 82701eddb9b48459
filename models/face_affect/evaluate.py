"""Evaluate the shipped model on FER2013's PrivateTest. `python -m models.face_affect.evaluate --data DIR`.

Needs the run-time packages only. Nothing is chosen here. `--write` (with matplotlib) states the figures: figures.json,
the card's table and picture, and a line of `test_log.jsonl`. Pictures are as in the data set, without a detector,
unless a figure's text names another source.
"""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kernels import backend_openvino, scores
from kernels.calibration import expected_calibration_error, perfect_ece_band, softmax
from kernels.emotions import SEVEN
from kernels.engines import MODELS, Engine, load, read_spec
from kernels.face.crop import FAULTS, SIZE
from models import evaluation, pictures
from models import speed as times
from models.face_affect.recipe import calibrate, split
from models.figures import Figure
from models.scores import Score, calibration_figures, interval
from streamer.errors import ModelError

MODEL = "face_affect"
FOLDER = MODELS / MODEL
SEEDS = FOLDER / "seeds.csv"
_NEAR = 0.003
_HEAD_PENALTY = 100.0
_BY_DESIGN = "trained on the votes, which have this label first on 62 % of the pictures"
_HEAD_ONLY = "a linear head on a network that never saw these labels; training for them is another model"


def refuse_trained(faces: split.Faces, rows: NDArray[np.int64]) -> None:
    """Check rows of FER2013, picture by picture, against those that were trained on.

    Raises:
        ModelError: a picture, or an exact copy of it, was trained on; the message names its row.
    """
    trained = {hash_of(image) for image in faces.images[faces.where("train")]}
    for row in rows.tolist():
        if hash_of(faces.images[row]) in trained:
            raise ModelError(
                f"row {row} of fer2013_labels.csv: models/{MODEL} was trained on its picture; judge others"
            )


def logits_of(engine: Engine, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Run the model on pictures (uint8, n x 48 x 48) and return the logits (float32, n x 7)."""
    return calibrate.outputs(engine.infer, images)["logits"]


def hash_of(image: NDArray[np.uint8]) -> str:
    """Return the first 12 hexadecimal digits of a picture's SHA-256."""
    return hashlib.sha256(image.tobytes()).hexdigest()[:12]


def figures(data: Path) -> list[Figure]:
    """Measure every figure of the card but its speed; about half a minute.

    Raises:
        ModelError: a picture of PrivateTest was trained on.
    """
    return _figures(split.load(data))


def _figures(faces: split.Faces) -> list[Figure]:
    spec = read_spec(MODEL)
    run = backend_openvino.compile(FOLDER / "model.onnx", 1)
    rows = faces.where("private")
    refuse_trained(faces, rows)
    outputs = calibrate.outputs(run, faces.images[rows])
    p = softmax(outputs["logits"], spec.temperature)
    return [
        *_on_votes(faces, rows, p),
        *_over_seeds(faces, rows, p),
        *_on_original_labels(faces, rows, p, outputs["embedding"], run),
        *_calibration(faces, run, spec.temperature),
        *_gate(faces, run, spec.temperature),
    ]


def _on_votes(faces: split.Faces, rows: NDArray[np.int64], p: NDArray[np.float64]) -> list[Figure]:
    """Judge by FER+'s votes, without the pictures that have an exact or near copy in Training."""
    found = []
    for name, truth, what, published in (
        ("ferplus", faces.majority, "FER+ majority", "VGG13 about .84 over eight classes, other exclusions"),
        ("plurality", faces.plurality, "most of the ten votes", ""),
    ):
        chosen = (truth[rows] >= 0) & ~faces.copied[rows]
        guess, true = p.argmax(1)[chosen], truth[rows][chosen]
        of = f"{what}, PrivateTest without exact and near copies of Training"
        found += [
            Figure(
                name=f"accuracy_{name}", what=f"accuracy, {of}", value=float((guess == true).mean()), tolerance=_NEAR,
                n=len(true), interval=interval(_share_of(guess == true), len(true)), must=0.78, aim=0.82,
                published=published,
            ),
            Figure(
                name=f"macro_f1_{name}", what=f"macro-F1, {of}", value=scores.macro_f1(true, guess), tolerance=0.01,
                n=len(true),
            ),
        ]  # fmt: skip
    return found


def _over_seeds(faces: split.Faces, rows: NDArray[np.int64], p: NDArray[np.float64]) -> list[Figure]:
    """Measure the recipe, from the predictions of three seeds' networks for PrivateTest (`seeds.csv`)."""
    by_hash, seeds = read_seeds()
    named = np.array([by_hash[hash_of(faces.images[row])] for row in rows])
    found = []
    for name, truth, what in (
        ("ferplus", faces.majority, "FER+ majority"), ("plurality", faces.plurality, "most of the ten votes"),
    ):  # fmt: skip
        chosen = (truth[rows] >= 0) & ~faces.copied[rows]
        right = (named[chosen] == truth[rows][chosen, None]).mean(axis=0)
        of = f"of the recipe over {len(seeds)} seeds: accuracy, {what}, PrivateTest without copies"
        found += [
            Figure(
                name=f"seeds_mean_{name}",
                what=f"mean {of}",
                value=float(right.mean()),
                tolerance=0.0005,
                n=int(chosen.sum()),
            ),
            Figure(
                name=f"seeds_sd_{name}",
                what=f"standard deviation {of}",
                value=float(right.std(ddof=1)),
                tolerance=0.0005,
            ),
        ]
    same = (named == p.argmax(1)[:, None]).mean(axis=0).max()
    shipped = Figure(
        name="seeds_shipped", what="share of PrivateTest that the shipped weights name as their seed's column does",
        value=float(same), tolerance=0.01, must=0.99,
    )  # fmt: skip
    return [*found, shipped]


def _on_original_labels(
    faces: split.Faces, rows: NDArray[np.int64], p: NDArray[np.float64], embedding: NDArray[np.float32],
    run: calibrate.Run,
) -> list[Figure]:  # fmt: skip
    """Judge by FER2013's original labels: the model as it is, and a linear head fitted to them on held-out pictures.

    The head (least squares, penalty chosen on PublicTest) measures how much of these labels, which the network was not
    trained on, its embedding contains.
    """
    held_out = np.concatenate([faces.where("held_a"), faces.where("held_b")])
    head = _head(calibrate.outputs(run, faces.images[held_out])["embedding"], faces.original[held_out])
    truth, fresh, found = faces.original[rows], ~faces.leaked[rows], []
    for name, guesses, why, what in (
        ("original", p, _BY_DESIGN, "accuracy"),
        (
            "original_head",
            _with_one(embedding) @ head,
            _HEAD_ONLY,
            f"accuracy of a linear head on the embedding, fitted to {len(held_out):,} held-out pictures",
        ),
    ):
        for ending, chosen, aim, floor, which in (
            ("", np.ones(len(rows), bool), 0.71, ".660", "PrivateTest"),
            ("_without_leaked", fresh, 0.70, ".645", "PrivateTest without the exact copies of Training"),
        ):
            right = (guesses.argmax(1) == truth)[chosen]
            found.append(
                Figure(
                    name=f"accuracy_{name}{ending}",
                    what=f"{what}, FER2013's original labels, {which}",
                    value=float(right.mean()),
                    tolerance=_NEAR,
                    n=len(right),
                    aim=aim,
                    floor=f"{floor} (mini_XCEPTION)",
                    missed=why,
                    published="VGG19 .731, people about .65" if not ending else "",
                )
            )
    return found


def _calibration(faces: split.Faces, run: calibrate.Run, temperature: float) -> list[Figure]:
    """Measure the calibration of the probabilities, in the data set and as on video."""
    rows = calibrate.labelled(faces, "private")
    found = []
    for prefix, images, of in (
        ("", faces.images[rows], "PrivateTest without copies, most of the ten votes"),
        ("video_", calibrate.on_video(faces.images[rows], seed=1), "the same pictures as on video"),
    ):
        p = softmax(calibrate.outputs(run, images)["logits"], temperature)
        found += calibration_figures(p, faces.plurality[rows], of=of, tolerance=_NEAR, prefix=prefix)
    return found


def _gate(faces: split.Faces, run: calibrate.Run, temperature: float) -> list[Figure]:
    """Measure the confidence on spoiled pictures with the quality gate and without it."""
    rows = calibrate.labelled(faces, "private")
    spoiled = calibrate.spoiled(run, temperature, faces, rows, every=False, seed=1)
    found = []
    for name, faults, what in (("open", {}, "without the quality gate"), ("gated", FAULTS, "with it")):
        confidence = spoiled.confidence(faults)
        low, high = perfect_ece_band(confidence)
        found += [
            Figure(
                name=f"spoiled_ece_{name}", what=f"ECE of `confidence` on spoiled pictures, {what}",
                value=expected_calibration_error(confidence, spoiled.right), tolerance=0.006, n=len(rows),
                lower_is_better=True,
                floor=f"a perfect calibrator's: {low:.3f} to {high:.3f}",
            ),
            Figure(
                name=f"spoiled_risk_{name}", what=f"mean error rate over all coverages on spoiled pictures, {what}",
                value=float(pictures.risks(confidence, spoiled.right).mean()), tolerance=0.006, n=len(rows),
                lower_is_better=True,
            ),
        ]  # fmt: skip
    return found


def read_seeds() -> tuple[dict[str, list[int]], list[str]]:
    """Read `seeds.csv`: the predicted classes by picture hash, one for each seed, and the seeds' names."""
    with SEEDS.open(newline="", encoding="utf-8") as file:
        head, *lines = csv.reader(file)
    return {item: [SEVEN.index(name) for name in classes] for item, *classes in lines}, head[1:]


def speed() -> list[Figure]:
    """Measure the milliseconds of one face, as it is and mirrored, beside torch and onnxruntime in one run."""
    face = {"faces": np.random.default_rng(0).uniform(0, 255, (1, 1, SIZE, SIZE)).astype(np.float32)}
    engine = load(MODEL, threads=times.THREADS)

    def torch_forward() -> times.Call:
        import torch

        from models.face_affect.recipe.network import BothSides, FaceNet

        net, tensor = BothSides(FaceNet()).eval(), torch.from_numpy(face["faces"])
        return lambda: net(tensor)

    calls = {times.OURS: lambda: engine.infer(face)} | times.torch_call(torch_forward)
    taken = times.measure(calls | times.onnxruntime_call(FOLDER / "model.onnx", face))
    return times.figures(taken, of="one face, both sides", must=3.0, aim=1.5)


def _head(embedding: NDArray[np.float32], truth: NDArray[np.int64]) -> NDArray[np.float64]:
    """Fit a linear head (257 x 7) to embeddings (n x 256) and classes (n) by least squares with a penalty."""
    x = _with_one(embedding)
    scale = np.append(embedding.std(axis=0, dtype=np.float64) + 1e-6, 1.0)
    z = x / scale
    solved = np.linalg.solve(z.T @ z + _HEAD_PENALTY * np.eye(z.shape[1]), z.T @ np.eye(len(SEVEN))[truth])
    return np.asarray(solved / scale[:, None])


def _with_one(embedding: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.column_stack([embedding.astype(np.float64), np.ones(len(embedding))])


def _share_of(right: NDArray[np.bool_]) -> Score:
    return lambda rows: float(right[rows].mean())


def main() -> None:
    """Run the command line."""
    given = evaluation.parser(MODEL, __doc__, "the folder that holds fer2013/").parse_args()
    faces = split.load(given.data)

    def draw(folder: Path) -> None:
        rows, engine = calibrate.labelled(faces, "private"), load(MODEL, threads=1)
        p = softmax(logits_of(engine, faces.images[rows]), engine.spec.temperature)
        pictures.draw(folder, p, faces.plurality[rows], SEVEN)

    evaluation.report(FOLDER, _figures(faces) + speed(), draw, write=given.write)


if __name__ == "__main__":
    main()
