"""A seed in, observations of many sessions out, published as they happen: silences, repeats, late ones, odd clocks.

In each partition three kinds of sessions go on at a time: `steady` (never silent), `moody` (falls silent, repeats
itself, is late; its clock is off by a different amount in each partition), and `brief` ones that come and go.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kernels import engines
from operators.payloads import MODALITIES, Modality, Observation
from streamer.broker import Broker, Outgoing
from streamer.brokers.partitioner import partition_for
from streamer.errors import BrokerUnreachableError
from streamer.event_time import Clock
from streamer.payloads import encode, headers_for

TOPIC = "observations"
FACE_EVERY_MS, VOICE_EVERY_MS, VOICE_WINDOW_MS, TEXT_EVERY_MS = 100, 250, 500, 5000
SENSING_MS = (15, 60)  # from the moment an observation describes until it is published
CLOCKS_OFF_MS = (3000, -9000, 5500, -16_000)  # of each partition's moody session: ahead, behind, refused, always late
BRIEF_MS = (4000, 12_000)
SLICE_MS = 20  # what falls into one slice is published at once


@dataclass(frozen=True, slots=True, order=True)
class Said:
    """One observation to come: when it is published and the moment it describes, in ms from the start."""

    at_ms: int
    session_id: str
    modality: Modality
    end_ms: int
    absent: bool
    salt: int
    """Repeats of one identity differ in it, and so in their values: only the first may count."""


def plan(seconds: int, partitions: int, seed: int) -> list[list[Said]]:
    """What is published to each partition, in order."""
    dice = [random.Random(seed * 97 + p) for p in range(partitions)]  # noqa: S311 - a load, not a secret
    return [sorted(_of_partition(p, seconds * 1000, partitions, dice[p])) for p in range(partitions)]


def _of_partition(partition: int, end_ms: int, partitions: int, dice: random.Random) -> Iterator[Said]:
    names = (f"{kind}-{n}" for n in itertools.count() for kind in ("steady", "moody", "brief"))
    ours = (name for name in names if partition_for(name.encode(), partitions) == partition)
    brief = (name for name in ours if name.startswith("brief"))
    yield from _session(next(n for n in ours if n.startswith("steady")), 0, end_ms, dice)
    off_ms = CLOCKS_OFF_MS[partition % len(CLOCKS_OFF_MS)]
    yield from _session(next(n for n in ours if n.startswith("moody")), 0, end_ms, dice, moody=True, off_ms=off_ms)
    start_ms = 500
    while start_ms < end_ms:
        length_ms = dice.randrange(*BRIEF_MS)
        yield from _session(next(brief), start_ms, min(start_ms + length_ms, end_ms), dice)
        start_ms += length_ms + dice.randrange(3000)


def _session(
    name: str, start_ms: int, end_ms: int, dice: random.Random, *, moody: bool = False, off_ms: int = 0
) -> Iterator[Said]:
    every: Mapping[Modality, int] = {"face": FACE_EVERY_MS, "voice": VOICE_EVERY_MS, "text": TEXT_EVERY_MS}
    for modality, every_ms in every.items():
        silent_until_ms = 0
        for moment_ms in range(start_ms + dice.randrange(every_ms), end_ms, every_ms):
            if moody and dice.random() < every_ms / 8000:  # about each 8 s
                silent_until_ms = moment_ms + dice.randrange(500, 4000)
            if moment_ms < silent_until_ms:
                continue
            late_ms = dice.randrange(300, 6000) if moody and dice.random() < 0.03 else 0  # noqa: PLR2004 - some are
            said = Said(
                moment_ms + dice.randrange(*SENSING_MS) + late_ms, name, modality, moment_ms + off_ms,
                absent=dice.random() < 0.1, salt=dice.randrange(1 << 30),  # noqa: PLR2004 - some are
            )  # fmt: skip
            yield said
            if moody and dice.random() < 0.05:  # noqa: PLR2004 - some are
                yield Said(said.at_ms + dice.randrange(900), name, modality, said.end_ms, said.absent, said.salt + 1)


async def publish(planned: Sequence[Sequence[Said]], broker: Broker, clock: Clock, start_ms: int) -> int:
    """Publish at the planned pace, each partition by its own producer; how many observations were acknowledged.

    What a broker that went away has not acknowledged is published again: its log, not the plan, is the truth.
    """
    return sum(await asyncio.gather(*(_play(each, broker, clock, start_ms) for each in planned)))


async def _play(planned: Sequence[Said], broker: Broker, clock: Clock, start_ms: int) -> int:
    specs = {spec.id.partition("@")[0]: spec for spec in engines.all_specs()}
    models = {str(modality): specs[f"{modality}_affect"] for modality in MODALITIES}
    slices = itertools.groupby(planned, lambda said: said.at_ms // SLICE_MS * SLICE_MS)
    due = [(due_ms, [_outgoing(said, start_ms, models) for said in slice_]) for due_ms, slice_ in slices]
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


def _outgoing(said: Said, start_ms: int, models: Mapping[str, Any]) -> Outgoing:
    dice, spec = random.Random(said.salt), models[said.modality]  # noqa: S311 - a load, not a secret
    weights = {name: dice.random() ** 3 for name in spec.prior}
    total, moment_ms = sum(weights.values()), start_ms + said.end_ms
    observation = Observation(
        session_id=said.session_id,
        event_time_ms=moment_ms,
        modality=said.modality,
        source_id=f"{said.modality}-1",
        start_ms=moment_ms - (VOICE_WINDOW_MS if said.modality == "voice" else 0),
        end_ms=moment_ms,
        emotions=None if said.absent else {name: w / total for name, w in weights.items()},
        confidence=0.0 if said.absent else round(dice.uniform(0.3, 0.95), 3),
        absent=said.absent,
        reason="no_face" if said.absent else None,
        model="" if said.absent else spec.id,
        source_kafka_ms=start_ms + said.at_ms,
    )
    return Outgoing(TOPIC, said.session_id.encode(), encode(observation), headers_for(observation))
