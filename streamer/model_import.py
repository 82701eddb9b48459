"""The command `model import`: parsed arguments in, an exit code out. What is done stands in `models/importing`."""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import Any

from streamer.errors import ConfigurationError, Problem
from streamer.settings import load_settings

IMPORTER = "models.importing.folder"
"""Found by its name, as operators are: the runtime knows that models can be imported, and nothing of what they read."""


def import_model(args: argparse.Namespace) -> int:
    """Import a model into `--out` or STREAMER_MODELS; its figures go to stdout, warnings to stderr."""
    settings = load_settings()
    out = args.out or settings.models
    importer = _importer()
    wanted = {name: getattr(args, name) for name in ("path", "name", "modality", "labels", "label_map", "prior")}
    wanted |= {"calibrate": args.calibrate, "test": args.test, "licence": args.licence}
    done = importer.import_model(importer.Wanted(**wanted, out=out, threads=settings.threads), _say)
    sys.stdout.writelines(f"{line}\n" for line in [f"{done.spec.id}: {done.folder}", *done.figures])
    for warning in done.warnings:
        _say(f"warning: {warning}")
    _say(f"next: read {done.folder / 'card.md'}")
    if out != settings.models:
        _say(f"      set STREAMER_MODELS={out}")
    _say(f"      in topology.yaml: {done.usage}")
    return 0


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _importer() -> Any:
    try:
        return importlib.import_module(IMPORTER)
    except ModuleNotFoundError as error:
        if error.name not in (IMPORTER, *("models", "models.importing")):
            raise
        way_out = "is not here: models are imported from a checkout"
        raise ConfigurationError("model import", [Problem(IMPORTER, way_out)]) from None
