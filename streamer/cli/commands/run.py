"""`streamer run`: run the topology's operators until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio

from streamer.cli.arguments import add_topology
from streamer.cli.leaving import EXIT_FAILED, EXIT_INTERRUPTED, leave_in_time
from streamer.cli.terminal import on_stop_signals, open_kafka, print_status, read_settings
from streamer.compliance.retention import media_retention_lines
from streamer.operator import Context
from streamer.runtime.audit_trail import AUDIT, NONE_KEPT
from streamer.runtime.pipeline import Host, Pipeline
from streamer.settings import Settings
from streamer.topology.reading import load_topology
from streamer.topology.topology import OperatorSpec, Topology


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--topology`, and `--only` to run some of its operators."""
    add_topology(parser)
    parser.add_argument("--only", action="append", default=[], metavar="OP", help="only this operator (repeatable)")


def run(args: argparse.Namespace) -> int:
    """Run the topology's operators, or those named, until Ctrl-C; without STREAMER_BROKERS on an embedded Kafka."""
    return asyncio.run(_run_and_leave(load_topology(args.topology), read_settings(), args.only))


async def _run_and_leave(topology: Topology, settings: Settings, only: list[str]) -> int:
    try:
        code = await _run(topology, settings, only)
    except (Exception, asyncio.CancelledError) as error:
        interrupted = isinstance(error, asyncio.CancelledError)
        code = EXIT_INTERRUPTED if interrupted else getattr(error, "exit_code", EXIT_FAILED)
        leave_in_time(code, "" if interrupted else f"error: {error}")
        raise
    leave_in_time(code)
    return code


async def _run(topology: Topology, settings: Settings, only: list[str]) -> int:
    print_status(f"topology {topology.source}, app {topology.app}; worker {settings.worker_name()}")
    for name, value in settings.printable().items():
        print_status(f"STREAMER_{name.upper()}={value}")
    async with open_kafka(settings, start_local=True) as broker:

        def faust(spec: OperatorSpec, context: Context) -> Host:
            from streamer.runtime.faust_host.host import FaustHost  # takes a second: only if an operator needs it

            return FaustHost(spec, topology, broker, context, broker.address)

        pipeline = Pipeline(topology, settings, broker, only=only, faust=faust)
        on_stop_signals(pipeline.close)
        await pipeline.open()
        for line in await media_retention_lines(broker, topology):
            print_status(line)
        if AUDIT not in topology.topics:
            print_status(f"warning: {NONE_KEPT}")
        if not pipeline.closing:
            print_status(f"ready: {', '.join(pipeline.names)}")
        await pipeline.run()
    print_status("stopped")
    return 0
