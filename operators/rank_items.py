"""Ranks candidates by the platform's score, the person's affect and feedback; again when the affect has changed.

Beyond DESIGN §4: `position`, `base_rank` and `pinned_rank` count from 0; `expires_ms` is a moment, as
every `_ms` field that is not a duration by name; a request that comes again continues its revisions, so
(`request_id`, `revision`) never means two lists.
"""

from __future__ import annotations

import math
from collections.abc import Collection, MutableMapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import msgspec

from kernels.ranking import scoring
from kernels.ranking.preference import ItemFeatures, preference_scores, read_embedding
from operators.consent import audited, check_context
from operators.payloads import (
    AffectEvent,
    Candidate,
    CandidateList,
    Consent,
    Control,
    Interaction,
    Item,
    RankedItem,
    RankedList,
    WithoutAffect,
)
from operators.rank_state import AffectState, Feedback, Request, ServedList, SessionState
from streamer.errors import PayloadError
from streamer.event_time import Duration
from streamer.operator import Context
from streamer.payloads import Refusal
from streamer.records import Origin, Record

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]

STATE = "state"
"""The table that a host may provide for the state of sessions; without one it is a dict, and lost with the process."""

FEEDBACK_WEIGHTS = {"like": 1.0, "complete": 0.5, "click": 0.25, "skip": -0.5, "dislike": -1.0}
MAX_FEEDBACK = 20
MAX_CANDIDATES = 5000


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is blended and how often a list may change; a `Control` in force overrides policy, goal and cap.

    `cap` and `session_cap` are in parts of the base range; `rerank_delta` is how far valence, arousal or confidence has
    to change before a list is ranked again; a request older than `max_request_age` isn't ranked again.
    """

    policy: Literal["affect", "noop", "shuffle"] = "affect"
    goal: Literal["off", "lift", "match", "calm"] = "off"
    cap: Share = 0.3
    session_cap: Share = 0.1
    top: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 20
    min_confidence: Share = 0.2
    max_affect_age: Duration = Duration(10_000)
    min_interval: Duration = Duration(500)
    rerank_delta: Share = 0.05
    max_request_age: Duration = Duration(600_000)


class RankItems:
    """Answers each candidate list at once (revision 0), and again when affect has moved and the order with it.

    Affect counts only with `affect_ranking` consent, outside `expressions_only`, while the newest event is recent, sure
    enough and not abstaining; without that consent only the base score counts. A withdrawn consent erases the stored
    affect and restores the base order at once; so does the kill switch.
    """

    def __init__(self, params: Params, context: Context) -> None:
        self._params, self._context = params, context
        given = context.tables.get(STATE)
        self._state = SessionState(given if isinstance(given, MutableMapping) else {})
        self._features: dict[str, tuple[Item, ItemFeatures]] = {}
        self._swept_ms = 0
        self._last_blend = scoring.Blend(params.policy, params.goal, params.cap, params.session_cap)
        context.runs.models["policy"] = scoring.POLICIES[params.policy]

    async def open(self) -> None:
        """Refuse a use in which affect may not rank.

        Raises:
            RefusedUseError: `STREAMER_CONTEXT` is unset, refused, or one that may sense but never rank.
        """
        settings = self._context.settings
        check_context(settings.context, settings.context_reference, ranks=True)

    async def process(
        self, batch: Sequence[Record[AffectEvent | Interaction | CandidateList]]
    ) -> Sequence[Record[RankedList | Refusal]]:
        """Ranked lists and refusals for candidates, affect events and interactions, in the order of the batch."""
        out: list[Record[Any]] = []
        records: Sequence[Record[Any]] = batch  # matched by type below
        for record in records:
            match record.payload:
                case CandidateList():
                    out.append(self._on_candidates(record))
                case AffectEvent():
                    out += self._on_affect(record)
                case Interaction():
                    self._on_interaction(record)
                case _:
                    out.append(record.refuse("undecodable", "neither candidates, affect nor an interaction"))
        self._sweep()
        return out

    def on_table(self, table: str, record: Record[Any]) -> Sequence[Record[Any]]:
        """Take in a consent or control; returns at once the lists whose order it changes.

        A deleted consent erases the session's state.
        """
        if table == "consents" and not self._may_use_affect(record.key):
            self._state.drop(record.key, AffectState)
            restored = self._rerank(record.key, record, at_once=True)
            if record.payload is None:
                self.forget(record.key)
            return restored
        if table == "controls":
            lists = [out for s in self._state.with_request() for out in self._rerank(s, record, at_once=True)]
            return [*lists, *self._overridden(record)]
        return ()

    def needs_from(self, session_id: str) -> Origin | None:
        """None: nothing is buffered outside the state table."""
        del session_id
        return None

    def forget(self, session_id: str) -> None:
        """Erase a session's state."""
        self._state.forget(session_id)

    async def close(self) -> None:
        """Nothing to release."""

    def _on_candidates(self, record: Record[CandidateList]) -> Record[Any]:
        request = record.payload
        if len(request.items) > MAX_CANDIDATES:
            return record.refuse("too_large", f"CandidateList.items: {len(request.items)}; at most {MAX_CANDIDATES}")
        problem = _problem(request)
        if problem is not None:
            return record.refuse("undecodable", problem)
        first: dict[str, Candidate] = {}
        for item in request.items:
            first.setdefault(item.item_id, item)
        catalogue = self._context.table("catalogue_items")
        self._context.metrics.count("duplicate", len(request.items) - len(first))
        self._context.metrics.count("unknown_item", sum(item_id not in catalogue for item_id in first))
        request = msgspec.structs.replace(request, items=list(first.values()))
        try:
            self._state.keep(record.key, Request(record.kafka_ms, request))
        except PayloadError as error:
            return record.refuse(error.reason, f"CandidateList: {error.detail}")
        served = self._state.get(record.key, ServedList)
        again = served is not None and served.request_id == request.request_id
        ranked, _ = self._ranked(record, request, served.revision + 1 if served and again else 0, "request", None)
        return record.derive(ranked)

    def _on_affect(self, record: Record[AffectEvent]) -> Sequence[Record[Any]]:
        event = record.payload
        if not self._may_use_affect(record.key):
            self._context.metrics.count("no_consent")
            return ()
        at = (event.window_end_ms, event.final, event.revision)
        newest = self._state.get(record.key, AffectState)
        if newest is not None and at <= newest.at:
            return ()
        stated = not event.abstained and event.valence is not None and event.emotions is not None
        affect = (event.valence or 0.0, event.arousal or 0.0, event.confidence) if stated else None
        self._state.keep(record.key, AffectState(event.emitted_at_ms, event.event_id, at, affect, event.emotions or {}))
        return self._rerank(record.key, record)

    def _on_interaction(self, record: Record[Interaction]) -> None:
        interaction = record.payload
        weight = FEEDBACK_WEIGHTS.get(interaction.kind)
        if weight is None:
            return
        stored = self._state.get(record.key, Feedback)
        given = stored.given if stored else []
        if any(interaction.interaction_id == seen for seen, _, _ in given):
            self._context.metrics.count("duplicate")
            return
        given = [*given, (interaction.interaction_id, interaction.item_id, weight)]
        self._state.keep(record.key, Feedback(record.kafka_ms, given[-MAX_FEEDBACK:]))

    def _rerank(self, session_id: str, record: Record[Any], *, at_once: bool = False) -> list[Record[Any]]:
        """Rank a session's served list again; returned if its order differs. `at_once` ignores interval and delta."""
        request, served = self._state.get(session_id, Request), self._state.get(session_id, ServedList)
        if request is None or served is None or served.request_id != request.candidates.request_id:
            return []
        now_ms, expires_ms = self._context.clock.now_ms(), request.candidates.expires_ms
        expired = expires_ms is not None and now_ms >= expires_ms
        if expired or now_ms > request.touched_ms + self._params.max_request_age:
            self._state.drop(session_id, Request)
            return []
        waits = now_ms < served.touched_ms + self._params.min_interval or not self._moved(session_id, served)
        if waits and not at_once:
            return []
        source = replace(record, key=session_id)  # a control is keyed by its app
        ranked, is_new = self._ranked(source, request.candidates, served.revision + 1, "affect", served)
        return [source.derive(ranked)] if is_new else []

    def _moved(self, session_id: str, served: ServedList) -> bool:
        affect, _ = self._usable(session_id, self._blend())
        if affect is None or served.affect is None:
            return (affect is None) != (served.affect is None)
        now = (affect.valence, affect.arousal, affect.confidence)
        return max(abs(a - b) for a, b in zip(now, served.affect, strict=True)) >= self._params.rerank_delta

    def _ranked(
        self,
        record: Record[Any],
        request: CandidateList,
        revision: int,
        cause: Literal["request", "affect"],
        served: ServedList | None,
    ) -> tuple[RankedList, bool]:
        """Rank a request and store it as served; returns the list, and whether its order differs from the last one."""
        begun_ms, now_ms = self._context.clock.perf_ms(), self._context.clock.now_ms()
        blend = self._blend()
        affect, without = self._usable(record.key, blend)
        stored = self._state.get(record.key, AffectState)
        if without == "no_event" and record.foreign:
            without = "foreign_partition"
        items = {c.item_id: self._item(c.item_id) for c in request.items}
        offered = [c for c in request.items if not (c.blocked or _blocked(items[c.item_id]))]
        preferences = self._preferences(record.key, offered, items)
        moods = (_mood(items[c.item_id]) for c in offered)
        ranked_all = scoring.rank(
            [
                scoring.Candidate(c.item_id, c.score, *mood, c.pinned_rank, c.sponsored, session)
                for c, mood, session in zip(offered, moods, preferences, strict=True)
            ],
            affect, blend, seed=request.request_id, primary=request.primary_item_id,
        )  # fmt: skip
        placed = _top(ranked_all, {c.item_id for c in offered if c.pinned_rank is not None}, self._params.top)
        order = [p.item_id for p in placed]
        is_new = served is None or order != served.order
        affect_used = (affect.valence, affect.arousal, affect.confidence) if affect else None
        if served is None or is_new:
            served = ServedList(now_ms, request.request_id, revision, order, affect_used)
        self._state.keep(record.key, msgspec.structs.replace(served, affect=affect_used))
        used = stored if affect else None
        own = {c.item_id: c.provenance for c in offered}
        ranked = RankedList(
            session_id=record.key,
            event_time_ms=record.event_time_ms,
            request_id=request.request_id,
            user_id=request.user_id,
            revision=revision,
            cause=cause,
            policy=scoring.POLICIES[blend.policy],
            affect_event_id=used.event_id if used else None,
            affect_age_ms=used.age_ms(now_ms) if used else None,
            without_affect=without,
            emitted_at_ms=now_ms,
            items=[
                RankedItem(
                    item_id=p.item_id,
                    score=p.score,
                    base_rank=p.base_rank,
                    position=position,
                    propensity=1 / len(offered) if blend.policy == "shuffle" else None,
                    provenance=own[p.item_id] or getattr(items[p.item_id], "provenance", None),
                    reasons=dict(p.reasons),
                )
                for position, p in enumerate(placed)
            ],
        )
        self._context.metrics.time("rank", [self._context.clock.perf_ms() - begun_ms])
        return ranked, is_new

    def _preferences(self, session_id: str, offered: Sequence[Candidate], items: dict[str, Item | None]) -> list[float]:
        """For each candidate the preference that the session's feedback shows for it, in [-1, 1]; 0 without consent."""
        stored = self._state.get(session_id, Feedback)
        if stored is None or not self._may_use_affect(session_id):
            return [0.0] * len(offered)
        feedback = [(self._features_of(item_id, self._item(item_id)), weight) for _, item_id, weight in stored.given]
        return preference_scores([self._features_of(c.item_id, items[c.item_id]) for c in offered], feedback)

    def _features_of(self, item_id: str, item: Item | None) -> ItemFeatures:
        if item is None:
            return ItemFeatures(item_id, frozenset())
        cached = self._features.get(item_id)
        if cached is None or cached[0] is not item:
            cached = (item, ItemFeatures(item_id, frozenset(item.tags), read_embedding(item.embedding)))
            self._features[item_id] = cached
        return cached[1]

    def _item(self, item_id: str) -> Item | None:
        item = self._context.table("catalogue_items").get(item_id)
        return item if isinstance(item, Item) else None

    def _may_use_affect(self, session_id: str) -> bool:
        consent = self._context.table("consents").get(session_id)
        return isinstance(consent, Consent) and consent.affect_ranking and not consent.expressions_only

    def _usable(
        self, session_id: str, blend: scoring.Blend
    ) -> tuple[scoring.Affect, None] | tuple[None, WithoutAffect]:
        """The newest affect if it may change a list now: recent, sure enough, consented to, with a goal; or why not."""
        if blend.policy != "affect" or blend.goal == "off":
            return None, "off"
        if not self._may_use_affect(session_id):
            return None, "no_consent"
        stored = self._state.get(session_id, AffectState)
        if stored is None:
            return None, "no_event"
        if stored.affect is None:
            return None, "abstained"
        if stored.age_ms(self._context.clock.now_ms()) > self._params.max_affect_age:
            return None, "stale"
        valence, arousal, confidence = stored.affect
        if confidence < self._params.min_confidence:
            return None, "unsure"
        return scoring.Affect(valence, arousal, stored.emotions, confidence), None

    def _blend(self) -> scoring.Blend:
        """The parameters, overridden by the deployer's controls in force."""
        policy, goal, cap = self._params.policy, self._params.goal, self._params.cap
        for control in self._context.table("controls").values():
            if isinstance(control, Control):
                if control.ranking_off:
                    return scoring.Blend("noop", "off", 0.0, 0.0)
                policy, goal = control.policy or policy, control.goal or goal
                cap = cap if control.cap is None else min(max(control.cap, 0.0), 1.0)
        return scoring.Blend(policy, goal, cap, self._params.session_cap)

    def _overridden(self, record: Record[Any]) -> list[Record[Any]]:
        """The entry for `audit` where a control has changed what is blended."""
        blend = self._blend()
        if blend == self._last_blend:
            return []
        self._last_blend = blend
        policy = scoring.POLICIES[blend.policy]
        return audited(
            self._context, record, "override", {"policy": policy, "goal": blend.goal, "cap": f"{blend.cap:g}"}
        )

    def _sweep(self) -> None:
        """Forget sessions too old to be ranked again; checked once in a tenth of that age."""
        now_ms, age_ms = self._context.clock.now_ms(), self._params.max_request_age
        if now_ms >= self._swept_ms + age_ms // 10:
            self._state.forget_before(now_ms - age_ms)
            self._swept_ms = now_ms


def _problem(request: CandidateList) -> str | None:
    """Why a list can't be ranked, without quoting it; None if it can."""
    if request.expires_ms is not None and request.expires_ms < 0:
        return "expires_ms is negative; it is Unix milliseconds UTC"
    for row, item in enumerate(request.items):
        if not math.isfinite(item.score):
            return f"items[{row}].score is not a finite number"
        if item.pinned_rank is not None and item.pinned_rank < 0:
            return f"items[{row}].pinned_rank is negative; it counts from 0"
    return None


def _top(ranked: Sequence[scoring.ScoredItem], pinned: Collection[str], top: int) -> list[scoring.ScoredItem]:
    """The first `top` items; pinned ones from further down take the places of the last that aren't pinned."""
    room = top - sum(item.item_id in pinned for item in ranked)
    others = [item.item_id for item in ranked if item.item_id not in pinned][: max(room, 0)]
    served = {*others, *pinned}
    return [item for item in ranked if item.item_id in served]


def _blocked(item: Item | None) -> bool:
    return item is not None and item.blocked


def _mood(item: Item | None) -> tuple[float | None, float | None, str | None]:
    mood = item.mood if item else None
    return (mood.valence, mood.arousal, mood.emotion) if mood else (None, None, None)
