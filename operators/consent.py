"""The gate of responsible use: may this modality of this session be read now, and may this deployment sense at all.

Consent covers one person and fails closed (DESIGN §9). The gate is asked before any decoding or encoder call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from operators.payloads import Consent, Control, Modality, Mode, Observation
from streamer.errors import RefusedUseError
from streamer.operator import Context
from streamer.records import Record

ALLOWED_CONTEXTS = ("entertainment", "social", "shopping", "wellbeing", "accessibility", "research", "demo")
SENSE_ONLY_CONTEXTS = ("advertising", "political")
NEEDS_REFERENCE = {
    "workplace": ("medical", "safety"),
    "recruitment": ("medical", "safety"),
    "education": ("medical", "safety"),
    "proctoring": ("medical", "safety"),
}
REFUSED_CONTEXTS = ("law_enforcement", "migration", "credit", "insurance")
CONTEXTS = (*ALLOWED_CONTEXTS, *SENSE_ONLY_CONTEXTS, *NEEDS_REFERENCE, *REFUSED_CONTEXTS)
CONSENT_SOURCE = "consent"
HORIZON_MS = 60_000
"""A withdrawal older than the windows' horizon has nothing left to take back."""


def check_context(context: str | None, reference: str | None, *, ranks: bool = False) -> None:
    """A deployment's declared use in, nothing out: it is allowed, or it raises.

    Args:
        context: `STREAMER_CONTEXT`, one of `CONTEXTS`.
        reference: `STREAMER_CONTEXT_REFERENCE`: `medical: <document>` or `safety: <document>`.
        ranks: whether the asking operator re-ranks items.

    Raises:
        RefusedUseError: unset, unknown, or a use that is refused.
    """
    if context is None:
        raise RefusedUseError(f"STREAMER_CONTEXT is not set: say where this is used, one of {', '.join(CONTEXTS)}")
    if context not in CONTEXTS:
        raise RefusedUseError(f"STREAMER_CONTEXT={context} is unknown: use one of {', '.join(CONTEXTS)}")
    if context in REFUSED_CONTEXTS:
        raise RefusedUseError(f"STREAMER_CONTEXT={context}: affect sensing is refused in this use")
    if context in NEEDS_REFERENCE:
        purpose, _, document = (reference or "").partition(":")
        if purpose.strip() not in NEEDS_REFERENCE[context] or not document.strip():
            raise RefusedUseError(
                f"STREAMER_CONTEXT={context} is refused but for medical or safety reasons: "
                "set STREAMER_CONTEXT_REFERENCE to 'medical: <document>' or 'safety: <document>'"
            )
    if ranks and context in SENSE_ONLY_CONTEXTS:
        raise RefusedUseError(f"STREAMER_CONTEXT={context} may sense but never rank: run without rank_items")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate says of one record: `reason` is None where it may be read.

    `disclosed` false means that not even an `absent` observation may leave: nobody has been told of the sensing yet.
    """

    reason: Literal["no_consent", "minor", "switched_off"] | None
    mode: Mode = "full"
    single_subject: bool = True
    disclosed: bool = True

    @property
    def allowed(self) -> bool:
        """Whether an encoder may see this record."""
        return self.reason is None


class Gate:
    """Consents and controls in, a verdict for each record out; counts every refusal by its reason."""

    def __init__(self, context: Context, modality: Modality) -> None:
        self._context = context
        self._modality: Modality = modality
        self._allowed_since: dict[str, int] = {}  # session -> event time from which on its media may be read in full

    def check_context(self) -> None:
        """Refuse to open in a use that is refused; see `check_context`."""
        check_context(self._context.settings.context, self._context.settings.context_reference)

    def verdict(self, record: Record[Any]) -> Verdict:
        """May this record be read by this modality's model now? Counts the reason where it may not.

        What was captured before consent was given, or given again, may not.
        """
        verdict = self._judge(self._context.table("consents").get(record.key))
        if verdict.allowed and record.event_time_ms < self._allowed_since.get(record.key, 0):
            verdict = Verdict("no_consent", verdict.mode)
        if verdict.reason is not None:
            self._context.metrics.count(verdict.reason)
        return verdict

    def on_table(self, table: str, record: Record[Any]) -> Sequence[Record[Any]]:
        """A consent or a control in; one `absent` observation out for each session whose reading ends by it.

        Stamped with its own event time: fusion drops the modality's evidence at that observation, and sending it again
        at start repeats an identity, which is harmless.
        """
        if table == "controls":
            if self._switched_off():
                return [self._taken_back(replace(record, key=s), "switched_off") for s in self._allowed_since]
            return ()
        if table != "consents":
            return ()
        verdict = self._judge(record.payload)
        before = self._allowed_since.pop(record.key, None)
        if verdict.allowed:
            self._allowed_since[record.key] = record.event_time_ms if before is None else before
            return () if verdict.mode == "full" else [self._taken_back(record, "no_consent")]
        recent = self._context.clock.now_ms() - record.kafka_ms <= HORIZON_MS
        if before is None and not (recent and verdict.disclosed):
            return ()
        return [self._taken_back(record, verdict.reason or "no_consent")]

    def absent(self, record: Record[Any], reason: str, source_id: str) -> Observation:
        """An `absent` observation of this modality at a record's event time."""
        at = record.event_time_ms
        return Observation(
            session_id=record.key,
            event_time_ms=at,
            modality=self._modality,
            source_id=source_id,
            start_ms=at,
            end_ms=at,
            absent=True,
            reason=reason,
            source_kafka_ms=record.kafka_ms,
        )

    def _taken_back(self, record: Record[Any], reason: str) -> Record[Any]:
        return record.derive(self.absent(record, reason, CONSENT_SOURCE))

    def _switched_off(self) -> bool:
        return any(isinstance(c, Control) and c.sensing_off for c in self._context.table("controls").values())

    def _judge(self, consent: object) -> Verdict:
        if not isinstance(consent, Consent) or consent.disclosed_at_ms is None:
            return Verdict("no_consent", disclosed=False)
        if self._switched_off():
            return Verdict("switched_off")
        if self._modality not in consent.modalities:
            return Verdict("no_consent")
        if self._modality != "text" and consent.minor is not False:
            return Verdict("minor")
        mode: Mode = "expressions_only" if consent.expressions_only else "full"
        return Verdict(None, mode, consent.single_subject)
