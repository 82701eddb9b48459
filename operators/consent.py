"""Responsible use: whether a modality of a session may be read now, and whether this deployment may sense at all.

Consent covers one person and fails closed (DESIGN §9). It is checked before anything is decoded or encoded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from operators.payloads import MINORS_TOO, Consent, Control, Mode, Observation
from streamer.errors import RefusedUseError
from streamer.operator import Context
from streamer.payloads import AuditEntry
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
CLOCKS_DIFFER_MS = 5000
"""How far a broker's clock may differ from this machine's."""
AUDIT = "audit"
REVOKING = ("no_consent", "minor", "age_not_said", "switched_off")
"""The reasons of `absent` observations that revoke their modality's earlier evidence; `before_consent` says nothing
about what was captured since."""
HORIZON_MS = 60_000
"""A withdrawal older than the windows' horizon has no evidence left to revoke."""


def check_context(context: str | None, reference: str | None, *, ranks: bool = False) -> None:
    """Check a deployment's declared use.

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
    """Whether a record may be read.

    Args:
        reason: why not; None where it may be.
        mode: how it may be read.
        single_subject: whether it may be read only where one face is in the picture.
        disclosed: whether the person was informed of the sensing; if not, not even an `absent` observation is written.
    """

    reason: Literal["no_consent", "before_consent", "minor", "age_not_said", "switched_off"] | None
    mode: Mode = "full"
    single_subject: bool = True
    disclosed: bool = True

    @property
    def allowed(self) -> bool:
        """Whether an encoder may see this record."""
        return self.reason is None


def audited(
    context: Context, record: Record[Any], kind: Literal["consent", "override"], detail: Mapping[str, str]
) -> list[Record[Any]]:
    """The entry for the topic `audit` of a decision about a record's key; none where there is no such topic."""
    if not context.audits:
        return []
    full = {"operator": context.operator, "worker": context.settings.worker_name(), **detail}
    entry = AuditEntry(event_time_ms=context.clock.now_ms(), kind=kind, subject=record.key, detail=full)
    return [record.derive(entry, AUDIT)]


class _Grant(NamedTuple):
    """From which capture time on, and in which mode, a session's media may be read."""

    since_ms: int
    mode: Mode


