"""`streamer audit`: print what was decided."""

from __future__ import annotations

import argparse
import asyncio
import sys

from streamer.cli.arguments import add_topology
from streamer.cli.terminal import kafka, read_settings, say, to_json
from streamer.compliance.audit import KINDS, AuditQuery, read_entries, readable
from streamer.settings import Settings
from streamer.topology.reading import load_topology
from streamer.topology.topology import Topology


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whose entries, of which kind, how printed."""
    add_topology(parser)
    parser.add_argument("--session", metavar="ID", help="of this session only")
    parser.add_argument("--user", metavar="ID", help="of this person's sessions only")
    parser.add_argument("--kind", choices=KINDS, help="of this kind only")
    parser.add_argument("--json", action="store_true", help="entries as JSON lines")


def run(args: argparse.Namespace) -> int:
    """Print what was decided, oldest first."""
    query = AuditQuery(args.session, args.user, args.kind)
    return asyncio.run(_audit(load_topology(args.topology), read_settings(), query, args.json))


async def _audit(topology: Topology, settings: Settings, query: AuditQuery, as_json: bool) -> int:
    async with kafka(settings, own=False) as joined:
        entries = await read_entries(joined, topology, query)
    for entry in entries:
        sys.stdout.write(f"{to_json(entry)}\n" if as_json else readable(entry))
    if not entries:
        say("no entry of the topic audit is asked for by this")
    return 0
