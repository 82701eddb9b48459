"""The state of `rank_items`: small typed parts of each session, in one mapping to MessagePack bytes.

A key is a session's id, a zero byte and a part's name. The mapping is a dict, or a host's table that survives a crash.
Parts are separate because they change at different rates: an affect event rewrites some hundred bytes, not a list.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any, TypeVar

import msgspec

from operators.payloads import CandidateList
from streamer.errors import PayloadError

MAX_STORED_BYTES = 900_000
"""Of one part: a record of Kafka's default size has room for it, its key and headers."""


class AffectState(msgspec.Struct, frozen=True):
    """What ranking needs of the newest affect event of a session.

    `at` is (window_end_ms, final, revision): the greater one is the newer event. `affect` is valence, arousal and
    confidence, None where the event abstains or has none.
    """

    touched_ms: int
    event_id: str
    at: tuple[int, bool, int]
    affect: tuple[float, float, float] | None
    emotions: dict[str, float]

    def age_ms(self, now_ms: int) -> int:
        """The expression's age in ms: since the window's end, or since the event was made if that was earlier."""
        return max(0, now_ms - min(self.at[0], self.touched_ms))


class Request(msgspec.Struct, frozen=True):
    """The newest candidates of a session, item ids unique; `touched_ms` is their Kafka time."""

    touched_ms: int
    candidates: CandidateList


class ServedList(msgspec.Struct, frozen=True):
    """The list last sent for a request: when, in which order, and the affect that was used for it."""

    touched_ms: int
    request_id: str
    revision: int
    order: list[str]
    affect: tuple[float, float, float] | None


class Feedback(msgspec.Struct, frozen=True):
    """The person's feedback, oldest first: interaction id, item id, weight in [-1, 1]."""

    touched_ms: int
    given: list[tuple[str, str, float]] = msgspec.field(name="acts")


P = TypeVar("P", AffectState, Request, ServedList, Feedback)
_NAMES: dict[type[Any], str] = {AffectState: "affect", Request: "request", ServedList: "shown", Feedback: "acts"}
"""As they are stored: a state may have been written by an earlier version."""
_TYPES = {name: part for part, name in _NAMES.items()}


class SessionState:
    """Typed access to the mapping."""

    def __init__(self, stored: MutableMapping[str, bytes]) -> None:
        self._stored = stored

    def get(self, session_id: str, part: type[P]) -> P | None:
        """A part of a session, None where there is none."""
        raw = self._stored.get(f"{session_id}\0{_NAMES[part]}")
        return msgspec.msgpack.decode(raw, type=part) if raw else None

    def keep(self, session_id: str, part: AffectState | Request | ServedList | Feedback) -> None:
        """Store a part in place of the one there was.

        Raises:
            PayloadError: `too_large`: a host's changelog takes no record of that size.
        """
        stored = msgspec.msgpack.encode(part)
        if len(stored) > MAX_STORED_BYTES:
            raise PayloadError("too_large", f"{len(stored)} bytes to keep; at most {MAX_STORED_BYTES} are kept")
        self._stored[f"{session_id}\0{_NAMES[type(part)]}"] = stored

    def drop(self, session_id: str, part: type[Any]) -> None:
        """Erase a part if it is there."""
        key = f"{session_id}\0{_NAMES[part]}"
        if key in self._stored:
            del self._stored[key]

    def forget(self, session_id: str) -> None:
        """Erase a session."""
        for part in _NAMES:
            self.drop(session_id, part)

    def with_request(self) -> Iterator[str]:
        """The sessions that hold a request."""
        suffix = f"\0{_NAMES[Request]}"
        yield from [key.removesuffix(suffix) for key in self._stored if key.endswith(suffix)]

    def forget_before(self, oldest_ms: int) -> None:
        """Erase every session none of whose parts was touched since."""
        live, seen = set(), set()
        for key in list(self._stored):
            session_id, _, name = key.rpartition("\0")
            seen.add(session_id)
            part = msgspec.msgpack.decode(self._stored[key], type=_TYPES[name])
            if part.touched_ms >= oldest_ms:
                live.add(session_id)
        for session_id in seen - live:
            self.forget(session_id)
