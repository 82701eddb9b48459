"""Totals in, counts out: with `count_letters` or `sum_counts` it can be wired into a circle."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from streamer.operator import Context
from streamer.records import Origin, Record
from tests.tiny_operators.payloads import Count, Setting, Total, Word


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """None."""


class EchoTotals:
    """Says each total again, as a count."""

    def __init__(self, params: Params, context: Context) -> None:
        self.params, self._context = params, context

    async def open(self) -> None:
        """Nothing to load."""

    async def process(self, batch: Sequence[Record[Total | Word | Setting]]) -> Sequence[Record[Count]]:
        """One count for each total; words and settings say nothing."""
        return [
            r.derive(Count(session_id=r.key, event_time_ms=t, start_ms=t, end_ms=t, letters=r.payload.letters))
            for r in batch
            if isinstance(r.payload, Total)
            for t in (r.event_time_ms,)
        ]

    def needs_from(self, session_id: str) -> Origin | None:
        """It holds nothing."""
        del session_id
        return None

    def forget(self, session_id: str) -> None:
        """It keeps nothing."""

    async def close(self) -> None:
        """Nothing to release."""
