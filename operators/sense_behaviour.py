"""Interactions in, observations of what they ask of the session out: intents by written rules, and nothing else.

What a person skips, leaves, finishes or likes says what they want of the session; it says nothing of how they feel. So
these observations hold no emotions and no VAD, and `fuse_affect` never takes them for evidence of either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from kernels.intents import BEHAVIOUR_RULES, NONE, Act, Behaviour, counts, from_behaviour, to_wire
from operators.consent import Gate
from operators.payloads import Interaction, Observation
from streamer.event_time import Duration
from streamer.operator import Context
from streamer.payloads import Refusal
from streamer.records import Origin, Record

MOST_ACTS = 64
"""Of a session, the newest by event time: nobody does more within the reach, but a script may."""
AFTER_REACH_MS = 20_000
"""What comes so much later than the reach, by Kafka time, is late for every window that counts what is held (DESIGN
§5: max_delay 15 s, max_skew 5 s)."""


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How acts are counted: those older than `reach` say nothing, others fade by `half_life`.

    A dwell shorter than `glance` is a glance, one of `stay` or more a stay; `doubt` is the weight of `none` against all
    evidence. Within a reach of 60 s, the windows' horizon, an observation that is repeated after a crash is a
    `duplicate`, not `late`.
    """

    half_life: Duration = Duration(30_000)
    reach: Duration = Duration(60_000)
    glance: Duration = Duration(3000)
    stay: Duration = Duration(30_000)
    doubt: float = 2.0

    def __post_init__(self) -> None:
        wrong = []
        if not 0 < self.half_life <= self.reach:
            wrong.append("half_life must be more than 0 and no longer than reach")
        if not 0 < self.glance <= self.stay:
            wrong.append("glance must be more than 0 and no longer than stay")
        if not self.doubt > 0:
            wrong.append("doubt must be more than 0")
        if wrong:
            raise ValueError("; ".join(wrong))

    def rules(self) -> Behaviour:
        """The kernel's rules with these numbers."""
        return Behaviour(
            reach_ms=int(self.reach),
            half_life_ms=int(self.half_life),
            glance_s=self.glance / 1000,
            stay_s=self.stay / 1000,
            doubt=self.doubt,
        )


class _Held(NamedTuple):
    """An interaction that counts, in the order in which a session's are kept, and its place in the log."""

    at_ms: int
    interaction_id: str
    kind: str
    value: float | None
    origin: Origin


class SenseBehaviour:
    """One observation for each interaction that says something; impressions, clicks and ratings say nothing.

    Each observation counts the session's acts within the reach before its own, so the newest one says it all; an act
    that comes after a later one is counted from the next one on, since what was said stands. What is held is the same
    set in whatever order the acts came, and however often: a re-read from `needs_from` repeats what is still to come.
    Without consent to `behaviour` nothing is held; in `expressions_only` nothing leaves either, since an act is no
    expression.
    """

    modality = "behaviour"

    def __init__(self, params: Params, context: Context) -> None:
        self._rules = params.rules()
        self._context = context
        self._gate = Gate(context, self.modality)
        self._acts: dict[str, list[_Held]] = {}
        self._heard_ms: dict[str, int] = {}  # Kafka time of a session's newest act
        self._newest_ms: dict[int, int] = {}  # Kafka time of a partition's newest record
        context.runs.models["behaviour"] = BEHAVIOUR_RULES

    async def open(self) -> None:
        """Check the declared use.

        Raises:
            RefusedUseError: this use is not accepted here.
        """
        self._gate.open()

    async def process(self, batch: Sequence[Record[Interaction]]) -> Sequence[Record[Observation | Refusal]]:
        """Interaction records in, observation records out, in the order of the batch."""
        out: list[Record[Any]] = []
        for record in batch:
            partition = record.origin.partition
            self._newest_ms[partition] = max(record.kafka_ms, self._newest_ms.get(partition, 0))
            act: Interaction = record.payload
            if not counts(Act(act.kind, 0, act.value), self._rules):
                continue
            verdict = self._gate.verdict(record)
            if verdict.allowed and verdict.mode == "full":
                out.append(record.derive(self._observation(record, self._hold(record))))
            elif verdict.reason is not None and verdict.disclosed:
                out.append(record.derive(self._gate.absent(record, verdict.reason, act.interaction_id)))
        return [*out, *self._gate.decisions()]

    def on_table(self, table: str, record: Record[Any]) -> Sequence[Record[Any]]:
        """A consent or control in; an `absent` observation out, and what is held dropped, where it ends a reading."""
        answers = self._gate.on_table(table, record)
        for answer in answers:
            if isinstance(answer.payload, Observation):
                self._drop(answer.key)
        return answers

    def needs_from(self, session_id: str) -> Origin | None:
        """The oldest act that still counts; None where none does, by the Kafka time of the session's partition."""
        held = self._acts.get(session_id)
        if not held:
            return None
        quiet_ms = self._newest_ms[held[0].origin.partition] - self._heard_ms[session_id]
        return None if quiet_ms > self._rules.reach_ms + AFTER_REACH_MS else min(act.origin for act in held)

    def forget(self, session_id: str) -> None:
        """Drop all acts held of a session, and what was decided of it."""
        self._drop(session_id)
        self._gate.forget(session_id)

    async def close(self) -> None:
        """Let all acts go."""
        self._acts.clear()
        self._heard_ms.clear()
        self._newest_ms.clear()

    def _drop(self, session_id: str) -> None:
        self._acts.pop(session_id, None)
        self._heard_ms.pop(session_id, None)

    def _hold(self, record: Record[Any]) -> list[Act]:
        """An interaction that counts in; it and the acts before it that count with it out, oldest first."""
        new: Interaction = record.payload
        at_ms = record.event_time_ms
        held = self._acts.get(record.key, [])
        if (at_ms, new.interaction_id) not in {(act.at_ms, act.interaction_id) for act in held}:
            held = sorted([*held, _Held(at_ms, new.interaction_id, new.kind, new.value, record.origin)])
        counted = [Act(a.kind, at_ms - a.at_ms, a.value) for a in held if 0 <= at_ms - a.at_ms <= self._rules.reach_ms]
        newest_ms = held[-1].at_ms
        self._acts[record.key] = [a for a in held if newest_ms - a.at_ms <= self._rules.reach_ms][-MOST_ACTS:]
        self._heard_ms[record.key] = max(record.kafka_ms, self._heard_ms.get(record.key, 0))
        return counted

    def _observation(self, record: Record[Any], acts: Sequence[Act]) -> Observation:
        p = from_behaviour(acts, self._rules)
        return Observation(
            session_id=record.key,
            event_time_ms=record.event_time_ms,
            modality=self.modality,
            source_id=record.payload.interaction_id,
            start_ms=record.event_time_ms,
            end_ms=record.event_time_ms,
            intents=to_wire(p.values()),
            confidence=round(1.0 - p[NONE], 6),
            quality={"acts": float(len(acts)), "span_s": max(act.age_ms for act in acts) / 1000},
            model=BEHAVIOUR_RULES,
            source_kafka_ms=record.kafka_ms,
        )
