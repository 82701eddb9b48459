"""`streamer check`: validate the topology file."""

from __future__ import annotations

import argparse
import sys

from streamer.cli.arguments import add_topology
from streamer.runtime.audit_trail import AUDIT, NONE_KEPT
from streamer.topology.reading import load_topology


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--topology`."""
    add_topology(parser)


def run(args: argparse.Namespace) -> int:
    """Validate the topology file: print one line if it is valid, else raise an error with all its problems."""
    topology = load_topology(args.topology)
    sys.stdout.write(
        f"{topology.source}: ok: {len(topology.operators)} operators, {len(topology.topics)} topics, "
        f"{topology.partitions} partitions each\n"
    )
    if AUDIT not in topology.topics:
        sys.stderr.write(f"note: {NONE_KEPT}\n")
    return 0
