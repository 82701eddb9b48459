"""`streamer tail`: print a topic's records, decoded."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

import msgspec

from streamer.cli.arguments import add_topology
from streamer.cli.terminal import on_stop_signals, open_kafka, read_settings, to_json
from streamer.errors import ConfigurationError, PayloadError, Problem
from streamer.payloads import SCHEMA_HEADER, TICK_HEADER, Keyed, decode
from streamer.settings import Settings
from streamer.topology.reading import load_topology
from streamer.topology.topology import Topology

POLL_BATCH = 500
LONGEST_LIST = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--topology`, the topics, where to start, the format, and how many records to print."""
    add_topology(parser)
    parser.add_argument("topics", nargs="+", metavar="TOPIC")
    parser.add_argument("--beginning", action="store_true", help="from the oldest record on, not from now")
    parser.add_argument("--json", action="store_true", help="whole payloads as JSON lines")
    parser.add_argument("--limit", type=int, metavar="N", help="end after N records")


def run(args: argparse.Namespace) -> int:
    """Print records of topics as they arrive, decoded, one line each."""
    topology = load_topology(args.topology)
    unknown = [
        Problem(t, f"no such topic; there are {', '.join(topology.topics)}")
        for t in args.topics
        if t not in topology.topics
    ]
    if unknown:
        raise ConfigurationError("tail", unknown)
    return asyncio.run(_tail(args.topics, topology, read_settings(), args.beginning, args.json, args.limit))


async def _tail(
    topics: list[str], topology: Topology, settings: Settings, beginning: bool, as_json: bool, limit: int | None
) -> int:
    async with open_kafka(settings) as broker:
        consumer = broker.consumer(topics, group=None, start_at="earliest" if beginning else "latest")
        stopped = asyncio.Event()
        on_stop_signals(stopped.set)
        await consumer.start()
        printed = 0
        while not stopped.is_set() and (limit is None or printed < limit):
            for message in await consumer.poll(POLL_BATCH, timeout_ms=200):
                headers = dict(message.headers)
                location = f"{message.topic}[{message.partition}]@{message.offset}"
                if TICK_HEADER in headers:
                    continue
                try:
                    schema = headers.get(SCHEMA_HEADER, b"").decode(errors="replace") or None
                    payload = decode(message.value, topology.topics[message.topic].type, schema)
                    line = to_json(payload) if as_json else f"{location} {summary(payload)}"
                except PayloadError as error:
                    line = f"{location} {error}"
                sys.stdout.write(f"{line}\n")
                printed += 1
                if printed == limit:
                    break
            sys.stdout.flush()
        await consumer.stop()
    return 0


def summary(payload: Keyed) -> str:
    """Format a payload as one line: session and time first, no empty fields, mappings by value, bytes as a length."""
    plain: dict[str, Any] = msgspec.to_builtins(payload, builtin_types=(bytes,))
    first = [str(plain.pop(name)) for name in ("session_id", "event_time_ms") if name in plain]
    parts = [f"{name}={_short(value)}" for name, value in plain.items() if value not in (None, [], {}, "", 0, False)]
    return " ".join([*first, *parts])


def _short(value: Any) -> str:
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, dict):
        if all(isinstance(v, float) for v in value.values()):
            value = dict(sorted(value.items(), key=lambda item: -item[1])[:LONGEST_LIST])
        return "{" + " ".join(f"{k}:{_short(v)}" for k, v in value.items() if v is not None) + "}"
    if isinstance(value, list | tuple):
        more = f" +{len(value) - LONGEST_LIST}" if len(value) > LONGEST_LIST else ""
        return "[" + " ".join(_short(v) for v in value[:LONGEST_LIST]) + more + "]"
    return str(value)
