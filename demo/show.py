"""A source in, the demo out: a real Kafka, `streamer run` beside it, the source replayed, the topics read and shown."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import textwrap
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Literal, TextIO

import msgspec

from demo.catalogue.items import read_catalogue, read_titles
from demo.child import CHECKOUT, Operators
from demo.sources import Source
from demo.view.board import TOPICS, Board
from demo.view.choice import View, choose_view
from demo.view.progress import Progress
from demo.view.summary import summary
from operators.payloads import Control
from streamer.broker import Consumer, Message, Outgoing
from streamer.brokers.embedded.local_kafka import local_kafka
from streamer.brokers.kafka.broker import KafkaBroker
from streamer.errors import PayloadError
from streamer.event_time import SystemClock
from streamer.payloads import SCHEMA_HEADER, Keyed, decode, encode, headers_for
from streamer.recordings.replay import replay_live
from streamer.settings import load_settings
from streamer.topology.reading import load_topology
from streamer.topology.topology import Topology

SESSION = "demo"
GOAL: Literal["lift"] = "lift"
LINGER_S = 1.8
"""After the last event, until the last windows have closed."""
PATIENCE_S, HURRIED_S = 4.0, 0.5
RECORDINGS = CHECKOUT / "recordings" / "demo"
KEPT = ("affect_events", "ranked_items")
ENVIRONMENT = {"STREAMER_CONTEXT": "demo", "STREAMER_ACCEPT_LICENCES": "unsettled"}
READ_BATCH = 500
LINE_WIDTH = 1000  # without a terminal nothing is wrapped

Prepare = Callable[[Path, Progress], Source]


async def show(prepare: Prepare) -> int:
    """Play what `prepare` makes (in a thread, given a folder to work in) to its end or to Ctrl-C.

    Raises:
        StreamerError: no Kafka, operators that refuse, media that can't be read; each names the way out.
    """
    topology, tell = load_topology(CHECKOUT / "topology.yaml"), Progress()
    async with AsyncExitStack() as stack:
        work = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="affectstream-demo-", ignore_cleanup_errors=True))
        )
        stack.callback(tell.stop)
        preparing = asyncio.create_task(asyncio.to_thread(prepare, work, tell))
        server = await stack.enter_async_context(
            local_kafka(load_settings(brokers=None), progress=lambda what, share: tell("kafka", what, share))
        )
        stack.callback(_end, server.pid)
        settings = load_settings(brokers=server.address)
        broker = KafkaBroker(settings)
        stack.push_async_callback(broker.close)
        tell("kafka", "starting the operators and their models")
        await broker.ensure_topics(topology.topic_specs())
        operators = Operators(work / "streamer.log", {**ENVIRONMENT, "STREAMER_BROKERS": server.address})
        stack.push_async_callback(operators.stop, HURRIED_S)
        await _furnish(broker, topology)
        await asyncio.gather(operators.ready(), preparing)
        tell.done("kafka")
        stage = Stage(broker, topology, operators, preparing.result(), server.address)
        with stage:
            await stage.play()
        await operators.stop(PATIENCE_S)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else LINE_WIDTH
    for line in stage.told():
        print(textwrap.fill(line, max(width - 1, 40), subsequent_indent="  ", break_on_hyphens=False))
    return 0


def _end(pid: int) -> None:
    """End the demo's own Kafka at once: what it holds is thrown away with it, so there is nothing to bring in order."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


async def _furnish(broker: KafkaBroker, topology: Topology) -> None:
    """Publish the catalogue, and the deployer's choice to rank by affect."""
    now_ms = SystemClock().now_ms()
    payloads: list[tuple[str, str, Keyed]] = [
        ("catalogue_items", item.item_id, item) for item in read_catalogue(now_ms)
    ]
    app = str(topology.app)
    payloads.append(("controls", app, Control(event_time_ms=now_ms, app=app, goal=GOAL)))
    producer = broker.producer()
    await producer.start()
    await producer.send([Outgoing(topic, key.encode(), encode(p), headers_for(p)) for topic, key, p in payloads])
    await producer.stop()


