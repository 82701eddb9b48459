"""The real path on this machine: an embedded Kafka and the pipeline as a child process, ready to be measured."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from streamer.brokers.embedded.jars import Progress
from streamer.brokers.embedded.local_kafka import LocalKafka, local_kafka
from streamer.brokers.kafka.broker import KafkaBroker
from streamer.errors import StreamerError
from streamer.settings import Settings, load_settings

READY_S = 180
STOP_S = 20
LAST_WORDS = 30


@dataclass(slots=True)
class RealPath:
    """A running pipeline: the broker to talk to, the child process, and what the child said."""

    broker: KafkaBroker
    kafka: LocalKafka
    pipeline: psutil.Process
    said: list[str] = field(default_factory=list)

    def resident_bytes(self) -> int:
        """Resident memory of the pipeline's processes together, Kafka apart."""
        family = [self.pipeline, *self.pipeline.children(recursive=True)]
        return sum(p.memory_info().rss for p in family)

    def cpu_s(self) -> float:
        """CPU seconds the pipeline has used so far, both user and system."""
        times = self.pipeline.cpu_times()
        return float(times.user + times.system)


def benchmark_settings() -> Settings:
    """Settings of a benchmark: research on recorded material, with the models' unsettled licences accepted for it."""
    os.environ.setdefault("STREAMER_CONTEXT", "research")
    os.environ.setdefault("STREAMER_ACCEPT_LICENCES", "unsettled")
    return load_settings()


@asynccontextmanager
async def real_path(
    topology: Path, settings: Settings, *, queue_all: bool = False, progress: Progress | None = None
) -> AsyncIterator[RealPath]:
    """Start Kafka and `python -m streamer run` on it; both are gone when the block ends.

    Args:
        topology: the picture to run.
        settings: of the child too; its brokers are set here.
        queue_all: run the child under STREAMER_QUEUE=all: nothing is dropped for being old.
        progress: told what is being waited for.

    Raises:
        StreamerError: the pipeline ended, or was not ready in time; its last words.
    """
    async with local_kafka(settings, progress=progress) as kafka:
        environment = {**os.environ, "STREAMER_BROKERS": kafka.address}
        if queue_all:
            environment["STREAMER_QUEUE"] = "all"
        if progress:
            progress("starting the pipeline", None)
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "streamer", "run", "--topology", str(topology),
            env=environment, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        broker = KafkaBroker(settings, kafka.address)
        path = RealPath(broker, kafka, psutil.Process(child.pid))
        ready = asyncio.Event()
        listening = asyncio.create_task(_listen(child, path.said, ready.set))
        try:
            await _until_ready(child, ready, path.said)
            yield path
        finally:
            await broker.close()
            await _stop(child)
            await listening


async def _listen(child: asyncio.subprocess.Process, said: list[str], ready: Callable[[], None]) -> None:
    assert child.stderr is not None  # noqa: S101 - it was asked for
    async for line in child.stderr:
        said.append(line.decode(errors="replace").rstrip())
        if said[-1].startswith("ready:"):
            ready()
    ready()


async def _until_ready(child: asyncio.subprocess.Process, ready: asyncio.Event, said: list[str]) -> None:
    try:
        await asyncio.wait_for(ready.wait(), READY_S)
    except TimeoutError:
        raise StreamerError(f"the pipeline was not ready within {READY_S} s:\n{_tail(said)}") from None
    if not any(line.startswith("ready:") for line in said):
        code = await child.wait()
        raise StreamerError(f"the pipeline ended with exit code {code}:\n{_tail(said)}")


async def _stop(child: asyncio.subprocess.Process) -> None:
    if child.returncode is None:
        child.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(child.wait(), STOP_S)
        except TimeoutError:
            child.kill()
            await child.wait()


def _tail(said: list[str]) -> str:
    return "\n".join(said[-LAST_WORDS:])
