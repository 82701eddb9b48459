"""`streamer record`: write topics to a file that replay reads."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from streamer.cli.arguments import add_topology, duration
from streamer.cli.terminal import counted, kafka, on_stop_signals, read_settings, say
from streamer.errors import ConfigurationError, Problem
from streamer.event_time import SystemClock
from streamer.recordings import recorder
from streamer.recordings.recorder import RecordingRequest
from streamer.recordings.recording import SUFFIX, RecordingWriter, header_of
from streamer.settings import Settings
from streamer.topology.reading import load_topology
from streamer.topology.topology import Topology


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to, which topics, from when until when, and whether media too."""
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
    """Write topics to a file, with the place and Kafka time of each record, until Ctrl-C or as far as was asked."""
    topology, settings = load_topology(args.topology), read_settings()
    now_ms = SystemClock().now_ms()
    since_ms = 0 if args.beginning or (args.until_now and args.since is None) else None
    wanted = RecordingRequest(
        recorder.topics_to_record(topology, args.topics, args.with_media),
        since_ms if args.since is None else now_ms - int(args.since),
        args.until_now,
        None if args.seconds is None else now_ms + args.seconds * 1000,
        args.with_media,
    )
    if args.out.suffix != SUFFIX:
        raise ConfigurationError("record", [Problem(str(args.out), f"call it *{SUFFIX}: replay knows it by that")])
    return asyncio.run(_record(args.out, wanted, topology, settings))


async def _record(out: Path, wanted: RecordingRequest, topology: Topology, settings: Settings) -> int:
    async with kafka(settings, own=False) as joined:
        stop = asyncio.Event()
        on_stop_signals(stop.set)
        await joined.require(list(wanted.topics))
        clock = SystemClock()
        with RecordingWriter(out, header_of(topology, wanted.topics, clock.now_ms())) as writer:
            say(f"recording to {out}: {', '.join(wanted.topics)}; Ctrl-C ends it")
            if not wanted.media:
                media = ", ".join(recorder.media_topics(topology))
                say(f"without {media}: add --with-media to take what people agreed to")
            end = await recorder.record(wanted, topology, joined, writer, clock, stop)
    say(f"{out}: {counted(end.records) or 'no records'}")
    for topic, reasons in sorted(end.left_out.items()):
        say(f"left out of {topic}: {counted(reasons)}")
    return 0