class Stage:
    """One performance: replays a source and, like any team would, reads the topics and keeps what it wants of them."""

    def __init__(
        self, broker: KafkaBroker, topology: Topology, operators: Operators, source: Source, address: str
    ) -> None:
        self._broker, self._topology, self._operators, self._source = broker, topology, operators, source
        self._clock = SystemClock()
        evidence = tuple(name for name, modality in topology.modalities.items() if modality.evidence)
        self._board = Board(read_titles(), self._clock.now_ms(), evidence)
        footer = f"Ctrl-C ends · STREAMER_BROKERS={address} streamer tail affect_live"
        self._view: View = choose_view(self._board, source, GOAL, footer)
        self._files: dict[str, TextIO] = {}
        self._kept: dict[str, int] = {}
        self._resident_bytes = 0

    def __enter__(self) -> Stage:
        if self._source.kept:
            RECORDINGS.mkdir(parents=True, exist_ok=True)
            self._files = {topic: (RECORDINGS / f"{topic}.jsonl").open("w", encoding="utf-8") for topic in KEPT}
        self._view.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._view.stop()
        self._source.stop()
        for file in self._files.values():
            file.close()

    async def play(self) -> None:
        """From the first event to the last window.

        Raises:
            StreamerError: the operators ended, the broker went, or the source can't be read on.
        """
        readers = [self._broker.consumer([topic], group=None, start_at="latest") for topic in TOPICS]
        await asyncio.gather(*(reader.start() for reader in readers))
        beside = [asyncio.create_task(self._read(reader)) for reader in readers]
        beside += [asyncio.create_task(self._draw()), asyncio.create_task(self._watch())]
        playing = asyncio.create_task(self._play())
        try:
            done, _ = await asyncio.wait([playing, *beside], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._source.stop()
            for task in (playing, *beside):
                task.cancel()
            await asyncio.gather(playing, *beside, return_exceptions=True)
            with suppress(TimeoutError):
                async with asyncio.timeout(HURRIED_S):
                    await asyncio.gather(*(reader.stop() for reader in readers))

    def told(self) -> list[str]:
        """What changed and why, and where the events are."""
        lines = ["", "What changed and why", *summary(self._board, self._resident_bytes), ""]
        if not self._source.kept:
            return [*lines, "Nothing of it was stored."]
        where = ", ".join(f"{RECORDINGS.relative_to(CHECKOUT)}/{t}.jsonl ({n})" for t, n in self._kept.items())
        more = "Next: `streamer broker`, `streamer run`, `streamer tail affect_events` (all in .venv/bin; --help)."
        return [*lines, f"The events: {where or 'none'}.", more]

    async def _play(self) -> None:
        started = False
        async for event in replay_live(self._source.events(), SESSION, self._topology, self._broker):
            if not started:
                self._board.start_ms, started = self._clock.now_ms() - event.at_ms, True
            self._board.published(event)
        await asyncio.sleep(LINGER_S)

    async def _read(self, reader: Consumer) -> None:
        while True:
            for message in await reader.poll(READ_BATCH, timeout_ms=200):
                now_ms = self._clock.now_ms()
                payload = self._decoded(message)
                if payload is not None:
                    self._board.take(payload, now_ms)
                    self._keep(message.topic, payload)

    def _decoded(self, message: Message) -> Keyed | None:
        schema = dict(message.headers).get(SCHEMA_HEADER)
        try:
            return decode(message.value, self._topology.topics[message.topic].type, schema.decode() if schema else None)
        except PayloadError:
            return None

    def _keep(self, topic: str, payload: Keyed) -> None:
        file = self._files.get(topic)
        if file is not None:
            file.write(msgspec.json.encode(payload, order="sorted").decode() + "\n")
            self._kept[topic] = self._kept.get(topic, 0) + 1

    async def _draw(self) -> None:
        while True:
            self._view.draw(self._board.since_start(self._clock.now_ms()))
            await asyncio.sleep(self._view.every_s)

    async def _watch(self) -> None:
        """Notice when the operators end, and how much memory they take."""
        while True:
            self._operators.check()
            self._resident_bytes = max(self._resident_bytes, self._operators.resident_bytes())
            await asyncio.sleep(1)
