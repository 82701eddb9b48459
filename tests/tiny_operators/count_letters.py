"""Words in, their lengths out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from streamer.event_time import Duration
from streamer.operator import Context
from streamer.records import Origin, Record
from tests.tiny_operators.payloads import Count, Word


class Pixels(int):
    """A unit of its own: anything with `parse` is read by it."""

    @classmethod
    def parse(cls, value: object) -> Pixels:
        """`"60px"` to 60."""
        if not (isinstance(value, str) and value.removesuffix("px").isdecimal() and value.endswith("px")):
            raise ValueError(f"{value!r} is not a size in pixels, such as 60px")
        return cls(value[:-2])


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of each kind of parameter."""

    language: Literal["english", "german"] = "english"
    longest: int = 20
    share: float = 0.5
    pause: Duration = Duration(100)
    width: Pixels = Pixels(10)
    weights: dict[str, float] = {}
    only: list[str] = []
    hop: Duration = Duration(500)

    def __post_init__(self) -> None:
        if self.longest < 1:
            raise ValueError("longest must be 1 or more")


class CountLetters:
    """Counts the letters of each word."""

    modality = "keys"

    def __init__(self, params: Params, context: Context) -> None:
        self.params, self._context = params, context

    async def open(self) -> None:
        """Nothing to load."""

    async def process(self, batch: Sequence[Record[Word]]) -> Sequence[Record[Count]]:
        """One count for each word."""
        return [
            r.derive(
                Count(
                    session_id=r.key,
                    event_time_ms=r.event_time_ms,
                    start_ms=r.event_time_ms,
                    end_ms=r.event_time_ms,
                    letters=len(r.payload.text),
                )
            )
            for r in batch
        ]

    def needs_from(self, session_id: str) -> Origin | None:
        """It holds nothing."""
        del session_id
        return None

    def forget(self, session_id: str) -> None:
        """It keeps nothing."""

    async def close(self) -> None:
        """Nothing to release."""
