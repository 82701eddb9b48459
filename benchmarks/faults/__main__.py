"""`python -m benchmarks.faults`: faults caused for real, on a real Kafka, and what became of the finals.

Starts Kafka (three nodes unless told) and two `streamer run --only fuse_affect` for each case, publishes synthetic
observations of many sessions, causes the fault, waits until all is quiet, reads both logs and compares every final with
what the slow oracle derives from the whole log of observations. All clocks are this machine's.
The last line is the verdict; the exit code is 0 if every case was exact, 1 if not.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import command_line, machine
from benchmarks.faults.cases import CASES, Case, Cluster
from benchmarks.faults.expected import REFUSED_TOPICS, expected
from benchmarks.faults.judge import (
    EXAMPLES_PRINTED,
    Judgement,
    ReceivedFinal,
    closing_to_readable,
    judge,
    longest_gap_s,
)
from benchmarks.faults.load import plan, publish
from benchmarks.faults.workers import OPERATOR
from benchmarks.latency import Spread
from operators.payloads import AffectEvent
from streamer.broker import Broker, Message
from streamer.brokers.embedded.local_kafka import local_kafka
from streamer.brokers.kafka.broker import KafkaBroker
from streamer.errors import BrokerUnreachableError, StreamerError
from streamer.event_time import SystemClock
from streamer.payloads import DeadLetter, decode
from streamer.settings import load_settings
from streamer.topology.reading import load_topology
from streamer.topology.topology import Topology

FINALS = "affect_events"
LEAD_MS = 500
WARM_UP_S = 3
QUIET_MS = 2000
MISSING_TIMEOUT_S = 60  # a final that is missing for longer is lost
READ_TIMEOUT_S = 60
WORKERS = 2


@dataclass(frozen=True, slots=True)
class Run:
    """One case with its settings and figures; `wait_ms` is from the closing instant until a final is readable."""

    case: str
    nodes: int
    verification: bool
    seconds: int
    observations: int
    judgement: Judgement
    gap_s: float
    wait_ms: Spread
    died: int
    """Workers that ended by themselves."""

    @property
    def good(self) -> bool:
        """Whether every final is exact and no worker ended by itself."""
        return self.judgement.good and not self.died


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases; 0 if every one was exact, 1 if not, a StreamerError's exit code where one could not be run."""
    args = _parser().parse_args(arguments)
    try:
        return command_line.exit_code(lambda: asyncio.run(_main(args)), prefix="error: ")
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = command_line.argument_parser("faults", __doc__, keep_line_breaks=True)
    parser.add_argument("--nodes", type=int, nargs="+", choices=[1, 3], default=[3], help="of Kafka (3)")
    parser.add_argument("--verification", choices=["on", "off", "both"], default="off", help="of transactions (off)")
    parser.add_argument("--delivery", choices=["exactly_once", "at_least_once"], default="exactly_once")
    parser.add_argument("--seconds", type=int, default=60, metavar="N", help="of load in each case (60)")
    parser.add_argument("--short", action="store_true", help="each case only as long as it needs")
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES), metavar="CASE", help="of these")
    parser.add_argument("--seed", type=int, default=1, help="of the load and of the moments of the faults (1)")
    command_line.add_topology(parser)
    parser.add_argument("--logs", type=Path, metavar="DIR", help="keep records, workers' words, and all that is amiss")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the figures as a page of Markdown")
    return parser


async def _main(args: argparse.Namespace) -> int:
    facts, runs, failed = machine.describe(), list[Run](), list[str]()
    logging.disable(logging.ERROR)  # this process causes the outages: its clients needn't log them
    for nodes in args.nodes:
        for verification in {"on": [True], "off": [False], "both": [False, True]}[args.verification]:
            for name in args.only:
                seconds = CASES[name].shortest_s if args.short else max(args.seconds, CASES[name].shortest_s)
                where = f"{name}, {nodes} node{'s' * (nodes > 1)}, verification {'on' if verification else 'off'}"
                command_line.log(f"{where}: {CASES[name].title}; {seconds} s of load")
                with (
                    _topology_with(args.topology, args.delivery) as topology,
                    _folder_for(args.logs, where) as folder,
                ):
                    try:
                        run = await measure(
                            CASES[name], topology, folder, nodes=nodes, verification=verification,
                            seconds=seconds, seed=args.seed,
                        )  # fmt: skip
                    except (StreamerError, TimeoutError) as error:
                        command_line.log(f"  it went wrong: {error or 'it never came to rest'}")
                        failed.append(where)
                        continue
                runs.append(run)
                command_line.log(f"  {_summary(run)}")
                for example in run.judgement.examples[:EXAMPLES_PRINTED]:
                    command_line.log(f"    {example}")
                failed += [] if run.good else [where]
    about = [f"delivery {args.delivery}, seed {args.seed}, {WORKERS} workers, {datetime.now(UTC):%Y-%m-%d}"]
    about += machine.lines(facts)
    print("\n".join([*about, "", *table(runs)]))
    if args.table:
        args.table.write_text("\n".join(page(runs, about, _command(args))) + "\n", encoding="utf-8")
    print(f"verdict: {'all exact' if not failed else 'NOT exact: ' + '; '.join(failed)}")
    return 1 if failed else 0


