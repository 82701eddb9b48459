"""`streamer forget`: erase a person's data; print what is left, and until when Kafka retains it."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

from streamer.cli.arguments import add_topology
from streamer.cli.terminal import open_kafka, print_status, read_settings
from streamer.compliance.forget import Forgotten, Found, Holdings, find, find_recordings, forget
from streamer.compliance.retention import COMPACTION_LAG, TopicRetention
from streamer.errors import ConfigurationError, Problem
from streamer.event_time import Duration, SystemClock, utc_text
from streamer.settings import Settings
from streamer.topology.reading import load_topology
from streamer.topology.topology import Topology


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--topology`, the id of a user or session, `--recordings`, and `--yes` to skip the question."""
    add_topology(parser)
    parser.add_argument("who", metavar="USER|SESSION", help="the id of a user (all their sessions) or of one session")
    parser.add_argument("--recordings", type=Path, metavar="DIR", help="erase from the recordings below here, too")
    parser.add_argument("--yes", action="store_true", help="don't ask")


def run(args: argparse.Namespace) -> int:
    """Erase a person's sessions, and print what is left until when; returns 0 also if nothing is found."""
    folder: Path | None = args.recordings
    if folder is not None and not folder.is_dir():
        raise ConfigurationError("forget", [Problem("--recordings", f"{folder}: no such folder")])
    if not args.yes and not sys.stdin.isatty():
        raise ConfigurationError("forget", [Problem("--yes", "is missing: there is no terminal to ask at")])
    return asyncio.run(_forget(load_topology(args.topology), read_settings(), args.who, folder, yes=args.yes))


async def _forget(topology: Topology, settings: Settings, who: str, folder: Path | None, *, yes: bool) -> int:
    recordings = await asyncio.to_thread(find_recordings, folder)
    async with open_kafka(settings) as broker:
        found = await find(broker, topology, who, recordings)
        if not found.sessions:
            nothing = f"nothing is held of a user or session {who}: there is nothing to forget"
            print_status(f"{nothing} (ids are compared exactly)")
            return 0
        for line in _plan_lines(found, recordings):
            print_status(line)
        if not yes and not await asyncio.to_thread(_confirmed):
            print_status("nothing was erased")
            return 0
        done = await forget(broker, topology, found, recordings, SystemClock())
    sys.stdout.writelines(f"{line}\n" for line in _result_lines(done))
    return 0


def _confirmed() -> bool:
    sys.stderr.write("Erase? This can't be undone. [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _plan_lines(found: Found, recordings: list[Path]) -> Iterator[str]:
    sessions = ", ".join(sorted(found.sessions))
    yield f"sessions: {sessions}"
    for name, holdings in found.holdings.items():
        yield f"  {name}: {_count(holdings.records)}"
    if recordings:
        yield f"recordings to look through: {len(recordings)}"


def _result_lines(done: Forgotten) -> Iterator[str]:
    for name, count in done.deleted.items():
        yield f"erased from {name}: {_count(count, 'key')}"
    for path, count in done.recordings.items():
        yield f"erased from {path}: {_count(count)}"
    if not done.deleted and not done.recordings:
        yield "nothing was left to erase"
    left = {name: holdings for name, holdings in done.left.items() if holdings.records}
    if not left:
        yield "nothing else is held of these sessions"
        return
    yield "what this can't reach before Kafka drops it:"
    for name, holdings in left.items():
        yield f"  {name}: {_count(holdings.records)}, {_until(holdings, done.retention[name])}"
    if "audit" in left:
        yield "the audit's entries name the session, never the user"
    if any(done.retention[name].compacted_ms is not None for name in left):
        yield "for a compacted topic, run this again later: its deletion is the later record that Kafka waits for"


def _until(holdings: Holdings, retention: TopicRetention) -> str:
    if retention.compacted_ms is not None:
        if retention.compacted_ms < 0:
            return f"replaced, for ever: set {COMPACTION_LAG} on this topic"
        return f"replaced, until {Duration(retention.compacted_ms)} have passed and one later record has come"
    if retention.longest_ms is None:
        return "for ever: set retention.ms on this topic"
    return f"until {utc_text(holdings.newest_ms + retention.longest_ms)} at the latest"


def _count(n: int, of: str = "record") -> str:
    return f"{n} {of}{'' if n == 1 else 's'}"
