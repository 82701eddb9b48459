"""What a command says to a person, which settings it reads, and how Ctrl-C ends it.

stdout is for data, stderr for people.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from streamer.errors import ConfigurationError, Problem
from streamer.payloads import Keyed
from streamer.settings import Settings, load_settings

if TYPE_CHECKING:
    from streamer.brokers.kafka.broker import KafkaBroker

EXIT_INTERRUPTED = 130


def say(line: str) -> None:
    """A line for the person at the terminal; stdout is for data."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def read_settings() -> Settings:
    """The settings of the environment; logging begins as they say."""
    settings = load_settings()
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    return settings


def to_json(payload: Keyed) -> str:
    """A payload to one line of JSON, keys sorted."""
    return msgspec.json.encode(payload, order="sorted").decode()


def write_text(path: Path, text: str) -> None:
    """Text to a file, whose folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def show_progress() -> Callable[[str, float | None], None]:
    """What to call with what is being done and how far it is (0 to 1, None: unknown): one line on stderr, rewritten."""
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


@asynccontextmanager
async def kafka(settings: Settings, *, own: bool = True) -> AsyncIterator[KafkaBroker]:
    """The Kafka of STREAMER_BROKERS, or where none is set and `own` allows it, one started here for as long as needed.

    Raises:
        ConfigurationError: none is set, and one of its own would be of no use to this command.
        LocalKafkaError: none is set, and none can be started.
    """
    from streamer.brokers.embedded.local_kafka import local_kafka
    from streamer.brokers.kafka.broker import KafkaBroker

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
    async with local_kafka(settings, progress=show_progress()) as server:
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


def counted(counts: Mapping[str, int]) -> str:
    """`3 chat_messages, 20 video_frames`: what there is none of is left out."""
    return ", ".join(f"{n} {name}" for name, n in sorted(counts.items()) if n)
