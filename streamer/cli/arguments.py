"""Arguments that several commands take, and how they are parsed."""

from __future__ import annotations

import argparse
from pathlib import Path

from streamer.event_time import Duration


def default_topology() -> Path:
    """`topology.yaml` of the current folder, or else of this checkout."""
    here = Path("topology.yaml")
    return here if here.exists() else Path(__file__).resolve().parents[2] / "topology.yaml"


def add_topology(parser: argparse.ArgumentParser) -> None:
    """Add `--topology PATH`; without it, `args.topology` is the default topology."""
    parser.add_argument(
        "--topology", type=Path, default=default_topology(), metavar="PATH", help="the picture (default: topology.yaml)"
    )


def duration(text: str) -> Duration:
    """Parse a duration such as `10m`, for `type=` of argparse.

    Raises:
        argparse.ArgumentTypeError: not a whole number and a unit.
    """
    try:
        return Duration.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
