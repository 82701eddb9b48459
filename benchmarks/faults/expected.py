"""Derive from the full log of observations, by the slow oracle of the tests, which records must result."""

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

REFUSED_TOPICS = {"late": "late_records", "clock_skew": "dead_letters"}


@dataclass(frozen=True, slots=True)
class Expected:
    """By partition the finals in order and the `event_id` of windows that never closed; and the refused observations.

    `refusals` holds (topic of the late record or dead letter, partition, offset of the observation).
    """

    finals: Mapping[int, Sequence[AffectEvent]]
    open: Mapping[int, Sequence[str]]
    refusals: frozenset[tuple[str, int, int]]


def expected(log: Sequence[Message], spec: OperatorSpec, modalities: Mapping[str, Modality]) -> Expected:
    """Derive what the fuser must write from the observations and ticks, each partition in the order of its log."""
    priors, params = {s.id: s.prior for s in engines.all_specs()}, spec.params
    rules = rules_of(spec, modalities)
    assert isinstance(params, Params)  # noqa: S101 - the topology was checked
    finals: dict[int, list[AffectEvent]] = {}
    still_open: dict[int, list[str]] = {}
    refusals: set[tuple[str, int, int]] = set()
    for partition in sorted({m.partition for m in log}):
        entries = [_entry(m) for m in log if m.partition == partition]
        payloads = {e.offset: e.payload for e in entries}
        result = reading_of(entries, rules)
        finals[partition] = [
            affect_event(f, payloads, priors, modalities, prior=params.prior, abstain_below=params.abstain_below)
            for f in result.finals
        ]
        still_open[partition] = [f"{session}:{end}" for _, session, end in result.waiting]
        refused = [(reason, offset) for offset, reason in result.refused.items() if reason in REFUSED_TOPICS]
        refusals |= {(REFUSED_TOPICS[reason], partition, offset) for reason, offset in refused}
    return Expected(finals, still_open, frozenset(refusals))


def rules_of(spec: OperatorSpec, modalities: Mapping[str, Modality]) -> Rules:
    """Convert an operator's window to the oracle's rules."""
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
