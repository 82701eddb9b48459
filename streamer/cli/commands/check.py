"""`streamer check`: judge the topology file."""

from __future__ import annotations

import argparse
import sys

from streamer.cli.arguments import add_topology
from streamer.runtime.audit_trail import AUDIT, NONE_KEPT
from streamer.topology.reading import load_topology


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Only which topology."""
    add_topology(parser)


def run(args: argparse.Namespace) -> int:
    """Judge the topology file; one line where it is right, all problems at once where it isn't."""
    topology = load_topology(args.topology)
    sys.stdout.write(
        f"{topology.source}: ok: {len(topology.operators)} operators, {len(topology.topics)} topics, "
        f"{topology.partitions} partitions each\n"
    )
    if AUDIT not in topology.topics:
        sys.stderr.write(f"note: {NONE_KEPT}\n")
    return 0
