"""Predict PrivateTest with the networks of several seeds: `seeds.csv`, and each one's accuracy on PublicTest.

`python -m models.face_affect.recipe.seeds --data DIR OUT1 OUT2 OUT3`, each a folder that `train --seed N --out OUTN`
wrote. The file has each picture's hash and a class for each seed, no pictures; `evaluate` measures the recipe from it.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from kernels import backend_openvino
from kernels.emotions import SEVEN
from models.face_affect.evaluate import FOLDER, SEEDS, hash_of, refuse_trained
from models.face_affect.recipe import calibrate, split
from models.test_log import append_figures


def main() -> None:
    """Run the command line."""
    options = argparse.ArgumentParser(prog="python -m models.face_affect.recipe.seeds", description=__doc__)
    options.add_argument("--data", type=Path, required=True, help="the folder that holds fer2013/")
    options.add_argument("folders", type=Path, nargs="+", help="one for each seed, in the order of the seeds")
    given = options.parse_args()
    faces = split.load(given.data)
    rows, public = faces.where("private"), calibrate.labelled(faces, "public")
    refuse_trained(faces, rows)
    columns = []
    for seed, folder in enumerate(given.folders, 1):
        run = backend_openvino.compile(folder / "model.onnx", 1)
        chosen_by = calibrate.outputs(run, faces.images[public])["logits"].argmax(1) == faces.plurality[public]
        print(
            f"seed {seed}: {chosen_by.mean():.4f} of {len(public)} of PublicTest, most of the ten votes, without copies"
        )
        columns.append(calibrate.outputs(run, faces.images[rows])["logits"].argmax(1))
    with SEEDS.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(["item", *(f"seed_{seed}" for seed in range(1, len(columns) + 1))])
        for at, row in enumerate(rows):
            lines.writerow([hash_of(faces.images[row]), *(SEVEN[column[at]] for column in columns)])
    append_figures(FOLDER, {"seeds_read": float(len(columns))})


if __name__ == "__main__":
    main()
