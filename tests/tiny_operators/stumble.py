"""Words in, counts out, with the failures an operator can have: for the failure tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from streamer.operator import Context
from streamer.records import Origin, Record
from tests.tiny_operators.payloads import Count, Word


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`stumbles`: how often a word containing "trip" fails before it works; a word with "fall" always fails."""

    stumbles: int = 0


class Stumble:
    """Counts letters like `count_letters`, but falls over some words."""

    def __init__(self, params: Params, context: Context) -> None:
        self._left = params.stumbles
        self.held: dict[str, Origin] = {}
        self.forgotten: list[str] = []
        del context

    async def open(self) -> None:
        """Nothing to load."""

    async def process(self, batch: Sequence[Record[Word]]) -> Sequence[Record[Any]]:
        """One count for each word; "hold" is kept in hand, "odd" is refused."""
        if any("trip" in r.payload.text for r in batch) and self._left:
            self._left -= 1
            raise RuntimeError("tripped")
        return [self._one(r) for r in batch]

    def _one(self, record: Record[Word]) -> Record[Any]:
        text, at = record.payload.text, record.event_time_ms
        if "fall" in text:
            raise ValueError(text)
        if "hold" in text:
            self.held.setdefault(record.key, record.origin)
        if "odd" in text:
            return record.refuse("undecodable", "an odd word")
        return record.derive(Count(session_id=record.key, event_time_ms=at, start_ms=at, end_ms=at, letters=len(text)))

    def needs_from(self, session_id: str) -> Origin | None:
        """The first "hold" of a session."""
        return self.held.get(session_id)

    def forget(self, session_id: str) -> None:
        """Let go."""
        self.held.pop(session_id, None)
        self.forgotten.append(session_id)

    async def close(self) -> None:
        """Nothing to release."""
