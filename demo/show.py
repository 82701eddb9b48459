"""Run the demo: start Kafka and `streamer run`, replay a source, read the output topics and display them."""

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
from demo.view.progress import Progress
from demo.view.summary import summary
from demo.view.views import View, choose_view
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
"""Time after the last event in which the last windows close."""
STOP_TIMEOUT_S, ABORT_TIMEOUT_S = 4.0, 0.5
RECORDINGS = CHECKOUT / "recordings" / "demo"
RECORDED_TOPICS = ("affect_events", "ranked_items")
ENVIRONMENT = {"STREAMER_CONTEXT": "demo", "STREAMER_ACCEPT_LICENCES": "unsettled"}
READ_BATCH = 500
LINE_WIDTH = 1000  # without a terminal nothing is wrapped

Prepare = Callable[[Path, Progress], Source]


async def show(prepare: Prepare) -> int:
    """Play the source that `prepare` makes, in a thread and with a temporary folder, to its end or until cancelled.

    Raises:
        StreamerError: Kafka or the operators can't be started, or the media can't be read.
    """
    topology, progress = load_topology(CHECKOUT / "topology.yaml"), Progress()
    async with AsyncExitStack() as stack:
        work = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="affectstream-demo-", ignore_cleanup_errors=True))
        )
        stack.callback(progress.stop)
        preparing = asyncio.create_task(asyncio.to_thread(prepare, work, progress))
        server = await stack.enter_async_context(
            local_kafka(load_settings(brokers=None), progress=lambda step, share: progress("kafka", step, share))
        )
        stack.callback(_kill, server.pid)
        settings = load_settings(brokers=server.address)
        broker = KafkaBroker(settings)
        stack.push_async_callback(broker.close)
        progress("kafka", "starting the operators and their models")
        await broker.ensure_topics(topology.topic_specs())
        operators = Operators(work / "streamer.log", {**ENVIRONMENT, "STREAMER_BROKERS": server.address})
        stack.push_async_callback(operators.stop, ABORT_TIMEOUT_S)
        await _publish_setup(broker, topology)
        await asyncio.gather(operators.ready(), preparing)
        progress.done("kafka")
        playback = Playback(broker, topology, operators, preparing.result(), server.address)
        with playback:
            await playback.play()
        await operators.stop(STOP_TIMEOUT_S)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else LINE_WIDTH
    for line in playback.closing_lines():
        print(textwrap.fill(line, max(width - 1, 40), subsequent_indent="  ", break_on_hyphens=False))
    return 0


def _kill(pid: int) -> None:
    """Kill the demo's Kafka, which needs no orderly shutdown because its data are deleted."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


async def _publish_setup(broker: KafkaBroker, topology: Topology) -> None:
    """Publish the catalogue and the control record that turns on ranking by affect."""
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


class Playback:
    """Replays a source and reads the output topics, as any client would, for display and for `recordings/demo`."""

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
        self._recorded: dict[str, int] = {}
        self._resident_bytes = 0

    def __enter__(self) -> Playback:
        if self._source.is_recorded:
            RECORDINGS.mkdir(parents=True, exist_ok=True)
            paths = {topic: RECORDINGS / f"{topic}.jsonl" for topic in RECORDED_TOPICS}
            self._files = {topic: path.open("w", encoding="utf-8") for topic, path in paths.items()}
        self._view.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._view.stop()
        self._source.stop()
        for file in self._files.values():
            file.close()

    async def play(self) -> None:
        """Play from the first event until the last window has closed.

        Raises:
            StreamerError: the operators ended, Kafka is gone, or the source can't be read.
        """
        readers = [self._broker.consumer([topic], group=None, start_at="latest") for topic in TOPICS]
        await asyncio.gather(*(reader.start() for reader in readers))
        background = [asyncio.create_task(self._read(reader)) for reader in readers]
        background += [asyncio.create_task(self._draw()), asyncio.create_task(self._watch())]
        playing = asyncio.create_task(self._play())
        try:
            done, _ = await asyncio.wait([playing, *background], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._source.stop()
            for task in (playing, *background):
                task.cancel()
            await asyncio.gather(playing, *background, return_exceptions=True)
            with suppress(TimeoutError):
                async with asyncio.timeout(ABORT_TIMEOUT_S):
                    await asyncio.gather(*(reader.stop() for reader in readers))

    def closing_lines(self) -> list[str]:
        """The summary of the run, and where its events are recorded."""
        lines = ["", "What changed and why", *summary(self._board, self._resident_bytes), ""]
        if not self._source.is_recorded:
            return [*lines, "Nothing of it was stored."]
        where = ", ".join(f"{RECORDINGS.relative_to(CHECKOUT)}/{t}.jsonl ({n})" for t, n in self._recorded.items())
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
                    self._board.received(payload, now_ms)
                    self._record(message.topic, payload)

    def _decoded(self, message: Message) -> Keyed | None:
        schema = dict(message.headers).get(SCHEMA_HEADER)
        try:
            return decode(message.value, self._topology.topics[message.topic].type, schema.decode() if schema else None)
        except PayloadError:
            return None

    def _record(self, topic: str, payload: Keyed) -> None:
        file = self._files.get(topic)
        if file is not None:
            file.write(msgspec.json.encode(payload, order="sorted").decode() + "\n")
            self._recorded[topic] = self._recorded.get(topic, 0) + 1

    async def _draw(self) -> None:
        while True:
            self._view.draw(self._board.since_start(self._clock.now_ms()))
            await asyncio.sleep(self._view.every_s)

    async def _watch(self) -> None:
        """Raise when the operators end, and sample their memory."""
        while True:
            self._operators.check()
            self._resident_bytes = max(self._resident_bytes, self._operators.resident_bytes())
            await asyncio.sleep(1)
