"""What a refused record is told: its unit, its format, what would be allowed; and what is no mistake."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import pytest

from operators.payloads import CandidateList, ChatMessage, Consent, Control
from streamer.broker import Message
from streamer.brokers.partitioner import partition_for
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


def test_a_record_on_another_partition_than_its_keys_is_marked_and_warned_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    context, value = Context("x", load_settings(), modalities=MODALITIES), msgpack.packb(CHAT)
    marked = [
        to_record(Message("t", partition, 0, NOW_MS, b"s", value, ()), {"t": ChatMessage}, 4, context).foreign
        for partition in range(4)
    ]
    assert [n for n, foreign in enumerate(marked) if not foreign] == [partition_for(b"s", 4)]
    assert context.metrics.totals["foreign_partition"] == 3
    assert caplog.text.count("murmur2_random") == 1


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


@pytest.mark.parametrize(
    ("epoch", "moment"),
    [
        (".NET ticks", NOW_MS * 10_000 + 621_355_968_000_000_000),
        ("Windows file time", NOW_MS * 10_000 + 116_444_736_000_000_000),
        ("seconds since 1900 (NTP)", NOW_MS // 1000 + 2_208_988_800),
        ("seconds since 2001 (Apple)", NOW_MS // 1000 - 978_307_200),
        ("milliseconds since 2001 (Apple)", NOW_MS - 978_307_200_000),
    ],
)
def test_a_time_of_another_epoch_is_named(epoch: str, moment: int) -> None:
    value = msgpack.packb({**CHAT, "event_time_ms": moment})
    assert refused(ChatMessage, value) == (
        "clock_unit",
        f"event_time_ms is in {epoch}; it must be Unix milliseconds UTC",
    )


@pytest.mark.parametrize("moment", [0, 12_345, 3 * 3_600_000])
def test_a_time_that_counts_from_the_start_of_a_page_or_a_file_is_named(moment: int) -> None:
    reason, detail = refused(ChatMessage, msgpack.packb({**CHAT, "event_time_ms": moment}))
    assert reason == "clock_unit"
    assert "does it count from a start of its own?" in detail


@pytest.mark.parametrize(
    ("ahead_ms", "says"),
    [
        (2 * 3_600_000 - 40, ", 2 h: is it local time instead of UTC?"),
        (5.75 * 3_600_000, ", 5.75 h: is it local time instead of UTC?"),
        (2 * 3_600_000 + 60_000, ""),
        (6000, ""),
    ],
)
def test_a_time_ahead_by_a_time_zone_is_taken_for_local_time(ahead_ms: float, says: str) -> None:
    reason, detail = refused(ChatMessage, msgpack.packb({**CHAT, "event_time_ms": NOW_MS + int(ahead_ms)}))
    assert (reason, detail) == ("clock_skew", f"event_time_ms is {int(ahead_ms)} ms ahead of its Kafka time{says}")


@pytest.mark.parametrize("moment", [NOW_MS // 1000, NOW_MS * 1000, NOW_MS + 3_600_000, 0])
def test_the_kill_switch_is_thrown_whatever_its_clock_says(moment: int) -> None:
    answer = read(Control, msgpack.packb({"event_time_ms": moment, "app": "affect", "sensing_off": True}))
    assert answer.payload.sensing_off
    assert answer.event_time_ms == NOW_MS


@pytest.mark.parametrize("ago_ms", [0, 60_000, 3_600_000, 5 * 86_400_000, 9 * 365 * 86_400_000])
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


def test_a_modality_that_is_not_declared_is_left_aside_with_a_word_and_the_rest_of_the_consent_counts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    value = msgpack.packb({**CONSENT, "modalities": ["text", "gaze", "face"]})
    context = Context("x", load_settings(), modalities=MODALITIES)
    for _ in range(2):
        answer = to_record(Message("t", 0, 0, NOW_MS, b"s", value), {"t": Consent}, 1, context)
        assert answer.payload.modalities == ["text", "gaze", "face"]
    assert context.metrics.totals["unknown_modality"] == 2
    assert caplog.text.count("names a modality that this topology does not declare: it is left aside") == 1
