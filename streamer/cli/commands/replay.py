"""`streamer replay`: publish a session folder, a media file or a recording, or run it in memory."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from streamer.broker import Message
from streamer.cli.arguments import default_topology
from streamer.cli.terminal import (
    count_until_stopped,
    format_counts,
    open_kafka,
    print_status,
    read_settings,
    to_json,
    write_text,
)
from streamer.errors import ConfigurationError, Problem
from streamer.payloads import TICK_HEADER, decode
from streamer.recordings.batch_replay import batch_replay
from streamer.recordings.events import Event
from streamer.recordings.recording import SUFFIX, Recording
from streamer.recordings.replay import contains_consents, replay_live, replay_recording, session_events, simulate
from streamer.settings import Settings
from streamer.topology.reading import load_topology
from streamer.topology.topology import Topic, Topology

FINALS = "affect_events"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the path to replay, `--topology`, speed, consent and session, and the options of a batch replay."""
    picture = "the picture (default: topology.yaml; a recording is folded with its own)"
    parser.add_argument("--topology", type=Path, metavar="PATH", help=picture)
    what = "media.mkv + chat.jsonl, any media file, or a recording (*.affectlog)"
    parser.add_argument("path", type=Path, metavar="DIR|FILE", help=what)
    parser.add_argument("--speed", choices=["1", "max"], default="1", help="at the recorded pace, or in memory")
    allowed = "what the person allows: all, or of the topology's modalities, as face,text"
    parser.add_argument("--consent", metavar="LIST", help=allowed)
    parser.add_argument("--session", metavar="ID", help="the session's id (default: the folder's or file's name)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="with --speed max: a JSON-lines file for each topic")
    chosen = "with --speed max: these topics, as affect_events,observations (default: those for others to read)"
    parser.add_argument("--topics", metavar="LIST", help=chosen)
    only = "of a recording, with --speed max: run this operator (repeatable; default: those with windows)"
    parser.add_argument("--only", action="append", default=[], metavar="OP", help=only)
    finish = "of a recording, with --speed max: close what is open at its end, as if nothing more had come"
    parser.add_argument("--finish", action="store_true", help=finish)


def run(args: argparse.Namespace) -> int:
    """Publish a session at the media's pace, or run it in memory and write the resulting records as JSON lines."""
    topology = load_topology(args.topology) if args.topology is not None else None
    if args.path.suffix == SUFFIX:
        return _replay_recording(args, topology)
    if args.only or args.finish:
        raise ConfigurationError("replay", [Problem("--only, --finish", f"go with a recording (*{SUFFIX})")])
    topology, settings = topology or load_topology(default_topology()), read_settings()
    consent, session = _granted(args.consent, topology), args.session or args.path.stem
    if contains_consents(args.path):
        if consent:
            print_status(f"{args.path / 'consents.jsonl'} says what is allowed; --consent is left aside")
    elif not consent:
        names = ",".join(topology.modalities)
        print_status(f"no consent: the operators will refuse to read this session; add --consent all, or of {names}")
    if args.speed == "max":
        events = session_events(args.path, consent)
        topics = _chosen(args.topics, topology)
        return asyncio.run(_replay_max({session: events}, topology, settings, topics, args.out))
    if args.out or args.topics:
        raise ConfigurationError("replay", [Problem("--out, --topics", "go with --speed max")])
    return asyncio.run(_replay(args.path, session, consent, topology, settings))


def _granted(listed: str | None, topology: Topology) -> list[str]:
    declared = list(topology.modalities)
    names = declared if listed == "all" else [] if listed in (None, "none") else str(listed).split(",")
    why = f"no modality; there are {', '.join(declared)}, or all"
    unknown = [Problem(repr(name), why) for name in names if name not in declared]
    if unknown:
        raise ConfigurationError("--consent", unknown)
    return names


async def _replay(path: Path, session: str, consent: list[str], topology: Topology, settings: Settings) -> int:
    events = session_events(path, consent)
    async with open_kafka(settings) as broker:
        await broker.ensure_topics(topology.topic_specs())
        published = replay_live(events, session, topology, broker)
        counts, code = await count_until_stopped([event.topic] async for event in published)
        print_status(f"published of {session}: " + ", ".join(f"{n} {topic}" for topic, n in sorted(counts.items())))
    return code


def _chosen(listed: str | None, topology: Topology) -> list[str]:
    """The topics of `--topics`, in its order; none where it is not given."""
    names = [name.strip() for name in listed.split(",")] if listed is not None else []
    unknown = [Problem(repr(name), f"no topic; there are {', '.join(topology.topics)}") for name in names
               if name not in topology.topics]  # fmt: skip
    if unknown:
        raise ConfigurationError("--topics", unknown)
    return names


async def _replay_max(
    sessions: Mapping[str, Iterable[Event]], topology: Topology, settings: Settings, topics: list[str], out: Path | None
) -> int:
    """Run sessions in memory; write the topics asked for to files, by default those for others, or print them."""
    stored = await simulate(sessions, topology, settings.model_copy(update={"queue": "all"}))
    outside = [t.name for t in topology.topics.values() if t.external == "out"]
    for name in topics or (outside if out is not None else [FINALS]):
        lines = _lines(stored.messages(name), topology.topics[name])
        text = "".join(f"{line}\n" for line in lines)
        if out is not None:
            await asyncio.to_thread(write_text, out / f"{name}.jsonl", text)
            print_status(f"{out / name}.jsonl: {len(lines)} records")
        else:
            sys.stdout.write(text)
    return 0


def _lines(messages: Iterable[Message], topic: Topic) -> list[str]:
    """Records as JSON, without ticks and deletions."""
    ticks = (m for m in messages if TICK_HEADER not in dict(m.headers) and m.value is not None)
    return [to_json(decode(m.value, topic.type)) for m in ticks]


def _replay_recording(args: argparse.Namespace, topology: Topology | None) -> int:
    """Run operators over a recording in memory, or publish its external topics at the recorded pace."""
    recording, settings = Recording(args.path), read_settings()
    if args.consent:
        print_status("the recording says what was allowed; --consent is left aside")
    if args.speed == "1":
        if args.only or args.finish or args.out or args.topics:
            raise ConfigurationError("replay", [Problem("--only, --finish, --out, --topics", "go with --speed max")])
        topology = topology or load_topology(default_topology())
        return asyncio.run(_publish(recording, args.session, topology, settings))
    if args.session:
        why = "goes with --speed 1: a fold keeps what was recorded"
        raise ConfigurationError("replay", [Problem("--session", why)])
    if topology is not None:
        if topology.source.read_text(encoding="utf-8") != recording.header.topology:
            print_status(f"with {topology.source}, which is not the topology it was recorded with: finals may differ")
        return asyncio.run(_batch_replay(recording, topology, settings, args))
    with tempfile.TemporaryDirectory() as folder:  # the topology it was recorded with
        path = Path(folder) / f"topology of {recording.path.name}"
        path.write_text(recording.header.topology, encoding="utf-8")
        return asyncio.run(_batch_replay(recording, load_topology(path), settings, args))


async def _batch_replay(recording: Recording, topology: Topology, settings: Settings, args: argparse.Namespace) -> int:
    replayed = await batch_replay(recording, topology, settings, only=args.only, finish=args.finish)
    for note in [recording.warning(), *replayed.notes]:
        if note is not None:
            print_status(note)
    counts, chosen = {}, _chosen(args.topics, topology)
    if unwritten := [name for name in chosen if name not in replayed.outputs]:
        why = f"not written by {', '.join(replayed.operators)}, which write {', '.join(replayed.outputs)}"
        raise ConfigurationError("--topics", [Problem(", ".join(unwritten), why)])
    for name in chosen or replayed.outputs:
        lines = _lines(replayed.broker.messages(name), topology.topics[name])
        counts[name] = len(lines)
        text = "".join(f"{line}\n" for line in lines)
        if args.out is not None:
            await asyncio.to_thread(write_text, args.out / f"{name}.jsonl", text)
        elif chosen or name in replayed.finals:
            sys.stdout.write(text)
    where = f", in {args.out}" if args.out is not None else ""
    written = format_counts(counts) or "nothing"
    print_status(f"folded {replayed.restored} records with {', '.join(replayed.operators)}: {written}{where}")
    if sum(replayed.after.values()):
        closed = f"the last {format_counts(replayed.after)} closed after the end of the recording"
        print_status(f"{closed}, as if nothing more had come")
    elif replayed.still_open and not args.finish:
        print_status("windows were open when the recording ended: --finish closes them as if nothing more had come")
    return 0


async def _publish(recording: Recording, session: str | None, topology: Topology, settings: Settings) -> int:
    async with open_kafka(settings) as broker:
        await broker.ensure_topics(topology.topic_specs())
        published = replay_recording(recording, topology, broker, session)
        counts, code = await count_until_stopped([m.topic for m in messages] async for messages in published)
        if warning := recording.warning():
            print_status(warning)
        print_status(f"published of {recording.path}: {format_counts(counts)}")
    return code
