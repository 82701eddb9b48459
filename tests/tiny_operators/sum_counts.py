"""Windows of counts in, their sums out."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from streamer.operator import Context, Window
from tests.tiny_operators.payloads import Count, Total


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """None."""


class SumCounts:
    """Adds up the letters of each window."""

    def __init__(self, params: Params, context: Context) -> None:
        self.params, self._context = params, context

    async def open(self) -> None:
        """Nothing to load."""

    def revokes(self, evidence: Count) -> bool:
        """An absent count takes back what was counted."""
        return evidence.absent

    async def fuse(self, due: Sequence[Window]) -> Sequence[Total]:
        """One total for each window."""
        return [
            Total(session_id=w.session_id, event_time_ms=w.end_ms, letters=sum(p.payload.letters for p in w.pieces))
            for w in due
        ]

    async def close(self) -> None:
        """Nothing to release."""