async def measure(
    case: Case, topology: Path, folder: Path, *, nodes: int, verification: bool, seconds: int, seed: int
) -> Run:
    """Run one case on a Kafka of its own and return its figures.

    Raises:
        StreamerError: a worker could not be started, or did not end after SIGTERM.
    """
    clock, loaded, settings = SystemClock(), load_topology(topology), load_settings()
    received, tasks = list[ReceivedFinal](), list[asyncio.Task[Any]]()
    async with local_kafka(settings, nodes=nodes, verification=verification) as kafka:
        broker = KafkaBroker(settings, kafka.address)
        rng = random.Random(seed)  # noqa: S311 - of the moments of the faults
        cluster = Cluster(kafka, topology, folder, rng, lambda step: command_line.log(f"  {step}"))
        try:
            await broker.ensure_topics(loaded.topic_specs())
            await asyncio.gather(*(cluster.add_worker(named=case.static).start() for _ in range(WORKERS)))
            tasks.append(asyncio.create_task(_receive(broker, clock, received)))
            start_ms = clock.now_ms() + LEAD_MS
            planned = plan(seconds, int(loaded.partitions), seed)
            loading = asyncio.create_task(publish(planned, broker, clock, start_ms))
            tasks += [loading, asyncio.ensure_future(case.act(cluster, seconds))]
            await asyncio.gather(*tasks[1:])
            logs, judgement = await _final_logs(broker, loaded, clock, received)
            dead = [worker for worker in cluster.workers if worker.died]
            for worker in dead:
                command_line.log(f"  {worker.name or worker.pid} died:\n{worker.log_tail()}")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await cluster.stop()
            await broker.close()
    (folder / "amiss.txt").write_text("\n".join(judgement.examples), encoding="utf-8")
    (folder / "records.msgpack").write_bytes(msgspec.msgpack.encode(logs))
    gap_s = longest_gap_s(received, start_ms + WARM_UP_S * 1000, start_ms + seconds * 1000)
    return Run(
        case.title, nodes, verification, seconds, loading.result(), judgement, gap_s, closing_to_readable(received),
        len(dead),
    )  # fmt: skip


async def _final_logs(
    broker: Broker, topology: Topology, clock: SystemClock, received: Sequence[ReceivedFinal]
) -> tuple[list[Message], Judgement]:
    """Wait until every window has had time to close and no more finals arrive, then read and judge all records.

    Missing finals are waited for up to `MISSING_TIMEOUT_S`, since an outage can last longer than the quiet time.
    """
    window = topology.operators[OPERATOR].window
    assert window is not None  # noqa: S101 - the topology was checked
    await clock.sleep_ms(window.rule.max_open)
    end_ms = clock.now_ms() + MISSING_TIMEOUT_S * 1000
    while True:
        count = -1
        while count < len(received) and clock.now_ms() < end_ms:
            count = len(received)
            await clock.sleep_ms(QUIET_MS)
        logs = await read_all(broker, ["observations", FINALS, *REFUSED_TOPICS.values()])
        judgement = await asyncio.to_thread(_judgement, logs, topology)
        if judgement.finals and not judgement.lost or clock.now_ms() >= end_ms:
            return logs, judgement


def _judgement(logs: Sequence[Message], topology: Topology) -> Judgement:
    """Compare the topics' records with what the oracle derives from the observations among them."""
    due = expected([m for m in logs if m.topic == "observations"], topology.operators[OPERATOR], topology.modalities)
    got: dict[int, list[AffectEvent]] = {}
    for message in (m for m in logs if m.topic == FINALS):
        got.setdefault(message.partition, []).append(decode(message.value, AffectEvent))
    letters = [(m.topic, decode(m.value, DeadLetter)) for m in logs if m.topic in REFUSED_TOPICS.values()]
    return judge(due, got, [(topic, letter.partition, letter.offset) for topic, letter in letters])


async def _receive(broker: Broker, clock: SystemClock, received: list[ReceivedFinal]) -> None:
    """Append every final, from the beginning, to `received` as a consumer gets it."""
    consumer = broker.consumer([FINALS], group=None)
    await consumer.start()
    try:
        while True:
            try:
                messages = await consumer.poll(500, 100)
            except BrokerUnreachableError:
                continue
            now_ms = clock.now_ms()
            received += [ReceivedFinal(m.partition, decode(m.value, AffectEvent), now_ms) for m in messages]
    finally:
        await consumer.stop()


