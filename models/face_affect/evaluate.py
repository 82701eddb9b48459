"""The shipped model and FER2013 in, the figures of the card out. `python -m models.face_affect.evaluate --data DIR`.

Needs the run-time packages only. Nothing is chosen here. `--write` states what was found in `figures.json`, the card
and its picture, and appends the look at PrivateTest to `test_log.jsonl`. Pictures are as in the data set, without a
detector, where nothing else is said.
"""

from __future__ import annotations

import argparse
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
from models import figures as stated
from models import pictures
from models import speed as speeds
from models.face_affect.recipe import calibrate, split
from models.figures import Figure
from models.scores import Score, calibration_figures, interval
from models.test_log import append_look
from streamer.errors import ModelError

MODEL = "face_affect"
FOLDER = MODELS / MODEL
SEEDS = FOLDER / "seeds.csv"
_NEAR = 0.003
_HEAD_PENALTY = 100.0
_BY_DESIGN = "trained on the votes, which have this label first on 62 % of the pictures"
_HEAD_ONLY = "a linear head on a network that never saw these labels; training for them is another model"


def refuse_trained(faces: split.Faces, rows: NDArray[np.int64]) -> None:
    """Rows of FER2013, checked picture by picture against those that were trained on.

    Raises:
        ModelError: one of them, or an exact copy of it, was trained on; names its row.
    """
    trained = {hash_of(image) for image in faces.images[faces.where("train")]}
    for row in rows.tolist():
        if hash_of(faces.images[row]) in trained:
            raise ModelError(
                f"row {row} of fer2013_labels.csv: models/{MODEL} was trained on its picture; judge others"
            )


