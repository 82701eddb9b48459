"""The commands of recordings: record, and replay of what was recorded. Parsed arguments in, an exit code out."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from streamer import recorder
from streamer.errors import ConfigurationError, Problem
from streamer.event_time import SystemClock
from streamer.fold import fold
from streamer.live import (
    count_until_stopped,
    kafka,
    on_stop_signals,
    read_settings,
    say,
    to_json,
    write_text,
)
from streamer.payloads import TICK_HEADER, decode
from streamer.recorder import Wanted
from streamer.recording import SUFFIX, Recording, RecordingWriter, header_of
from streamer.replay import replay_recording
from streamer.settings import Settings
from streamer.topology import Topology, load_topology


def record(args: argparse.Namespace) -> int:
    """Write topics to a file, with the place and Kafka time of each record, until Ctrl-C or as far as was asked."""
    topology, settings = load_topology(args.topology), read_settings()
    now_ms = SystemClock().now_ms()
    since_ms = 0 if args.beginning or (args.until_now and args.since is None) else None
    wanted = Wanted(
        recorder.topics_to_record(topology, args.topics, args.with_media),
        since_ms if args.since is None else now_ms - int(args.since),
        args.until_now,
        None if args.seconds is None else now_ms + args.seconds * 1000,
        args.with_media,
    )
    if args.out.suffix != SUFFIX:
        raise ConfigurationError("record", [Problem(str(args.out), f"call it *{SUFFIX}: replay knows it by that")])
    return asyncio.run(_record(args.out, wanted, topology, settings))


async def _record(out: Path, wanted: Wanted, topology: Topology, settings: Settings) -> int:
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
    say(f"{out}: {_counted(end.records) or 'no records'}")
    for topic, reasons in sorted(end.left_out.items()):
        say(f"left out of {topic}: {_counted(reasons)}")
    return 0


def replay_recorded(args: argparse.Namespace, topology: Topology | None) -> int:
    """Fold a recording in memory, or publish what came from outside at the recorded pace, with times of now."""
    recording, settings = Recording(args.path), read_settings()
    if args.consent:
        say("the recording says what was allowed; --consent is left aside")
    if args.speed == "1":
        if args.only or args.finish or args.out:
            raise ConfigurationError("replay", [Problem("--only, --finish, --out", "go with --speed max")])
        topology = topology or load_topology(args.default_topology)
        return asyncio.run(_publish(recording, args.session, topology, settings))
    if args.session:
        why = "goes with --speed 1: a fold keeps what was recorded"
        raise ConfigurationError("replay", [Problem("--session", why)])
    if topology is not None:
        if topology.source.read_text(encoding="utf-8") != recording.header.topology:
            say(f"with {topology.source}, which is not the topology it was recorded with: finals may differ")
        return asyncio.run(_fold(recording, topology, settings, args))
    with tempfile.TemporaryDirectory() as folder:  # what is computed follows from the topology that stood then
        path = Path(folder) / f"topology of {recording.path.name}"
        path.write_text(recording.header.topology, encoding="utf-8")
        return asyncio.run(_fold(recording, load_topology(path), settings, args))


async def _fold(recording: Recording, topology: Topology, settings: Settings, args: argparse.Namespace) -> int:
    folded = await fold(recording, topology, settings, only=args.only, finish=args.finish)
    for note in [recording.told(), *folded.notes]:
        if note is not None:
            say(note)
    counts = {}
    for name in folded.outputs:
        payload, stored = topology.topics[name].type, folded.broker.messages(name)
        lines = [to_json(decode(m.value, payload)) for m in stored if TICK_HEADER not in dict(m.headers)]
        counts[name] = len(lines)
        text = "".join(f"{line}\n" for line in lines)
        if args.out is not None:
            await asyncio.to_thread(write_text, args.out / f"{name}.jsonl", text)
        elif name in folded.finals:
            sys.stdout.write(text)
    where = f", in {args.out}" if args.out is not None else ""
    say(f"folded {folded.restored} records with {', '.join(folded.operators)}: {_counted(counts) or 'nothing'}{where}")
    if sum(folded.after.values()):
        say(f"the last {_counted(folded.after)} closed after the end of the recording, as if nothing more had come")
    elif folded.still_open and not args.finish:
        say("windows were open when the recording ended: --finish closes them as if nothing more had come")
    return 0


async def _publish(recording: Recording, session: str | None, topology: Topology, settings: Settings) -> int:
    async with kafka(settings, own=False) as joined:
        await joined.ensure_topics(topology.topic_specs())
        published = replay_recording(recording, topology, joined, session)
        counts, code = await count_until_stopped([m.topic for m in messages] async for messages in published)
        if told := recording.told():
            say(told)
        say(f"published of {recording.path}: {_counted(counts)}")
    return code


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in sorted(counts.items()) if n)
