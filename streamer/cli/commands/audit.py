"""`streamer audit`: print the entries of the audit topic."""

from __future__ import annotations

import argparse
import asyncio
import sys

from streamer.cli.arguments import add_topology
from streamer.cli.terminal import open_kafka, print_status, read_settings, to_json
from streamer.compliance.audit import KINDS, AuditQuery, read_entries, readable
from streamer.settings import Settings
from streamer.topology.reading import load_topology
from streamer.topology.topology import Topology


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--topology`, filters by session, user and kind, and `--json`."""
    add_topology(parser)
    parser.add_argument("--session", metavar="ID", help="of this session only")
    parser.add_argument("--user", metavar="ID", help="of this person's sessions only")
    parser.add_argument("--kind", choices=KINDS, metavar="KIND", help=f"one of {', '.join(KINDS)}")
    parser.add_argument("--json", action="store_true", help="entries as JSON lines")


def run(args: argparse.Namespace) -> int:
    """Print the selected audit entries, oldest first."""
    query = AuditQuery(args.session, args.user, args.kind)
    return asyncio.run(_audit(load_topology(args.topology), read_settings(), query, args.json))


async def _audit(topology: Topology, settings: Settings, query: AuditQuery, as_json: bool) -> int:
    async with open_kafka(settings) as broker:
        entries = await read_entries(broker, topology, query)
    for entry in entries:
        sys.stdout.write(f"{to_json(entry)}\n" if as_json else readable(entry))
    if not entries:
        print_status("no entry of the topic audit is asked for by this")
    return 0
