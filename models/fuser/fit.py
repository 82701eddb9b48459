"""Fit the gates of fusion on half A and print them as in `topology.yaml`: `python -m models.fuser.fit --data DIR`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.fuser import fusers
from models.fuser.compose import MODALITIES, compose, read

WINDOWS = 8000
SEED = 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m models.fuser.fit", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="holds fer2013/, goemotions/ and emodb/")
    given = parser.parse_args(arguments)
    composed = compose(read(given.data, "A"), WINDOWS, SEED)
    x = fusers.fit(*fusers.RIVALS["gate"], fusers.evidence(composed), composed.truth)
    for name, values in (("reliability", 1 / (1 + np.exp(-x[:3]))), ("sharpness", np.exp(x[3:]))):
        values_by_modality = ", ".join(f"{m}: {v:.2f}" for m, v in zip(MODALITIES, values, strict=True))
        print(f"{name}: {{{values_by_modality}}}")


if __name__ == "__main__":
    main()
