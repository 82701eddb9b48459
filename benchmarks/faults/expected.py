"""The whole log of observations in, all that must come of it out, as the slow oracle of the tests derives it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kernels import engines
from operators.fuse_affect import Params
from operators.payloads import AffectEvent, Observation
from streamer.broker import Message
from streamer.modality import Modality
from streamer.payloads import TICK_HEADER, decode
from streamer.topology.topology import OperatorSpec
from tests.streamer.windowing.oracle import Entry, Rules, reading_of
from tests.streamer.windowing.oracle_affect import affect_event

REFUSED_TO = {"late": "late_records", "clock_skew": "dead_letters"}


@dataclass(frozen=True, slots=True)
class Expected:
    """By partition: finals in their order, never closed windows by event_id; and refused records.

    `refusals` holds (topic that tells of it, partition, offset).
    """

    finals: Mapping[int, Sequence[AffectEvent]]
    open: Mapping[int, Sequence[str]]
    refusals: frozenset[tuple[str, int, int]]


def expected(log: Sequence[Message], spec: OperatorSpec, modalities: Mapping[str, Modality]) -> Expected:
    """Observations and ticks of all partitions, each partition in its order, to what the operator must write."""
    priors, params = {s.id: s.prior for s in engines.all_specs()}, spec.params
    rules = rules_of(spec, modalities)
    assert isinstance(params, Params)  # noqa: S101 - the topology was checked
    finals: dict[int, list[AffectEvent]] = {}
    still_open: dict[int, list[str]] = {}
    refusals: set[tuple[str, int, int]] = set()
    for partition in sorted({m.partition for m in log}):
        entries = [_entry(m) for m in log if m.partition == partition]
        payloads = {e.offset: e.payload for e in entries}
        reading = reading_of(entries, rules)
        finals[partition] = [
            affect_event(f, payloads, priors, modalities, prior=params.prior, abstain_below=params.abstain_below)
            for f in reading.finals
        ]
        still_open[partition] = [f"{session}:{end}" for _, session, end in reading.waiting]
        refusals |= {(REFUSED_TO[why], partition, at) for at, why in reading.refused.items() if why in REFUSED_TO}
    return Expected(finals, still_open, frozenset(refusals))


def rules_of(spec: OperatorSpec, modalities: Mapping[str, Modality]) -> Rules:
    """A topology's window as the oracle takes it."""
    w = spec.window
    assert w is not None  # noqa: S101 - the topology was checked
    return Rules(
        size=int(w.size), hop=int(w.hop), lateness=int(w.rule.lateness), idle_after=int(w.rule.idle_after),
        max_open=int(w.rule.max_open), sparse=w.rule.sparse, max_skew=int(w.max_skew), max_delay=int(w.max_delay),
        horizon=int(w.horizon), half_life_ms={name: int(modality.half_life) for name, modality in modalities.items()},
    )  # fmt: skip


def _entry(message: Message) -> Entry:
    tick = TICK_HEADER in dict(message.headers)
    return Entry(message.offset, message.timestamp_ms, None if tick else decode(message.value, Observation))
