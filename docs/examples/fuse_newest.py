"""Another fusion method in one file: each window takes over the emotions of its newest observation.

Put this file into `operators/` and write `fuse_newest` in place of `fuse_affect` in topology.yaml. A baseline to
compare with, not a method to ship: it ignores how reliable a modality is and whether others disagree.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from operators.consent import REVOKING
from operators.payloads import AffectEvent, Observation
from streamer.operator import Context, Window


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """None."""


class FuseNewest:
    """Fuses a window by taking its newest observation that has emotions."""

    def __init__(self, params: Params, context: Context) -> None:
        self._context = context
        context.runs.models["fuser"] = "newest@1"

    async def open(self) -> None:
        """Nothing to load."""

    def revokes(self, evidence: Observation) -> bool:
        """Whether consent for its modality ended."""
        return evidence.absent and evidence.reason in REVOKING

    async def fuse(self, due: Sequence[Window]) -> Sequence[AffectEvent]:
        """One event for each window; without emotions where no observation has any."""
        return [self._event(window) for window in due]

    async def close(self) -> None:
        """Nothing to release."""

    def _event(self, window: Window) -> AffectEvent:
        stated = [piece.payload for piece in window.pieces if piece.payload.emotions]
        newest = max(stated, key=lambda observation: observation.end_ms, default=None)
        return AffectEvent(
            session_id=window.session_id,
            event_time_ms=window.end_ms,
            event_id=f"{window.session_id}:{window.end_ms}",
            window_start_ms=window.start_ms,
            window_end_ms=window.end_ms,
            closed_at_ms=window.closed_at_ms,
            revision=window.revision,
            final=window.final,
            emotions=newest.emotions if newest else None,
            confidence=newest.confidence if newest else 0.0,
            abstained=newest is None,
            source_kafka_ms=window.source_kafka_ms,
            emitted_at_ms=self._context.clock.now_ms(),
        )
