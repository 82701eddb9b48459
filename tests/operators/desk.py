"""A desk for tests of `rank_items`: the operator on dicts and a clock that stands, a catalogue, and what it is sent."""

from __future__ import annotations

import itertools
from typing import Any

from operators.payloads import AffectEvent, Candidate, CandidateList, Consent, Item, Mood
from operators.rank_items import Params, RankItems
from streamer.event_time import ManualClock
from streamer.operator import Context
from streamer.payloads import Keyed
from streamer.records import Origin, Record
from streamer.settings import load_settings

NOW = 1_700_000_000_000
S = "session-1"
offsets = itertools.count()


class Desk:
    """An operator with its tables as dicts and a clock that stands."""

    def __init__(self, params: Params | None = None, state: dict[str, bytes] | None = None) -> None:
        self.clock = ManualClock(NOW)
        self.consents: dict[str, Any] = {S: consent()}
        self.controls: dict[str, Any] = {}
        self.catalogue: dict[str, Any] = {item.item_id: item for item in CATALOGUE}
        self.state = {} if state is None else state
        tables = {"consents": self.consents, "controls": self.controls, "catalogue_items": self.catalogue}
        settings = load_settings(context="demo")
        self.context = Context("rank_items", settings, self.clock, tables={**tables, "state": self.state})
        self.operator = RankItems(params or Params(goal="lift"), self.context)

    async def send(self, *payloads: Keyed, after_ms: int = 0) -> list[Any]:
        self.clock.set_ms(self.clock.now_ms() + after_ms)
        out = await self.operator.process([self.record(p) for p in payloads])
        return [r.payload for r in out]

    def record(self, payload: Keyed) -> Record[Any]:
        key = getattr(payload, "session_id", "app")
        return Record(key, payload.event_time_ms, self.clock.now_ms(), payload, Origin("t", 0, next(offsets)))

    def table(self, name: str, payload: Keyed) -> list[Any]:
        key = getattr(payload, "session_id", "app")
        {"consents": self.consents, "controls": self.controls}[name][key] = payload
        return [r.payload for r in self.operator.on_table(name, self.record(payload))]


def consent(session_id: str = S, *, ranking: bool = True, expressions_only: bool = False) -> Consent:
    return Consent(
        session_id=session_id, event_time_ms=NOW, user_id="u", affect_ranking=ranking,
        expressions_only=expressions_only, modalities=["text"], disclosed_at_ms=NOW,
    )  # fmt: skip


def item(item_id: str, valence: float, arousal: float, emotion: str | None = None, *tags: str) -> Item:
    mood = Mood(valence=valence, arousal=arousal, emotion=emotion)
    made = {"generator": "g", "ai_generated": True}
    return Item(event_time_ms=NOW, item_id=item_id, text=item_id, tags=list(tags), mood=mood, provenance=made)


CATALOGUE = [
    item("elegy", -0.6, -0.4, "sadness", "music"),
    item("storm", -0.5, 0.7, "fear", "music"),
    item("letter", -0.1, -0.3, None, "story"),
    item("garden", 0.6, 0.0, "trust", "story"),
    item("parade", 0.8, 0.6, "happiness", "video"),
]
BASE = [i.item_id for i in CATALOGUE]


def request(request_id: str = "r1", session_id: str = S, **changes: Any) -> CandidateList:
    items = [Candidate(item_id=i, score=10 - n / 10) for n, i in enumerate(BASE)]
    plain = {"items": [*items, Candidate(item_id="filler", score=0.0)]}
    return CandidateList(
        session_id=session_id, event_time_ms=NOW, request_id=request_id, user_id="u", **(plain | changes)
    )


def affect(valence: float | None, end_ms: int = 0, **changes: Any) -> AffectEvent:
    end = NOW + end_ms
    fields: dict[str, Any] = {
        "session_id": S, "event_time_ms": end, "event_id": f"{S}:{end}", "window_start_ms": end - 2000,
        "window_end_ms": end, "revision": 0, "final": True, "emotions": {"neutral": 1.0}, "valence": valence,
        "arousal": 0.0, "vad_source": "measured", "confidence": 1.0, "source_kafka_ms": end, "emitted_at_ms": end,
    }  # fmt: skip
    return AffectEvent(**(fields | changes))
