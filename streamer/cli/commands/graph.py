"""`streamer graph`: print the topology as a Mermaid picture."""

from __future__ import annotations

import argparse
import sys

from streamer.cli.arguments import add_topology
from streamer.topology.mermaid import mermaid
from streamer.topology.reading import load_topology


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--topology`."""
    add_topology(parser)


def run(args: argparse.Namespace) -> int:
    """Print the topology as a Mermaid flowchart."""
    sys.stdout.write(mermaid(load_topology(args.topology)))
    return 0
