"""Senses feedback on items: intents of the session by written rules, never emotions.

What a person skips, leaves, finishes or likes shows what they want of the session, not how they feel. So these
observations have no emotions and no valence, and their modality is declared as no evidence of emotions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from kernels.intents import FEEDBACK_RULES_ID, NONE, Feedback, FeedbackRules, from_feedback, is_informative, to_wire
from operators.consent import ConsentGate
from operators.payloads import Interaction, Observation
from streamer.event_time import Duration
from streamer.operator import Context
from streamer.payloads import Refusal
from streamer.records import Origin, Record

MAX_BUFFERED = 64
"""Per session, the newest by event time: nobody does more within the reach, but a script may."""
AFTER_REACH_MS = 20_000
"""A record this much later than the reach, by Kafka time, is late for every window that the buffered feedback is in
(DESIGN §5: max_delay 15 s, max_skew 5 s)."""


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How feedback is counted: what is older than `reach` is ignored, the rest weighs half after each `half_life`.

    A dwell shorter than `glance` counts as a glance, one of `stay` or longer as a stay; `doubt` is the weight of the
    intent `none` against all evidence. With a reach of 60 s, the windows' horizon, an observation that is repeated
    after a crash is a `duplicate`, not `late`.
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

    def rules(self) -> FeedbackRules:
        """The kernel's rules with these numbers."""
        return FeedbackRules(
            reach_ms=int(self.reach),
            half_life_ms=int(self.half_life),
            glance_s=self.glance / 1000,
            stay_s=self.stay / 1000,
            doubt=self.doubt,
        )


class _Buffered(NamedTuple):
    """An interaction that counts, with its origin; sorted by event time, then id."""

    at_ms: int
    interaction_id: str
    kind: str
    value: float | None
    origin: Origin


class SenseBehaviour:
    """One observation for each interaction that counts; impressions, clicks and ratings don't.

    An observation counts all feedback of the session within the reach before it, so the newest one is enough. Feedback
    that arrives after later feedback is counted from the next observation on. The buffer is the same set in whatever
    order records arrive, and however often, so that reading again from `needs_from` gives the same observations.
    Without consent nothing is buffered; in the mode `expressions_only` nothing is written, as feedback is no
    expression.
    """

    modality = "behaviour"

    def __init__(self, params: Params, context: Context) -> None:
        self._rules = params.rules()
        self._context = context
        self._gate = ConsentGate(context, self.modality, drop=self._drop)
        self._buffered: dict[str, list[_Buffered]] = {}
        self._last_feedback_ms: dict[str, int] = {}  # Kafka time of a session's newest feedback
        self._newest_ms: dict[int, int] = {}  # Kafka time of a partition's newest record
        context.runs.models["behaviour"] = FEEDBACK_RULES_ID

    async def open(self) -> None:
        """Check the declared use.

        Raises:
            RefusedUseError: this use is not accepted here.
        """
        self._gate.open()

    async def process(self, batch: Sequence[Record[Interaction]]) -> Sequence[Record[Observation | Refusal]]:
        """One observation for each interaction that counts, in the order of the batch."""
        out: list[Record[Any]] = []
        for record in batch:
            partition = record.origin.partition
            self._newest_ms[partition] = max(record.kafka_ms, self._newest_ms.get(partition, 0))
            act: Interaction = record.payload
            if not is_informative(Feedback(act.kind, 0, act.value), self._rules):
                continue
            verdict = self._gate.verdict(record)
            if verdict.allowed and verdict.mode == "full":
                out.append(record.derive(self._observation(record, self._buffer(record))))
            else:
                out += self._gate.refused(record, verdict, act.interaction_id)
        return [*out, *self._gate.decisions()]

    def on_table(self, table: str, record: Record[Any]) -> Sequence[Record[Any]]:
        """Take in a consent or control; returns `absent` observations for the sessions whose reading it ends."""
        return self._gate.on_table(table, record)

    def needs_from(self, session_id: str) -> Origin | None:
        """The oldest interaction that still counts, by the Kafka time of its partition; None where none does."""
        buffered = self._buffered.get(session_id)
        if not buffered:
            return None
        quiet_ms = self._newest_ms[buffered[0].origin.partition] - self._last_feedback_ms[session_id]
        return None if quiet_ms > self._rules.reach_ms + AFTER_REACH_MS else min(act.origin for act in buffered)

    def forget(self, session_id: str) -> None:
        """Drop a session's buffered feedback and decisions."""
        self._gate.forget(session_id)

    async def close(self) -> None:
        """Drop all buffered feedback."""
        self._buffered.clear()
        self._last_feedback_ms.clear()
        self._newest_ms.clear()

    def _drop(self, session_id: str) -> None:
        self._buffered.pop(session_id, None)
        self._last_feedback_ms.pop(session_id, None)

    def _buffer(self, record: Record[Any]) -> list[Feedback]:
        """Buffer an interaction; returns it and the buffered feedback before it that counts with it, oldest first."""
        new: Interaction = record.payload
        at_ms = record.event_time_ms
        buffered = self._buffered.get(record.key, [])
        if (at_ms, new.interaction_id) not in {(act.at_ms, act.interaction_id) for act in buffered}:
            buffered = sorted([*buffered, _Buffered(at_ms, new.interaction_id, new.kind, new.value, record.origin)])
        reach_ms = self._rules.reach_ms
        counted = [Feedback(a.kind, at_ms - a.at_ms, a.value) for a in buffered if 0 <= at_ms - a.at_ms <= reach_ms]
        newest_ms = buffered[-1].at_ms
        self._buffered[record.key] = [a for a in buffered if newest_ms - a.at_ms <= reach_ms][-MAX_BUFFERED:]
        self._last_feedback_ms[record.key] = max(record.kafka_ms, self._last_feedback_ms.get(record.key, 0))
        return counted

    def _observation(self, record: Record[Any], acts: Sequence[Feedback]) -> Observation:
        p = from_feedback(acts, self._rules)
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
            model=FEEDBACK_RULES_ID,
            source_kafka_ms=record.kafka_ms,
        )
