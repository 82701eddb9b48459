"""The faults, each as it happens to a running stage: workers killed, stopped, swapped; brokers killed; everything."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.faults.workers import Worker
from streamer.brokers.embedded.local_kafka import LocalKafka

ZOMBIES_S = ((9.6, 10.1), (10.5, 15))  # as its session times out at 10 s, or well after
BEHIND_S = 3
CATCHING_UP_S = (0.02, 0.12)
AWAY_S = 5


@dataclass(slots=True)
class Stage:
    """A running Kafka and the workers on it, for a case to act on; `tell` gets what it does."""

    kafka: LocalKafka
    topology: Path
    folder: Path
    dice: random.Random
    tell: Callable[[str], None]
    workers: list[Worker] = field(default_factory=list)
    started: int = 0

    def hire(self, *, named: bool) -> Worker:
        """A worker to be started; the stage ends it if nobody else does."""
        self.started += 1
        name = f"worker-{self.started}"
        worker = Worker(self.topology, self.kafka.address, self.folder / f"{name}.log", name if named else None)
        self.workers.append(worker)
        return worker

    def twin_of(self, worker: Worker) -> Worker:
        """A worker to be started under the name of another one."""
        twin = Worker(self.topology, self.kafka.address, self.folder / f"{worker.name}-twin.log", worker.name)
        self.workers.append(twin)
        return twin

    async def clear(self) -> None:
        """End every worker, whatever its state."""
        for worker in self.workers:
            await worker.kill()


Act = Callable[[Stage, float], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Case:
    """A fault: what is done to the stage while the load goes on for some seconds; `static` names the workers."""

    title: str
    act: Act
    static: bool = True
    shortest_s: int = 30


async def _nothing(stage: Stage, seconds: float) -> None:
    del stage
    await asyncio.sleep(seconds)


async def _kill_worker(stage: Stage, seconds: float) -> None:
    for _ in range(3):
        await asyncio.sleep(seconds / 4 + stage.dice.uniform(0, 1))
        worker = stage.dice.choice(stage.workers)
        stage.tell(f"kill -9 {worker.name}, and start it again")
        await worker.kill()
        await worker.start()


async def _lose_worker(stage: Stage, seconds: float) -> None:
    await asyncio.sleep(seconds / 4 + stage.dice.uniform(0, 1))
    stage.tell("kill -9 a worker; the other is to take over after the session timeout")
    await stage.workers[0].kill()
    await asyncio.sleep(seconds / 2)
    stage.tell("start another one")
    await stage.hire(named=False).start()


async def _zombie(stage: Stage, seconds: float) -> None:
    for turn in range(max(int(seconds // 25), 2)):
        await asyncio.sleep(3 + stage.dice.uniform(0, 1))
        worker, stopped_s = stage.workers[turn % len(stage.workers)], stage.dice.uniform(*ZOMBIES_S[turn % 2])
        await _fill_hands(worker, stage.dice)
        stage.tell(f"SIGSTOP {worker.name}, with its hands full, for {stopped_s:.1f} s")
        worker.pause()
        await asyncio.sleep(stopped_s)
        stage.tell(f"SIGCONT {worker.name}")
        worker.wake()
        await asyncio.sleep(5)


async def _fill_hands(worker: Worker, dice: random.Random) -> None:
    """Let a worker fall behind and begin to catch up: what it has read by then, it would finish when it wakes up."""
    worker.pause()
    await asyncio.sleep(BEHIND_S)
    worker.wake()
    await asyncio.sleep(dice.uniform(*CATCHING_UP_S))


async def _twin(stage: Stage, seconds: float) -> None:
    for turn in range(2):
        await asyncio.sleep(seconds / 6 + stage.dice.uniform(0, 1))
        worker = stage.workers[turn]
        stage.tell(f"start another {worker.name} while the first goes on")
        twin = stage.twin_of(worker)
        await twin.start()
        await asyncio.sleep(seconds / 6)
        stage.tell(f"kill -9 the first {worker.name}")
        await worker.kill()


async def _kill_broker(stage: Stage, seconds: float) -> None:
    pause_s = max(seconds / len(stage.kafka.nodes) - AWAY_S - 4, 3)
    for number, node in enumerate(stage.kafka.nodes, 1):
        await asyncio.sleep(pause_s)
        stage.tell(f"kill -9 broker {number}; start it again {AWAY_S} s later")
        await asyncio.to_thread(node.kill)
        await asyncio.sleep(AWAY_S)
        await node.start()


async def _churn(stage: Stage, seconds: float) -> None:
    for turn in range(int(seconds // 5)):
        begun = asyncio.get_running_loop().time()
        if turn % 2:
            alive = [w for w in stage.workers if w.runs]
            stage.tell("a worker leaves")
            await alive[0].leave()
        else:
            stage.tell("a worker joins")
            await stage.hire(named=False).start()
        await asyncio.sleep(max(begun + 5 - asyncio.get_running_loop().time(), 0))


async def _restart_all(stage: Stage, seconds: float) -> None:
    await asyncio.sleep(seconds / 4)
    stage.tell("kill -9 all workers, and start them again")
    for worker in stage.workers:
        await worker.kill()
    await asyncio.gather(*(worker.start() for worker in stage.workers))
    await asyncio.sleep(seconds / 4)
    stage.tell("kill -9 all brokers, and start them again")
    for node in stage.kafka.nodes:
        await asyncio.to_thread(node.kill)
    for node in stage.kafka.nodes:
        node.launch()
    for node in stage.kafka.nodes:
        await node.start()


CASES = {
    "control": Case("undisturbed", _nothing, shortest_s=15),
    "kill_worker": Case("kill -9 a worker, three times; started again at once under its name", _kill_worker),
    "lose_worker": Case("kill -9 a worker; another takes over after the session timeout", _lose_worker, static=False),
    "zombie": Case("a busy worker stopped for longer than its session timeout and woken", _zombie, shortest_s=50),
    "twin": Case("a worker started under the name of one that runs", _twin),
    "kill_broker": Case(f"kill -9 each broker in turn; started again {AWAY_S} s later", _kill_broker),
    "churn": Case("a worker joins or leaves every 5 s, for a minute", _churn, static=False, shortest_s=60),
    "restart_all": Case("kill -9 all workers, later all brokers; started again at once", _restart_all),
}
