"""`streamer broker`: run the embedded Kafka by itself."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from streamer.cli.arguments import add_topology
from streamer.cli.terminal import on_stop_signals, print_status, read_settings, show_progress
from streamer.settings import Settings
from streamer.topology.reading import load_topology
from streamer.topology.topology import Topology


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--topology`, whose topics are created, `--port` and `--data`."""
    add_topology(parser)
    parser.add_argument("--port", type=int, default=9092, help="where to listen on loopback; 0 takes a free one")
    parser.add_argument("--data", type=Path, metavar="DIR", help="keep its records here (default: a temporary folder)")


def run(args: argparse.Namespace) -> int:
    """Run the embedded Kafka with the topology's topics until Ctrl-C; any Kafka client can join."""
    return asyncio.run(_broker(load_topology(args.topology), read_settings(), args.port, args.data))


async def _broker(topology: Topology, settings: Settings, port: int, data: Path | None) -> int:
    from streamer.brokers.embedded.local_kafka import local_kafka
    from streamer.brokers.kafka.broker import KafkaBroker

    stopped = asyncio.Event()
    async with local_kafka(settings, port=port, log_dirs=data, progress=show_progress()) as server:
        on_stop_signals(stopped.set)
        broker = KafkaBroker(settings, server.address)
        await broker.ensure_topics(topology.topic_specs())
        await broker.close()
        print_status(f"Kafka is at {server.address} with {len(topology.topics)} topics; Ctrl-C stops it")
        await stopped.wait()
    return 0