async def read_all(broker: Broker, topics: Sequence[str]) -> list[Message]:
    """Read every committed record of some topics, each partition in its order."""
    consumer = broker.consumer(topics, group=None)
    await consumer.start()
    try:
        ends = dict(await consumer.end_offsets())
        messages: list[Message] = []
        async with asyncio.timeout(READ_TIMEOUT_S):
            while any((consumer.position(p) or 0) < end for p, end in ends.items()):
                messages += await consumer.poll(500, 100)
    finally:
        await consumer.stop()
    return messages


def table(runs: Sequence[Run]) -> list[str]:
    """Write the runs as a Markdown table."""
    rows = [
        f"| {r.case} | {r.nodes} | {'on' if r.verification else 'off'} | {r.judgement.finals} "
        f"| {r.judgement.lost} | {r.judgement.repeated} | {r.judgement.wrong} | {r.judgement.disordered} "
        f"| {r.judgement.refusals} | {r.died} "
        f"| {r.gap_s:.1f} | {r.wait_ms.p50:.0f} | {r.wait_ms.p95:.0f} |"
        for r in runs
    ]
    return [
        "| fault | nodes | verification | finals | lost | repeated | wrong | out of order | refusals amiss "
        "| workers died | longest gap, s | closing -> readable p50, ms | p95 |",
        "|" + "---|" * 13,
        *rows,
    ]


def page(runs: Sequence[Run], about: Sequence[str], command: str) -> list[str]:
    """Write the table as a page of the docs, with the command that made it and the meaning of its columns."""
    return [
        "# What faults do to finals",
        "",
        f"Made by `{command}`.",
        "",
        *(f"- {line}" for line in about),
        "",
        *table(runs),
        "",
        "Each row is a Kafka of its own, started for it, with real worker processes, a load of synthetic",
        "observations of many sessions (silences, repeats, late ones, wrong clocks), and the fault caused for",
        "real. Afterwards both logs are read: `affect_events` must hold, committed, exactly the finals that a slow",
        "oracle derives from the whole log of observations. *Lost*: due and not there. *Repeated*: there more than",
        "once. *Wrong*: any field but `emitted_at_ms` differs. *Out of order*: within a partition. *Refusals",
        "amiss*: late records and dead letters that are missing, repeated or without cause. *Workers died*: of",
        "themselves. *Longest gap*: the longest time that a partition showed no new final while its sessions went",
        "on; a worker that is stopped has been stopped for 3 s just before, too. *Closing -> readable*: from a",
        "window's closing instant until a `read_committed` consumer has its final; with a fault, the finals that",
        "waited for it are among them. A member's session times out after 10 s; a broker's after 3 s here, where",
        "Kafka's default is 9 s.",
    ]


def _command(args: argparse.Namespace) -> str:
    """The command line that repeats this run."""
    length = "--short" if args.short else f"--seconds {args.seconds}"
    some = "" if args.only == list(CASES) else f" --only {' '.join(args.only)}"
    nodes = " ".join(map(str, args.nodes))
    return f"python -m benchmarks.faults --nodes {nodes} --verification {args.verification} {length}{some}"


def _summary(run: Run) -> str:
    j = run.judgement
    return (
        f"{run.observations} observations, {j.finals} finals: {j.lost} lost, {j.repeated} repeated, {j.wrong} wrong, "
        f"{j.disordered} out of order, {j.refusals} refusals amiss, {run.died} workers died; "
        f"longest gap {run.gap_s:.1f} s, closing -> readable p50 {run.wait_ms.p50:.0f} ms, p95 {run.wait_ms.p95:.0f} ms"
    )


@contextmanager
def _topology_with(path: Path, delivery: str) -> Iterator[Path]:
    """Write a temporary copy of a topology file with another `delivery` of fuse_affect."""
    text, changed = re.subn(r"(?m)^(    delivery:) \w+", rf"\1 {delivery}", path.read_text(encoding="utf-8"))
    if changed != 1:
        raise StreamerError(f"{path} should say `delivery` once, for fuse_affect; it says it {changed} times")
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        copy = Path(folder) / path.name
        copy.write_text(text, encoding="utf-8")
        yield copy


@contextmanager
def _folder_for(logs: Path | None, name: str) -> Iterator[Path]:
    """Make the folder for a case's files: below `--logs`, or a temporary one."""
    if logs is not None:
        folder = logs / re.sub(r"\W+", "-", name)
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="faults-") as temporary:
        yield Path(temporary)


if __name__ == "__main__":
    sys.exit(main())