def logits_of(engine: Engine, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pictures uint8 n x 48 x 48 to logits float32 n x 7."""
    return calibrate.outputs(engine.infer, images)["logits"]


def hash_of(image: NDArray[np.uint8]) -> str:
    """A picture to the first 12 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(image.tobytes()).hexdigest()[:12]


def figures(data: Path) -> list[Figure]:
    """The data folder to every figure of the card but its speed; about half a minute.

    Raises:
        ModelError: a picture of PrivateTest was trained on.
    """
    return _figures(split.load(data))


def _figures(faces: split.Faces) -> list[Figure]:
    spec = read_spec(MODEL)
    run = backend_openvino.compile(FOLDER / "model.onnx", 1)
    rows = faces.where("private")
    refuse_trained(faces, rows)
    seen = calibrate.outputs(run, faces.images[rows])
    p = softmax(seen["logits"], spec.temperature)
    return [
        *_on_votes(faces, rows, p),
        *_over_seeds(faces, rows, p),
        *_on_original_labels(faces, rows, p, seen["embedding"], run),
        *_calibration(faces, run, spec.temperature),
        *_gate(faces, run, spec.temperature),
    ]


def _on_votes(faces: split.Faces, rows: NDArray[np.int64], p: NDArray[np.float64]) -> list[Figure]:
    """Judged by FER+'s votes, without the pictures that have an exact or near copy in Training."""
    found = []
    for name, truth, what, published in (
        ("ferplus", faces.majority, "FER+ majority", "VGG13 about .84 over eight classes, other exclusions"),
        ("plurality", faces.plurality, "most of the ten votes", ""),
    ):
        own = (truth[rows] >= 0) & ~faces.copied[rows]
        guess, true = p.argmax(1)[own], truth[rows][own]
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
    """The recipe's own figures, from what the networks of three seeds made of PrivateTest (`seeds.csv`)."""
    by_hash, seeds = read_seeds()
    named = np.array([by_hash[hash_of(faces.images[row])] for row in rows])
    found = []
    for name, truth, what in (
        ("ferplus", faces.majority, "FER+ majority"), ("plurality", faces.plurality, "most of the ten votes"),
    ):  # fmt: skip
        own = (truth[rows] >= 0) & ~faces.copied[rows]
        right = (named[own] == truth[rows][own, None]).mean(axis=0)
        of = f"of the recipe over {len(seeds)} seeds: accuracy, {what}, PrivateTest without copies"
        found += [
            Figure(
                name=f"seeds_mean_{name}",
                what=f"mean {of}",
                value=float(right.mean()),
                tolerance=0.0005,
                n=int(own.sum()),
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
    """Judged by FER2013's own labels: the model as it is, and a linear head fitted to them on held-out pictures.

    The head (least squares, penalty chosen on PublicTest) shows what the embedding holds of labels that it never saw.
    """
    held = np.concatenate([faces.where("held_a"), faces.where("held_b")])
    head = _head(calibrate.outputs(run, faces.images[held])["embedding"], faces.original[held])
    truth, fresh, found = faces.original[rows], ~faces.leaked[rows], []
    for name, guesses, why, what in (
        ("original", p, _BY_DESIGN, "accuracy"),
        (
            "original_head",
            _with_one(embedding) @ head,
            _HEAD_ONLY,
            f"accuracy of a linear head on the embedding, fitted to {len(held):,} held-out pictures",
        ),
    ):
        for ending, kept, aim, floor, which in (
            ("", np.ones(len(rows), bool), 0.71, ".660", "PrivateTest"),
            ("_without_leaked", fresh, 0.70, ".645", "PrivateTest without the exact copies of Training"),
        ):
            right = (guesses.argmax(1) == truth)[kept]
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
    """How far the probabilities can be believed, in the data set and on video."""
    rows = calibrate.named(faces, "private")
    found = []
    for prefix, images, of in (
        ("", faces.images[rows], "PrivateTest without copies, most of the ten votes"),
        ("video_", calibrate.on_video(faces.images[rows], seed=1), "the same pictures as on video"),
    ):
        p = softmax(calibrate.outputs(run, images)["logits"], temperature)
        found += calibration_figures(p, faces.plurality[rows], of=of, tolerance=_NEAR, prefix=prefix)
    return found


def _gate(faces: split.Faces, run: calibrate.Run, temperature: float) -> list[Figure]:
    """What the quality gate does to the confidence on spoiled pictures: with it, and without."""
    rows = calibrate.named(faces, "private")
    seen = calibrate.spoiled(run, temperature, faces, rows, every=False, seed=1)
    found = []
    for name, faults, what in (("open", {}, "without the quality gate"), ("gated", FAULTS, "with it")):
        sure = seen.confidence(faults)
        low, high = perfect_ece_band(sure)
        found += [
            Figure(
                name=f"spoiled_ece_{name}", what=f"ECE of `confidence` on spoiled pictures, {what}",
                value=expected_calibration_error(sure, seen.right), tolerance=0.006, n=len(rows), lower_is_better=True,
                floor=f"a perfect calibrator's: {low:.3f} to {high:.3f}",
            ),
            Figure(
                name=f"spoiled_risk_{name}", what=f"mean error rate over all coverages on spoiled pictures, {what}",
                value=float(pictures.risks(sure, seen.right).mean()), tolerance=0.006, n=len(rows),
                lower_is_better=True,
            ),
        ]  # fmt: skip
    return found


def read_seeds() -> tuple[dict[str, list[int]], list[str]]:
    """`seeds.csv` to the classes by picture hash, one for each seed, and the seeds' names."""
    with SEEDS.open(newline="", encoding="utf-8") as file:
        head, *lines = csv.reader(file)
    return {item: [SEVEN.index(name) for name in classes] for item, *classes in lines}, head[1:]


def speed() -> list[Figure]:
    """How long one face takes, both sides of it read, beside torch and onnxruntime in one run."""
    face = {"faces": np.random.default_rng(0).uniform(0, 255, (1, 1, SIZE, SIZE)).astype(np.float32)}
    engine = load(MODEL, threads=speeds.THREADS)

    def torch_forward() -> speeds.Call:
        import torch

        from models.face_affect.recipe.network import BothSides, FaceNet

        net, tensor = BothSides(FaceNet()).eval(), torch.from_numpy(face["faces"])
        return lambda: net(tensor)

    calls = {speeds.OURS: lambda: engine.infer(face)} | speeds.torch_call(torch_forward)
    taken = speeds.measure(calls | speeds.onnxruntime_call(FOLDER / "model.onnx", face))
    return speeds.figures(taken, of="one face, both sides", must=3.0, aim=1.5)


def write(data: Path) -> list[Figure]:
    """State every figure: `figures.json`, the card's table, its picture, and a line of `test_log.jsonl`."""
    faces = split.load(data)
    found = _figures(faces) + speed()
    stated.write(FOLDER, found)
    stated.fill_card(FOLDER)
    rows = calibrate.named(faces, "private")
    engine = load(MODEL, threads=1)
    p = softmax(logits_of(engine, faces.images[rows]), engine.spec.temperature)
    pictures.draw(FOLDER, p, faces.plurality[rows], SEVEN)
    append_look(FOLDER, {figure.name: figure.value for figure in found})
    return found


def _head(embedding: NDArray[np.float32], truth: NDArray[np.int64]) -> NDArray[np.float64]:
    """Embeddings n x 256 and classes n to the weights of a linear head, 257 x 7 (least squares with a penalty)."""
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
    """Command line in, a table of figures out."""
    options = argparse.ArgumentParser(prog="python -m models.face_affect.evaluate", description=__doc__)
    options.add_argument("--data", type=Path, required=True, help="the folder that holds fer2013/")
    options.add_argument("--write", action="store_true", help="state them in the folder of the model")
    given = options.parse_args()
    print(stated.table(write(given.data) if given.write else figures(given.data) + speed()))


if __name__ == "__main__":
    main()
