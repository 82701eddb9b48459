"""The commands that talk to a Kafka: run, broker, replay, tail. Parsed arguments in, an exit code out."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from streamer.audit import AUDIT, NONE_KEPT
from streamer.broker_kafka import KafkaBroker
from streamer.errors import ConfigurationError, PayloadError, Problem
from streamer.local_kafka import local_kafka
from streamer.operator import Context
from streamer.payloads import SCHEMA_HEADER, Keyed, decode
from streamer.pipeline import Host, Pipeline
from streamer.recording import SUFFIX
from streamer.replay import replay_live, session_events, simulate
from streamer.retention import media_lines
from streamer.settings import Settings, load_settings
from streamer.topology import OperatorSpec, Topology, load_topology

ALLOWED = ("face", "voice", "text", "behaviour")
TAIL_BATCH = 500
EXIT_INTERRUPTED = 130
TAIL_BEST = 3


def run(args: argparse.Namespace) -> int:
    """Run the topology's operators, or those named, until Ctrl-C; without STREAMER_BROKERS on a Kafka of its own."""
    return asyncio.run(_run(load_topology(args.topology), read_settings(), args.only))


def broker(args: argparse.Namespace) -> int:
    """Run the embedded Kafka with the topology's topics until Ctrl-C; any Kafka client can join."""
    return asyncio.run(_broker(load_topology(args.topology), read_settings(), args.port, args.data))


def replay(args: argparse.Namespace) -> int:
    """Publish a session at the media's pace, or run it file to file in memory and write what came out as JSON lines."""
    topology = load_topology(args.topology) if args.topology is not None else None
    if args.path.suffix == SUFFIX:
        from streamer.live_recording import replay_recorded

        return replay_recorded(args, topology)
    if args.only or args.finish:
        raise ConfigurationError("replay", [Problem("--only, --finish", f"go with a recording (*{SUFFIX})")])
    topology, settings = topology or load_topology(args.default_topology), read_settings()
    consent, session = _granted(args.consent), args.session or args.path.stem
    if args.path.is_dir() and (args.path / "consents.jsonl").exists():
        if consent:
            say(f"{args.path / 'consents.jsonl'} says what is allowed; --consent is left aside")
    elif not consent:
        say(f"no consent: the operators will refuse to read this session; add --consent all, or of {','.join(ALLOWED)}")
    if args.speed == "max":
        return asyncio.run(_replay_max(args.path, session, consent, topology, settings, args.out))
    return asyncio.run(_replay(args.path, session, consent, topology, settings))


def _granted(listed: str | None) -> list[str]:
    names = list(ALLOWED) if listed == "all" else [] if listed in (None, "none") else str(listed).split(",")
    why = f"no modality; there are {', '.join(ALLOWED)}, or all"
    unknown = [Problem(repr(name), why) for name in names if name not in ALLOWED]
    if unknown:
        raise ConfigurationError("--consent", unknown)
    return names


def tail(args: argparse.Namespace) -> int:
    """Print a topic's records decoded, one line each, as they come."""
    topology = load_topology(args.topology)
    unknown = [
        Problem(t, f"no such topic; there are {', '.join(topology.topics)}")
        for t in args.topics
        if t not in topology.topics
    ]
    if unknown:
        raise ConfigurationError("tail", unknown)
    return asyncio.run(_tail(args.topics, topology, read_settings(), args.beginning, args.json, args.limit))


