"""`streamer run`: run the topology's operators until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio

from streamer.cli.arguments import add_topology
from streamer.cli.terminal import kafka, on_stop_signals, read_settings, say
from streamer.compliance.retention import media_lines
from streamer.operator import Context
from streamer.runtime.audit_trail import AUDIT, NONE_KEPT
from streamer.runtime.pipeline import Host, Pipeline
from streamer.settings import Settings
from streamer.topology.reading import load_topology
from streamer.topology.topology import OperatorSpec, Topology


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which topology, and which of its operators."""
    add_topology(parser)
    parser.add_argument("--only", action="append", default=[], metavar="OP", help="only this operator (repeatable)")


def run(args: argparse.Namespace) -> int:
    """Run the topology's operators, or those named, until Ctrl-C; without STREAMER_BROKERS on a Kafka of its own."""
    return asyncio.run(_run(load_topology(args.topology), read_settings(), args.only))


async def _run(topology: Topology, settings: Settings, only: list[str]) -> int:
    for name, value in settings.printable().items():
        say(f"STREAMER_{name.upper()}={value}")
    async with kafka(settings) as joined:

        def faust(spec: OperatorSpec, context: Context) -> Host:
            from streamer.runtime.faust_host.host import (
                FaustHost,  # only where an operator wants it: it is a second to import
            )

            return FaustHost(spec, topology, joined, context, joined.address)

        pipeline = Pipeline(topology, settings, joined, only=only, faust=faust)
        stopped = asyncio.Event()

        def stop() -> None:
            stopped.set()
            pipeline.close()

        on_stop_signals(stop)
        await pipeline.open()
        for line in await media_lines(joined, topology):
            say(line)
        if AUDIT not in topology.topics:
            say(f"warning: {NONE_KEPT}")
        say(f"ready: {', '.join(pipeline.names)}")
        await pipeline.run()
    say("stopped")
    return 0
