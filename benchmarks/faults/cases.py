"""The fault cases: each kills, pauses, doubles or restarts workers or brokers of a running cluster."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.faults.workers import Worker
from streamer.brokers.embedded.local_kafka import LocalKafka

PAUSES_S = ((9.6, 10.1), (10.5, 15))  # about when the worker's session times out at 10 s, and well after
BACKLOG_S = 3
CATCHING_UP_S = (0.02, 0.12)
BROKER_DOWN_S = 5


@dataclass(slots=True)
class Cluster:
    """A running Kafka and its workers, which a case disturbs; it reports each step to `on_progress`."""

    kafka: LocalKafka
    topology: Path
    folder: Path
    rng: random.Random
    on_progress: Callable[[str], None]
    workers: list[Worker] = field(default_factory=list)
    started: int = 0

    def add_worker(self, *, named: bool) -> Worker:
        """Make a worker, not yet started; `stop` ends it."""
        self.started += 1
        name = f"worker-{self.started}"
        worker = Worker(self.topology, self.kafka.address, self.folder / f"{name}.log", name if named else None)
        self.workers.append(worker)
        return worker

    def twin_of(self, worker: Worker) -> Worker:
        """Make a worker with the name of another one, not yet started."""
        twin = Worker(self.topology, self.kafka.address, self.folder / f"{worker.name}-twin.log", worker.name)
        self.workers.append(twin)
        return twin

    async def stop(self) -> None:
        """Kill every worker."""
        for worker in self.workers:
            await worker.kill()


Act = Callable[[Cluster, float], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Case:
    """A fault: `act` causes it during so many seconds of load; with `static` the workers have names."""

    title: str
    act: Act
    static: bool = True
    shortest_s: int = 30


async def _nothing(cluster: Cluster, seconds: float) -> None:
    del cluster
    await asyncio.sleep(seconds)


async def _kill_worker(cluster: Cluster, seconds: float) -> None:
    for _ in range(3):
        await asyncio.sleep(seconds / 4 + cluster.rng.uniform(0, 1))
        worker = cluster.rng.choice(cluster.workers)
        cluster.on_progress(f"kill -9 {worker.name}, and start it again")
        await worker.kill()
        await worker.start()


async def _lose_worker(cluster: Cluster, seconds: float) -> None:
    await asyncio.sleep(seconds / 4 + cluster.rng.uniform(0, 1))
    cluster.on_progress("kill -9 a worker; the other is to take over after the session timeout")
    await cluster.workers[0].kill()
    await asyncio.sleep(seconds / 2)
    cluster.on_progress("start another one")
    await cluster.add_worker(named=False).start()


async def _zombie(cluster: Cluster, seconds: float) -> None:
    for turn in range(max(int(seconds // 25), 2)):
        await asyncio.sleep(3 + cluster.rng.uniform(0, 1))
        worker, stopped_s = cluster.workers[turn % len(cluster.workers)], cluster.rng.uniform(*PAUSES_S[turn % 2])
        await _build_backlog(worker, cluster.rng)
        cluster.on_progress(f"SIGSTOP {worker.name}, with its hands full, for {stopped_s:.1f} s")
        worker.pause()
        await asyncio.sleep(stopped_s)
        cluster.on_progress(f"SIGCONT {worker.name}")
        worker.resume()
        await asyncio.sleep(5)


async def _build_backlog(worker: Worker, rng: random.Random) -> None:
    """Let a worker fall behind and begin to catch up, so that the next pause finds it in the middle of a batch."""
    worker.pause()
    await asyncio.sleep(BACKLOG_S)
    worker.resume()
    await asyncio.sleep(rng.uniform(*CATCHING_UP_S))


async def _twin(cluster: Cluster, seconds: float) -> None:
    for turn in range(2):
        await asyncio.sleep(seconds / 6 + cluster.rng.uniform(0, 1))
        worker = cluster.workers[turn]
        cluster.on_progress(f"start another {worker.name} while the first goes on")
        twin = cluster.twin_of(worker)
        await twin.start()
        await asyncio.sleep(seconds / 6)
        cluster.on_progress(f"kill -9 the first {worker.name}")
        await worker.kill()


async def _kill_broker(cluster: Cluster, seconds: float) -> None:
    pause_s = max(seconds / len(cluster.kafka.nodes) - BROKER_DOWN_S - 4, 3)
    for number, node in enumerate(cluster.kafka.nodes, 1):
        await asyncio.sleep(pause_s)
        cluster.on_progress(f"kill -9 broker {number}; start it again {BROKER_DOWN_S} s later")
        await asyncio.to_thread(node.kill)
        await asyncio.sleep(BROKER_DOWN_S)
        await node.start()


async def _churn(cluster: Cluster, seconds: float) -> None:
    for turn in range(int(seconds // 5)):
        start_s = asyncio.get_running_loop().time()
        if turn % 2:
            alive = [w for w in cluster.workers if w.is_running]
            cluster.on_progress("a worker leaves")
            await alive[0].leave()
        else:
            cluster.on_progress("a worker joins")
            await cluster.add_worker(named=False).start()
        await asyncio.sleep(max(start_s + 5 - asyncio.get_running_loop().time(), 0))


async def _restart_all(cluster: Cluster, seconds: float) -> None:
    await asyncio.sleep(seconds / 4)
    cluster.on_progress("kill -9 all workers, and start them again")
    for worker in cluster.workers:
        await worker.kill()
    await asyncio.gather(*(worker.start() for worker in cluster.workers))
    await asyncio.sleep(seconds / 4)
    cluster.on_progress("kill -9 all brokers, and start them again")
    for node in cluster.kafka.nodes:
        await asyncio.to_thread(node.kill)
    for node in cluster.kafka.nodes:
        node.launch()
    for node in cluster.kafka.nodes:
        await node.start()


CASES = {
    "control": Case("undisturbed", _nothing, shortest_s=15),
    "kill_worker": Case("kill -9 a worker, three times; started again at once under its name", _kill_worker),
    "lose_worker": Case("kill -9 a worker; another takes over after the session timeout", _lose_worker, static=False),
    "zombie": Case("a busy worker stopped for longer than its session timeout and woken", _zombie, shortest_s=50),
    "twin": Case("a worker started under the name of one that runs", _twin),
    "kill_broker": Case(f"kill -9 each broker in turn; started again {BROKER_DOWN_S} s later", _kill_broker),
    "churn": Case("a worker joins or leaves every 5 s, for a minute", _churn, static=False, shortest_s=60),
    "restart_all": Case("kill -9 all workers, later all brokers; started again at once", _restart_all),
}
