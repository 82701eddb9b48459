"""`streamer model import`: convert a model of yours into a model folder that the topology can name."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from streamer.cli.terminal import print_status
from streamer.settings import load_settings

IMPORTER = "operators.model_import.folder"
"""Imported by its name, as operators are: the runtime doesn't depend on modalities and model formats."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the model, its modality and labels, items to calibrate and test it on, its licence, and the output folder."""
    parser.add_argument("path", type=Path, metavar="PATH", help="a file.onnx, or a folder with config.json and weights")
    parser.add_argument("--name", required=True, help="what the topology will call it, such as my_face")
    parser.add_argument("--modality", required=True, help="what it reads: face, voice or text")
    labels = "its classes' emotions, in their order where config.json names none; none leaves a class out"
    parser.add_argument("--labels", default="", metavar="LABEL=EMOTION,...", help=labels)
    parser.add_argument("--label-map", type=Path, metavar="FILE", help="the same as a JSON map")
    shares = "label shares of its training set, which fusion divides out (default: equal)"
    parser.add_argument("--prior", default="", metavar="EMOTION=SHARE,...", help=shares)
    items = "calibrate on these: a folder for each label with face pictures or recordings, or .tsv: text, tab, label"
    parser.add_argument("--calibrate", type=Path, metavar="DIR", help=items)
    parser.add_argument("--test", type=Path, metavar="DIR", help="judge on these, laid out alike")
    states = ["free", "share_alike", "unsettled", "non_commercial"]
    parser.add_argument(
        "--licence", choices=states, default="unsettled", metavar="STATE",
        help=f"its licence state: {', '.join(states)} (default: unsettled)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="DIR", help="the folder of models (default: STREAMER_MODELS)")


def run(args: argparse.Namespace) -> int:
    """Import a model into `--out` or STREAMER_MODELS; its figures go to stdout, warnings to stderr."""
    settings = load_settings()
    out = args.out or settings.models
    importer = importlib.import_module(IMPORTER)
    wanted = {name: getattr(args, name) for name in ("path", "name", "modality", "labels", "label_map", "prior")}
    wanted |= {"calibrate": args.calibrate, "test": args.test, "licence": args.licence}
    done = importer.import_model(importer.ImportRequest(**wanted, out=out, threads=settings.threads), print_status)
    sys.stdout.writelines(f"{line}\n" for line in [f"{done.spec.id}: {done.folder}", *done.figures])
    for warning in done.warnings:
        print_status(f"warning: {warning}")
    print_status(f"next: read {done.folder / 'card.md'}")
    if out != settings.models:
        print_status(f"      set STREAMER_MODELS={out}")
    print_status(f"      in topology.yaml: {done.usage}")
    return 0
