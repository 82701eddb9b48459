"""What each command does: parsed arguments in, an exit code out. Heavy imports stand inside their command."""

from __future__ import annotations

import argparse
import sys

from streamer.asyncapi import asyncapi_json
from streamer.audit import AUDIT, NONE_KEPT
from streamer.graph import mermaid
from streamer.topology import load_topology


def check(args: argparse.Namespace) -> int:
    """Judge the topology file; one line where it is right, all problems at once where it isn't."""
    topology = load_topology(args.topology)
    sys.stdout.write(
        f"{topology.source}: ok: {len(topology.operators)} operators, {len(topology.topics)} topics, "
        f"{topology.partitions} partitions each\n"
    )
    if AUDIT not in topology.topics:
        sys.stderr.write(f"note: {NONE_KEPT}\n")
    return 0


def graph(args: argparse.Namespace) -> int:
    """Print the topology as a Mermaid flowchart."""
    sys.stdout.write(mermaid(load_topology(args.topology)))
    return 0


def schema(args: argparse.Namespace) -> int:
    """Print the wire contract as an AsyncAPI 3 document, in JSON."""
    sys.stdout.write(asyncapi_json(load_topology(args.topology)))
    return 0