class ConsentGate:
    """Follows consents and controls, and decides for each record of one modality whether it may be read.

    What was captured before consent was given, before the person was informed, or while sensing was switched off is not
    read, however late it arrives. After a start the switch's state before its latest record is unknown, so what was
    captured before that is not read either. Every refusal is counted by its reason.

    Args:
        context: the operator's, with the tables `consents` and `controls`.
        modality: what the operator senses.
        drop: called with a session's id when its reading ends: the operator drops what it has buffered of it.
    """

    def __init__(self, context: Context, modality: str, drop: Callable[[str], None] = lambda session_id: None) -> None:
        self._context, self._drop = context, drop
        self._modality = modality
        self._granted: dict[str, _Grant] = {}
        self._undisclosed: set[str] = set()  # sessions whose consent says that the person was not informed
        self._opened_ms = 0
        self._off: bool | None = None  # None: the tables have not been read yet
        self._off_by: Record[Any] | None = None
        self._on_since_ms = 0
        self._decided: dict[str, Mapping[str, str]] = {}
        self._decisions: list[Record[Any]] = []

    def open(self) -> None:
        """Check the declared use, and start without any consent: the tables are read anew.

        Raises:
            RefusedUseError: see `check_context`.
        """
        check_context(self._context.settings.context, self._context.settings.context_reference)
        self._granted.clear()
        self._undisclosed.clear()
        self._off, self._off_by, self._on_since_ms = None, None, 0
        self._opened_ms = self._context.clock.now_ms()

    def verdict(self, record: Record[Any]) -> Verdict:
        """Whether the model may read this record now; counts the reason where it may not."""
        consent = self._context.table("consents").get(record.key)
        verdict = self._consented(consent)
        self._decide(record, consent, verdict)
        if self._off is None:
            self._off = self._switched_off()
        captured_ms = record.event_time_ms
        if verdict.disclosed and (self._switched_off() or (verdict.allowed and captured_ms < self._on_since_ms)):
            verdict = Verdict("switched_off")
        if isinstance(consent, Consent) and consent.disclosed_at_ms is not None:
            grant = self._granted.get(record.key)
            if verdict.allowed and captured_ms < (grant.since_ms if grant else consent.disclosed_at_ms):
                verdict = Verdict("before_consent", verdict.mode)
            if not verdict.allowed and captured_ms < consent.disclosed_at_ms:
                verdict = replace(verdict, disclosed=False)
        if verdict.reason is not None:
            self._context.metrics.count(verdict.reason)
        return verdict

    def decisions(self) -> list[Record[Any]]:
        """The entries for the topic `audit` of what was decided anew since the last call."""
        decisions, self._decisions = self._decisions, []
        return decisions

    def forget(self, session_id: str) -> None:
        """Drop all that is buffered of a session, and what was last decided for it."""
        self._drop(session_id)
        self._decided.pop(session_id, None)

    def on_table(self, table: str, record: Record[Any]) -> Sequence[Record[Any]]:
        """Take in a consent or a control; returns one `absent` observation for each session whose reading it ends.

        The observation has the consent's event time. Fusion revokes the modality's evidence on it; sent again after a
        restart it is a duplicate, which is harmless. Decisions go to `audit`.
        """
        ended: list[Record[Any]] = []
        if table == "controls":
            ended = self._on_control(record)
        elif table == "consents":
            ended = self._on_consent(record)
        for answer in ended:
            if isinstance(answer.payload, Observation):
                self._drop(answer.key)
        return ended

    def refused(self, record: Record[Any], verdict: Verdict, source_id: str) -> list[Record[Any]]:
        """What to write for a record that may not be read: `absent` with the reason, nothing before disclosure."""
        if verdict.reason is None or not verdict.disclosed:
            return []
        return [record.derive(self.absent(record, verdict.reason, source_id))]

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

    def _on_consent(self, record: Record[Any]) -> list[Record[Any]]:
        consent, session = record.payload, record.key
        found, before = self._consented(consent), self._granted.pop(session, None)
        ends = self._ends(record, found, before)
        if found.allowed:
            since_ms = max(record.event_time_ms, consent.disclosed_at_ms)
            if before is not None and before.mode in (found.mode, "full"):
                since_ms = before.since_ms  # granted again, or narrowed: what was captured before is covered too
            self._granted[session] = _Grant(since_ms, found.mode)
        if isinstance(consent, Consent) and not found.disclosed:
            self._undisclosed.add(session)
        else:
            self._undisclosed.discard(session)
        if ends is not None or session in self._decided:
            self._decide(record, consent, found)
        return [*([] if ends is None else [ends]), *self.decisions()]

    def _ends(self, record: Record[Any], found: Verdict, before: _Grant | None) -> Record[Any] | None:
        """The observation that revokes a session's evidence where a consent ends its reading; None where it doesn't."""
        may_have_been_read = before is not None or self._is_recent(record)
        if not found.allowed:
            # deleted or unreadable before this opened: it may have allowed reading then, unless nobody was informed
            unknown = record.payload is None and record.kafka_ms <= self._opened_ms + CLOCKS_DIFFER_MS
            disclosed = found.disclosed or (unknown and record.key not in self._undisclosed)
            ends = before is not None or (may_have_been_read and disclosed)
            return self._revocation(record, found.reason or "no_consent") if ends else None
        was_read_otherwise = found.mode == "expressions_only" if before is None else before.mode != found.mode
        if may_have_been_read and was_read_otherwise:
            return self._revocation(record, "no_consent")
        if before is None and self._off and self._off_by is not None and self._is_recent(self._off_by):
            return self._revocation(replace(self._off_by, key=record.key), "switched_off")
        return None

    def _on_control(self, record: Record[Any]) -> list[Record[Any]]:
        off, before = self._switched_off(), self._off
        self._off = off
        if off == before:
            return []
        entries = audited(self._context, record, "override", {"sensing": "off" if off else "on"})
        if not off:
            self._on_since_ms = max(self._on_since_ms, record.event_time_ms)
            return entries if before else []
        self._off_by = record
        sessions = self._granted if self._is_recent(record) else ()
        return [*(self._revocation(replace(record, key=s), "switched_off") for s in sessions), *entries]

    def _is_recent(self, record: Record[Any]) -> bool:
        return self._context.clock.now_ms() - record.kafka_ms <= HORIZON_MS

    def _revocation(self, record: Record[Any], reason: str) -> Record[Any]:
        return record.derive(self.absent(record, reason, CONSENT_SOURCE))

    def _decide(self, record: Record[Any], consent: object, verdict: Verdict) -> None:
        """Note a decision for the topic `audit` where it differs from the last one about the session."""
        if not self._context.audits:
            return
        decision = {"modality": self._modality, "decision": "allowed" if verdict.allowed else "refused"}
        decision |= {"mode": verdict.mode} if verdict.reason is None else {"reason": verdict.reason}
        if isinstance(consent, Consent):
            decision["disclosure_version"] = consent.disclosure_version or "none"
        if not verdict.disclosed:
            decision["disclosed"] = "no"
        if self._decided.get(record.key) != decision:
            self._decided[record.key] = decision
            self._decisions += audited(self._context, record, "consent", decision)

    def _switched_off(self) -> bool:
        return any(isinstance(c, Control) and c.sensing_off for c in self._context.table("controls").values())

    def _consented(self, consent: object) -> Verdict:
        """The verdict by consent alone, whatever the switch."""
        if not isinstance(consent, Consent) or consent.disclosed_at_ms is None:
            return Verdict("no_consent", disclosed=False)
        if self._modality not in consent.modalities:
            return Verdict("no_consent")
        if self._modality not in MINORS_TOO and consent.minor is not False:
            return Verdict("minor" if consent.minor else "age_not_said")
        mode: Mode = "expressions_only" if consent.expressions_only else "full"
        return Verdict(None, mode, consent.single_subject)
