"""Generate and publish observations of many sessions in real time, with silences, repeats, late ones and wrong clocks.

In each partition there are three kinds of sessions at a time: `steady` (never silent), `moody` (silent at times,
repeated and late observations, a clock that is wrong by a different amount in each partition), and a series of `brief`
ones.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kernels import engines
from operators.payloads import Observation
from streamer.broker import Broker, Outgoing
from streamer.brokers.partitioner import partition_for
from streamer.errors import BrokerUnreachableError
from streamer.event_time import Clock
from streamer.payloads import encode, headers_for

TOPIC = "observations"
FACE_EVERY_MS, VOICE_EVERY_MS, VOICE_WINDOW_MS, TEXT_EVERY_MS = 100, 250, 500, 5000
SENSING_MS = (15, 60)  # from the event time of an observation until it is published
CLOCK_ERRORS_MS = (3000, -9000, 5500, -16_000)  # of each partition's moody session: ahead, behind, refused, always late
BRIEF_MS = (4000, 12_000)
SLICE_MS = 20  # observations of one slice are published together


@dataclass(frozen=True, slots=True, order=True)
class PlannedObservation:
    """An observation to publish at `at_ms` with the event time `end_ms`, both in ms from the start."""

    at_ms: int
    session_id: str
    modality: str
    end_ms: int
    absent: bool
    salt: int
    """Seed of the values: a repeated observation has another one, so using it instead of the first is noticed."""


def plan(seconds: int, partitions: int, seed: int) -> list[list[PlannedObservation]]:
    """Plan what is published to each partition, in order."""
    rngs = [random.Random(seed * 97 + p) for p in range(partitions)]  # noqa: S311 - a load, not a secret
    return [sorted(_of_partition(p, seconds * 1000, partitions, rngs[p])) for p in range(partitions)]


def _of_partition(partition: int, end_ms: int, partitions: int, rng: random.Random) -> Iterator[PlannedObservation]:
    names = (f"{kind}-{n}" for n in itertools.count() for kind in ("steady", "moody", "brief"))
    names_here = (name for name in names if partition_for(name.encode(), partitions) == partition)
    brief = (name for name in names_here if name.startswith("brief"))
    yield from _session(next(n for n in names_here if n.startswith("steady")), 0, end_ms, rng)
    clock_error_ms = CLOCK_ERRORS_MS[partition % len(CLOCK_ERRORS_MS)]
    moody = next(n for n in names_here if n.startswith("moody"))
    yield from _session(moody, 0, end_ms, rng, moody=True, clock_error_ms=clock_error_ms)
    start_ms = 500
    while start_ms < end_ms:
        length_ms = rng.randrange(*BRIEF_MS)
        yield from _session(next(brief), start_ms, min(start_ms + length_ms, end_ms), rng)
        start_ms += length_ms + rng.randrange(3000)


def _session(
    name: str, start_ms: int, end_ms: int, rng: random.Random, *, moody: bool = False, clock_error_ms: int = 0
) -> Iterator[PlannedObservation]:
    every = {"face": FACE_EVERY_MS, "voice": VOICE_EVERY_MS, "text": TEXT_EVERY_MS}
    for modality, every_ms in every.items():
        silent_until_ms = 0
        for moment_ms in range(start_ms + rng.randrange(every_ms), end_ms, every_ms):
            if moody and rng.random() < every_ms / 8000:  # about each 8 s
                silent_until_ms = moment_ms + rng.randrange(500, 4000)
            if moment_ms < silent_until_ms:
                continue
            late_ms = rng.randrange(300, 6000) if moody and rng.random() < 0.03 else 0  # noqa: PLR2004 - some are
            planned = PlannedObservation(
                moment_ms + rng.randrange(*SENSING_MS) + late_ms, name, modality, moment_ms + clock_error_ms,
                absent=rng.random() < 0.1, salt=rng.randrange(1 << 30),  # noqa: PLR2004 - some are
            )  # fmt: skip
            yield planned
            if moody and rng.random() < 0.05:  # noqa: PLR2004 - some are
                at_ms = planned.at_ms + rng.randrange(900)
                yield replace(planned, at_ms=at_ms, salt=planned.salt + 1)


async def publish(planned: Sequence[Sequence[PlannedObservation]], broker: Broker, clock: Clock, start_ms: int) -> int:
    """Publish at the planned pace, with one producer for each partition, and return the number of observations.

    What a broker has not acknowledged when it went away is published again, so the topic can hold more than the plan;
    the oracle reads the topic.
    """
    return sum(await asyncio.gather(*(_play(each, broker, clock, start_ms) for each in planned)))


async def _play(planned: Sequence[PlannedObservation], broker: Broker, clock: Clock, start_ms: int) -> int:
    specs = {spec.id.partition("@")[0]: spec for spec in engines.all_specs()}
    models = {modality: specs[f"{modality}_affect"] for modality in ("face", "voice", "text")}
    slices = itertools.groupby(planned, lambda planned: planned.at_ms // SLICE_MS * SLICE_MS)
    due = [(due_ms, [_outgoing(each, start_ms, models) for each in slice_]) for due_ms, slice_ in slices]
    sent = 0
    while sent < len(due):
        producer = broker.producer()
        try:
            await producer.start()
            for due_ms, outgoing in due[sent:]:
                await clock.sleep_ms(start_ms + due_ms - clock.now_ms())
                await producer.send(outgoing)
                sent += 1
        except BrokerUnreachableError:
            await clock.sleep_ms(100)
        finally:
            await producer.stop()
    return len(planned)


def _outgoing(planned: PlannedObservation, start_ms: int, models: Mapping[str, Any]) -> Outgoing:
    rng, spec = random.Random(planned.salt), models[planned.modality]  # noqa: S311 - a load, not a secret
    weights = {name: rng.random() ** 3 for name in spec.prior}
    total, moment_ms = sum(weights.values()), start_ms + planned.end_ms
    observation = Observation(
        session_id=planned.session_id,
        event_time_ms=moment_ms,
        modality=planned.modality,
        source_id=f"{planned.modality}-1",
        start_ms=moment_ms - (VOICE_WINDOW_MS if planned.modality == "voice" else 0),
        end_ms=moment_ms,
        emotions=None if planned.absent else {name: w / total for name, w in weights.items()},
        confidence=0.0 if planned.absent else round(rng.uniform(0.3, 0.95), 3),
        absent=planned.absent,
        reason="no_face" if planned.absent else None,
        model="" if planned.absent else spec.id,
        source_kafka_ms=start_ms + planned.at_ms,
    )
    return Outgoing(TOPIC, planned.session_id.encode(), encode(observation), headers_for(observation))
