"""`streamer schema`: print its topics and payloads as AsyncAPI 3."""

from __future__ import annotations

import argparse
import sys

from streamer.cli.arguments import add_topology
from streamer.topology.asyncapi import asyncapi_json
from streamer.topology.reading import load_topology


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--topology`."""
    add_topology(parser)


def run(args: argparse.Namespace) -> int:
    """Print the wire contract as an AsyncAPI 3 document, in JSON."""
    sys.stdout.write(asyncapi_json(load_topology(args.topology)))
    return 0
