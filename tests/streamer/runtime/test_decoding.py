"""What a refused record is told: its unit, its format, what would be allowed; and what is no mistake."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import pytest

from operators.payloads import CandidateList, ChatMessage, Consent
from streamer.broker import Message
from streamer.operator import Context
from streamer.payloads import Keyed, Refusal
from streamer.records import Record
from streamer.runtime.decoding import to_record
from streamer.settings import load_settings
from tests.shipped import MODALITIES

NOW_MS = 1_764_230_000_000
CHAT = {"session_id": "s", "event_time_ms": NOW_MS, "message_id": "m", "speaker": "user", "text": "hi"}
CONSENT = {"session_id": "s", "event_time_ms": NOW_MS, "user_id": "u", "modalities": ["text"]}
LIST = {"session_id": "s", "event_time_ms": NOW_MS, "user_id": "u", "request_id": "r", "items": []}


def read(payload: type[Keyed], value: bytes, headers: Any = (), key: bytes = b"s") -> Record[Any]:
    context = Context("x", load_settings(), modalities=MODALITIES)
    return to_record(Message("t", 0, 0, NOW_MS, key, value, headers), {"t": payload}, 1, context)


def refused(payload: type[Keyed], value: bytes) -> tuple[str, str]:
    answer = read(payload, value).payload
    assert isinstance(answer, Refusal)
    return answer.reason, answer.detail


@pytest.mark.parametrize(
    ("unit", "moment"),
    [("seconds", NOW_MS // 1000), ("microseconds", NOW_MS * 1000 + 7), ("nanoseconds", NOW_MS * 1_000_000 + 7)],
)
def test_a_time_of_another_unit_is_named(unit: str, moment: int) -> None:
    asked: list[tuple[type[Keyed], dict[str, Any], str]] = [
        (ChatMessage, CHAT, "event_time_ms"),
        (Consent, CONSENT, "disclosed_at_ms"),
        (CandidateList, LIST, "expires_ms"),
    ]
    for payload, fields, name in asked:
        reason, detail = refused(payload, msgpack.packb({**fields, name: moment}))
        assert (reason, detail) == ("clock_unit", f"{name} is in {unit}; it must be Unix milliseconds UTC")


@pytest.mark.parametrize("ago_ms", [0, 60_000, 3_600_000, 5 * 86_400_000, NOW_MS - 1])
def test_a_time_long_ago_is_no_mistake_of_unit(ago_ms: int) -> None:
    value = msgpack.packb({**CHAT, "event_time_ms": NOW_MS - ago_ms})
    assert isinstance(read(ChatMessage, value).payload, ChatMessage)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (json.dumps(CHAT).encode(), "the value is JSON; it must be a MessagePack map"),
        (b" [1, 2]\n", "the value is JSON"),
        (b"\x00\x00\x00\x00\x07" + msgpack.packb(CHAT), "Confluent's wire format"),
        (b"\x00\x00\x00\x00\x07\x0cavro", "Confluent's wire format"),
    ],
)
def test_another_format_is_named(value: bytes, says: str) -> None:
    reason, detail = refused(ChatMessage, value)
    assert reason == "undecodable"
    assert says in detail
    assert "hi" not in detail.split()


def test_a_wrong_choice_is_told_what_is_allowed_and_not_quoted() -> None:
    _, detail = refused(ChatMessage, msgpack.packb({**CHAT, "speaker": "secret"}))
    assert detail == "ChatMessage: Invalid enum value - at `$.speaker`; allowed: user, other"


def test_null_headers_are_empty_ones() -> None:
    headers: Any = (("schema", None), ("traceparent", None), ("other", None))
    assert isinstance(read(ChatMessage, msgpack.packb(CHAT), headers).payload, ChatMessage)
