"""`streamer record`: write topics to a recording, a file that `streamer replay` reads."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from streamer.cli.arguments import add_topology, duration
from streamer.cli.terminal import format_counts, on_stop_signals, open_kafka, print_status, read_settings
from streamer.errors import ConfigurationError, Problem
from streamer.event_time import SystemClock
from streamer.recordings import recorder
from streamer.recordings.recorder import RecordingRequest
from streamer.recordings.recording import SUFFIX, RecordingWriter, header_of
from streamer.settings import Settings
from streamer.topology.reading import load_topology
from streamer.topology.topology import Topology


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--topology`, the output file, the topics, their time span, and `--with-media`."""
    add_topology(parser)
    parser.add_argument("out", type=Path, metavar="OUT.affectlog", help="a new file")
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help="default: all but media and chat")
    since = parser.add_mutually_exclusive_group()
    since.add_argument("--since", type=duration, metavar="10m", help="from so long ago on, not from now")
    since.add_argument("--beginning", action="store_true", help="from the oldest record on")
    until = parser.add_mutually_exclusive_group()
    until.add_argument("--until-now", action="store_true", help="what is there now (from the beginning, or --since)")
    until.add_argument("--seconds", type=int, metavar="N", help="end after N seconds, not at Ctrl-C")
    media = "media and chat too, of those who consented to its being read"
    parser.add_argument("--with-media", action="store_true", help=media)


def run(args: argparse.Namespace) -> int:
    """Write topics to a file, with each record's offset and Kafka time, until Ctrl-C or the end that was asked for."""
    topology, settings = load_topology(args.topology), read_settings()
    now_ms = SystemClock().now_ms()
    since_ms = 0 if args.beginning or (args.until_now and args.since is None) else None
    request = RecordingRequest(
        recorder.topics_to_record(topology, args.topics, args.with_media),
        since_ms if args.since is None else now_ms - int(args.since),
        args.until_now,
        None if args.seconds is None else now_ms + args.seconds * 1000,
        args.with_media,
    )
    if args.out.suffix != SUFFIX:
        raise ConfigurationError("record", [Problem(str(args.out), f"call it *{SUFFIX}: replay knows it by that")])
    return asyncio.run(_record(args.out, request, topology, settings))


async def _record(out: Path, request: RecordingRequest, topology: Topology, settings: Settings) -> int:
    async with open_kafka(settings) as broker:
        stop = asyncio.Event()
        on_stop_signals(stop.set)
        await broker.require(list(request.topics))
        clock = SystemClock()
        with RecordingWriter(out, header_of(topology, request.topics, clock.now_ms())) as writer:
            print_status(f"recording to {out}: {', '.join(request.topics)}; Ctrl-C ends it")
            if not request.media:
                media = ", ".join(recorder.media_topics(topology))
                print_status(f"without {media}: add --with-media to take what people agreed to")
            end = await recorder.record(request, topology, broker, writer, clock, stop)
    print_status(f"{out}: {format_counts(end.records) or 'no records'}")
    for topic, reasons in sorted(end.left_out.items()):
        print_status(f"left out of {topic}: {format_counts(reasons)}")
    return 0
