"""Shared by commands: status lines and progress, reading settings, connecting to Kafka, and ending at Ctrl-C.

stdout is for data, stderr for messages to the user.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from streamer.cli.leaving import EXIT_INTERRUPTED
from streamer.errors import ConfigurationError, Problem
from streamer.payloads import Keyed
from streamer.settings import Settings, load_settings

if TYPE_CHECKING:
    from streamer.brokers.kafka.broker import KafkaBroker


def print_status(line: str) -> None:
    """Print a line for the user on stderr, and flush."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def read_settings() -> Settings:
    """Read the settings from the environment, and set up logging with their `log_level`."""
    settings = load_settings()
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    return settings


def to_json(payload: Keyed) -> str:
    """Encode a payload as one line of JSON, keys sorted."""
    return msgspec.json.encode(payload, order="sorted").decode()


def write_text(path: Path, text: str) -> None:
    """Write text to a file as UTF-8; its folder is created if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def show_progress() -> Callable[[str, float | None], None]:
    """Return a callback that shows progress on stderr; a terminal that can, rewrites one line, cut to its width.

    It takes what is being done, and the fraction done from 0 to 1, or None while that is unknown.
    """
    last = ""
    rewrites = sys.stderr.isatty() and os.environ.get("TERM") not in (None, "", "dumb")

    def show(what: str, fraction: float | None) -> None:
        nonlocal last
        line = what if fraction is None else f"{what}: {fraction:4.0%}"
        if rewrites:
            sys.stderr.write(f"\r\033[K{line[: shutil.get_terminal_size().columns - 1]}")
            if fraction is None or fraction >= 1:
                sys.stderr.write("\n")
        elif what != last:
            sys.stderr.write(f"{what}\n")
        last = what
        sys.stderr.flush()

    return show


@asynccontextmanager
async def open_kafka(settings: Settings, *, start_local: bool = False) -> AsyncIterator[KafkaBroker]:
    """Connect to the Kafka of STREAMER_BROKERS; the connection is closed at the end of the block.

    Args:
        settings: address and credentials.
        start_local: where no address is set, run the embedded Kafka for the duration of the block.

    Raises:
        ConfigurationError: no address is set, and `start_local` is false.
        LocalKafkaError: the embedded Kafka cannot be started.
    """
    from streamer.brokers.embedded.local_kafka import local_kafka
    from streamer.brokers.kafka.broker import KafkaBroker

    if settings.brokers is None and not start_local:
        way_out = "say where Kafka is, host:port; `streamer broker` starts one and prints its address"
        raise ConfigurationError("environment", [Problem("STREAMER_BROKERS", way_out)])
    async with AsyncExitStack() as stack:
        address = settings.brokers
        if address is None:
            address = (await stack.enter_async_context(local_kafka(settings, progress=show_progress()))).address
            print_status(f"Kafka is at {address} (for this run only; STREAMER_BROKERS={address} lets others join)")
        broker = KafkaBroker(settings, address)
        stack.push_async_callback(broker.close)
        yield broker


def on_stop_signals(stop: Callable[[], None]) -> None:
    """Call `stop` at the first Ctrl-C or SIGTERM; a second one ends the process at once."""
    loop = asyncio.get_running_loop()

    def first(received: signal.Signals) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(each)
        if received == signal.SIGINT:
            print_status("stopping: finishing what is in hand (Ctrl-C again to drop it)")
        stop()

    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, first, each)


async def count_until_stopped(published: AsyncIterator[list[str]]) -> tuple[Counter[str], int]:
    """Count published records by topic until the end or Ctrl-C; returns the counts and the exit code."""
    task = asyncio.current_task()

    def stop() -> None:
        if task is not None:
            task.cancel()

    on_stop_signals(stop)
    counts: Counter[str] = Counter()
    try:
        async for topics in published:
            counts.update(topics)
    except asyncio.CancelledError:
        print_status("stopped in the middle")
        return counts, EXIT_INTERRUPTED
    return counts, 0


def format_counts(counts: Mapping[str, int]) -> str:
    """Format counts as `3 chat_messages, 20 video_frames`; zeros are left out."""
    return ", ".join(f"{n} {name}" for name, n in sorted(counts.items()) if n)