def say(line: str) -> None:
    """A line for the person at the terminal; stdout is for data."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


@asynccontextmanager
async def kafka(settings: Settings, *, own: bool = True) -> AsyncIterator[KafkaBroker]:
    """The Kafka of STREAMER_BROKERS, or where none is set and `own` allows it, one started here for as long as needed.

    Raises:
        ConfigurationError: none is set, and one of its own would be of no use to this command.
        LocalKafkaError: none is set, and none can be started.
    """
    if settings.brokers is None and not own:
        way_out = "say where Kafka is, host:port; `streamer broker` starts one and prints its address"
        raise ConfigurationError("environment", [Problem("STREAMER_BROKERS", way_out)])
    if settings.brokers is not None:
        broker = KafkaBroker(settings)
        try:
            yield broker
        finally:
            await broker.close()
        return
    async with local_kafka(settings, progress=_progress()) as server:
        say(f"Kafka is at {server.address} (for this run only; STREAMER_BROKERS={server.address} lets others join)")
        broker = KafkaBroker(settings, server.address)
        try:
            yield broker
        finally:
            await broker.close()


def on_stop_signals(stop: Callable[[], None]) -> None:
    """Call `stop` at the first Ctrl-C or SIGTERM; a second one ends the program at once."""
    loop = asyncio.get_running_loop()

    def first(received: signal.Signals) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(each)
        if received == signal.SIGINT:
            say("stopping: finishing what is in hand (Ctrl-C again to drop it)")
        stop()

    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, first, each)


async def _run(topology: Topology, settings: Settings, only: list[str]) -> int:
    for name, value in settings.printable().items():
        say(f"STREAMER_{name.upper()}={value}")
    async with kafka(settings) as joined:

        def faust(spec: OperatorSpec, context: Context) -> Host:
            from streamer.faust_host import FaustHost  # only where an operator wants it: it is a second to import

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


async def _broker(topology: Topology, settings: Settings, port: int, data: Path | None) -> int:
    stopped = asyncio.Event()
    async with local_kafka(settings, port=port, log_dirs=data, progress=_progress()) as server:
        on_stop_signals(stopped.set)
        joined = KafkaBroker(settings, server.address)
        await joined.ensure_topics(topology.topic_specs())
        await joined.close()
        say(f"Kafka is at {server.address} with {len(topology.topics)} topics; Ctrl-C stops it")
        await stopped.wait()
    return 0


async def _replay(path: Path, session: str, consent: list[str], topology: Topology, settings: Settings) -> int:
    events = session_events(path, consent)
    async with kafka(settings, own=False) as joined:
        await joined.ensure_topics(topology.topic_specs())
        published = replay_live(events, session, topology, joined)
        counts, code = await count_until_stopped([event.topic] async for event in published)
        say(f"published of {session}: " + ", ".join(f"{n} {topic}" for topic, n in sorted(counts.items())))
    return code


async def count_until_stopped(published: AsyncIterator[list[str]]) -> tuple[Counter[str], int]:
    """The topics of what is published, as it is, to how many went to each, and the exit code; Ctrl-C ends it."""
    this = asyncio.current_task()

    def stop() -> None:
        if this is not None:
            this.cancel()

    on_stop_signals(stop)
    counts: Counter[str] = Counter()
    try:
        async for topics in published:
            counts.update(topics)
    except asyncio.CancelledError:
        say("stopped in the middle")
        return counts, EXIT_INTERRUPTED
    return counts, 0


async def _replay_max(
    path: Path, session: str, consent: list[str], topology: Topology, settings: Settings, out: Path | None
) -> int:
    settings = settings.model_copy(update={"queue": "all"})
    stored = await simulate({session: session_events(path, consent)}, topology, settings)
    for topic in (t for t in topology.topics.values() if t.external == "out"):
        lines = [to_json(decode(m.value, topic.type)) for m in stored.messages(topic.name)]
        text = "".join(f"{line}\n" for line in lines)
        if out is not None:
            await asyncio.to_thread(write_text, out / f"{topic.name}.jsonl", text)
            say(f"{out / topic.name}.jsonl: {len(lines)} records")
        elif topic.name == "affect_events":
            sys.stdout.write(text)
    return 0


def write_text(path: Path, text: str) -> None:
    """Text to a file, whose folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


async def _tail(
    topics: list[str], topology: Topology, settings: Settings, beginning: bool, as_json: bool, limit: int | None
) -> int:
    async with kafka(settings, own=False) as joined:
        consumer = joined.consumer(topics, group=None, start_at="earliest" if beginning else "latest")
        stopped = asyncio.Event()
        on_stop_signals(stopped.set)
        await consumer.start()
        printed = 0
        while not stopped.is_set() and (limit is None or printed < limit):
            for message in await consumer.poll(TAIL_BATCH, timeout_ms=200):
                schema = dict(message.headers).get(SCHEMA_HEADER)
                place = f"{message.topic}[{message.partition}]@{message.offset}"
                if not schema:
                    continue
                try:
                    payload = decode(
                        message.value, topology.topics[message.topic].type, schema.decode(errors="replace")
                    )
                    line = to_json(payload) if as_json else f"{place} {summary(payload)}"
                except PayloadError as error:
                    line = f"{place} {error}"
                sys.stdout.write(f"{line}\n")
                printed += 1
                if printed == limit:
                    break
            sys.stdout.flush()
        await consumer.stop()
    return 0


def summary(payload: Keyed) -> str:
    """A payload to one readable line: whose it is first, nothing empty, mappings best first, bytes as a length."""
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
            value = dict(sorted(value.items(), key=lambda item: -item[1])[:TAIL_BEST])
        return "{" + " ".join(f"{k}:{_short(v)}" for k, v in value.items() if v is not None) + "}"
    if isinstance(value, list | tuple):
        more = f" +{len(value) - TAIL_BEST}" if len(value) > TAIL_BEST else ""
        return "[" + " ".join(_short(v) for v in value[:TAIL_BEST]) + more + "]"
    return str(value)


def to_json(payload: Keyed) -> str:
    """A payload to one line of JSON, keys sorted."""
    return msgspec.json.encode(payload, order="sorted").decode()


def read_settings() -> Settings:
    """The settings of the environment; logging begins as they say."""
    settings = load_settings()
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    return settings


def _progress() -> Callable[[str, float | None], None]:
    last = ""

    def show(what: str, fraction: float | None) -> None:
        nonlocal last
        line = what if fraction is None else f"{what}: {fraction:4.0%}"
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\033[K{line}")
            if fraction is None or fraction >= 1:
                sys.stderr.write("\n")
        elif what != last:
            sys.stderr.write(f"{what}\n")
        last = what
        sys.stderr.flush()

    return show
