"""The wire contract: bytes that never change, strangers on both ends, and refusals that carry no payload."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from operators.payloads import ChatMessage, Observation, VideoFrame
from streamer.errors import PayloadError
from streamer.payloads import MAX_DEPTH, Keyed, SessionKeyed, decode, encode, headers_for, schema_name
from streamer.topology.checks import payload_types
from tests.streamer.payload_examples import EXAMPLES, golden

FORBIDDEN = ("age", "sex", "gender", "race", "ethnicity", "religion", "health", "orientation")
TYPES = payload_types("operators")

every_payload = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)


def stranger_reads(value: bytes) -> dict[str, Any]:
    told: dict[str, Any] = msgpack.unpackb(value)
    return told


def lists_for_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: lists_for_tuples(inner) for key, inner in value.items()}
    return [lists_for_tuples(inner) for inner in value] if isinstance(value, list | tuple) else value


def fields_below(kind: Any) -> set[str]:
    """Every field name of a struct and of the structs it holds, however deep."""
    _, schemas = msgspec.json.schema_components([kind])
    return {name for schema in schemas.values() for name in schema.get("properties", {})}


def test_every_payload_has_an_example() -> None:
    assert {type(example).__name__ for example in EXAMPLES} == set(TYPES)


@every_payload
def test_bytes_are_golden(example: Keyed) -> None:
    assert encode(example).hex(" ", 32) == golden(type(example)).hex(" ", 32)
    assert decode(golden(type(example)), type(example)) == example


@every_payload
def test_a_stranger_reads_a_map_with_named_fields(example: Keyed) -> None:
    told = stranger_reads(encode(example))
    assert set(told) == set(example.__struct_fields__)
    assert told == lists_for_tuples(msgspec.to_builtins(example, builtin_types=(bytes,)))


@every_payload
def test_we_read_what_a_stranger_writes_in_any_order_of_fields(example: Keyed) -> None:
    told = stranger_reads(encode(example))
    backwards = msgpack.packb(dict(reversed(told.items())))
    assert decode(backwards, type(example)) == example


@every_payload
def test_an_older_reader_ignores_a_newer_field(example: Keyed) -> None:
    newer = {**stranger_reads(encode(example)), "added_later": {"by": "a newer version"}}
    assert decode(msgpack.packb(newer), type(example)) == example


@every_payload
def test_a_newer_reader_fills_in_what_an_older_writer_lacks(example: Keyed) -> None:
    newer = msgspec.defstruct(
        type(example).__name__, [("added_later", int, 7)], bases=(type(example),), frozen=True, kw_only=True
    )
    read = decode(golden(type(example)), newer)
    assert getattr(read, "added_later") == 7  # noqa: B009 - the field is made up above
    assert all(getattr(read, name) == getattr(example, name) for name in example.__struct_fields__)


@every_payload
def test_fields_with_a_default_may_be_missing_and_others_may_not(example: Keyed) -> None:
    told = stranger_reads(encode(example))
    for field in msgspec.structs.fields(type(example)):
        without = msgpack.packb({k: v for k, v in told.items() if k != field.name})
        if field.required:
            with pytest.raises(PayloadError, match=f"missing required field `{field.name}`"):
                decode(without, type(example))
        else:
            default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
            assert getattr(decode(without, type(example)), field.name) == default


@every_payload
def test_every_half_of_a_map_is_undecodable(example: Keyed) -> None:
    value = encode(example)
    for length in range(len(value)):
        with pytest.raises(PayloadError) as refused:
            decode(value[:length], type(example))
        assert refused.value.reason == "undecodable"


@every_payload
def test_the_schema_header_names_payload_and_major(example: Keyed) -> None:
    headers = dict(headers_for(example, "00-" + "a" * 32 + "-" + "b" * 16 + "-01"))
    assert headers["schema"] == f"{type(example).__name__}/1".encode()
    assert headers["traceparent"].startswith(b"00-aaa")
    assert decode(encode(example), type(example), headers["schema"].decode()) == example


CHAT: dict[str, Any] = {"session_id": "s", "event_time_ms": 1, "message_id": "m", "speaker": "user", "text": "t"}
MARKED = 'secret o\'clock "x" - at `$.y`'

BAD_VALUES: dict[str, Any] = {
    "nothing": b"",
    "not MessagePack": b"\xc1",
    "a list": msgpack.packb(["a", "b"]),
    "JSON": b'{"session_id": "s"}',
    "trailing bytes": msgpack.packb(CHAT) + b"\x00",
    "a map of numbers": msgpack.packb({1: 2}),
    "no session_id": msgpack.packb({k: v for k, v in CHAT.items() if k != "session_id"}),
    "no event time": msgpack.packb({k: v for k, v in CHAT.items() if k != "event_time_ms"}),
    "event time as text": msgpack.packb(CHAT | {"event_time_ms": "1"}),
    "event time as a float": msgpack.packb(CHAT | {"event_time_ms": 1.5}),
    "event time as a boolean": msgpack.packb(CHAT | {"event_time_ms": True}),
    "text as a number": msgpack.packb(CHAT | {"text": 12345678}),
    "text as bytes": msgpack.packb(CHAT | {"text": b"bin"}),
    "an unknown speaker": msgpack.packb(CHAT | {"speaker": MARKED}),
    "null where text is due": msgpack.packb(CHAT | {"text": None}),
    "text that isn't UTF-8": msgpack.packb(CHAT).replace(b"\xa1t", b"\xa1\xff", 1).replace(b"text", b"tex\xff"),
    "nested without end": b"\x81\xa1a" * 100_000 + b"\x80",
}


@pytest.mark.parametrize("value", BAD_VALUES.values(), ids=BAD_VALUES.keys())
def test_a_bad_value_is_undecodable(value: bytes) -> None:
    with pytest.raises(PayloadError) as refused:
        decode(value, ChatMessage)
    assert refused.value.reason == "undecodable"
    assert "ChatMessage" in refused.value.detail


def test_a_missing_value_is_undecodable() -> None:
    with pytest.raises(PayloadError, match="empty value"):
        decode(None, ChatMessage)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused_both_ways(number: float) -> None:
    observation = next(e for e in EXAMPLES if isinstance(e, Observation))
    told = stranger_reads(encode(observation))
    for change in ({"valence": number}, {"emotions": {"happiness": number}}, {"box": (0.0, 0.0, number, 1.0)}):
        with pytest.raises(PayloadError, match="not a finite number"):
            encode(msgspec.structs.replace(observation, **change))
        with pytest.raises(PayloadError, match="not a finite number"):
            decode(msgpack.packb({**told, **change}), Observation)


def test_free_form_maps_are_checked_too() -> None:
    candidates = next(e for e in EXAMPLES if type(e).__name__ == "CandidateList")
    told = stranger_reads(encode(candidates))
    deep: dict[str, Any] = {}
    for _ in range(MAX_DEPTH - 2):
        deep = {"a": deep}
    assert decode(msgpack.packb({**told, "context": deep}), type(candidates))
    too_deep = msgpack.packb(told).replace(
        b"\xa7context\x82", b"\xa7context\x83\xa1z" + b"\x81\xa1a" * 100_000 + b"\x80"
    )
    refusals = {
        "not a finite number": msgpack.packb({**told, "context": {MARKED: [math.nan]}}),
        "a MessagePack extension": msgpack.packb({**told, "context": {MARKED: msgpack.ExtType(5, b"x")}}),
        "nested too deeply": too_deep,
        f"nested more than {MAX_DEPTH} deep": msgpack.packb({**told, "context": {"a": {"a": deep}}}),
    }
    for said, value in refusals.items():
        with pytest.raises(PayloadError, match=said) as refused:
            decode(value, type(candidates))
        assert "secret" not in str(refused.value)


UNREADABLE_MAJORS = ("0", "-1", "", "x", "٣", "9" * 5000)
UNREADABLE_HEADERS = ("VideoFrame/1", "ChatMessage", "", "/", *(f"ChatMessage/{major}" for major in UNREADABLE_MAJORS))


@pytest.mark.parametrize("schema", UNREADABLE_HEADERS)
def test_a_header_of_another_payload_or_of_none_is_undecodable(schema: str) -> None:
    with pytest.raises(PayloadError) as refused:
        decode(msgpack.packb(CHAT), ChatMessage, schema)
    assert refused.value.reason == "undecodable"
    assert len(refused.value.detail) < 100


@pytest.mark.parametrize("major", [2, 3, 999])
def test_a_higher_major_is_an_unknown_version(major: int) -> None:
    with pytest.raises(PayloadError) as refused:
        decode(b"whatever a later version writes", ChatMessage, f"ChatMessage/{major}")
    assert refused.value.reason == "unknown_version"


def test_a_missing_header_means_major_one() -> None:
    assert decode(msgpack.packb(CHAT), ChatMessage, None) == ChatMessage(**CHAT)


def test_a_reader_of_a_later_major_still_reads_the_first() -> None:
    class Later(ChatMessage, frozen=True, kw_only=True):
        MAJOR = 2

    assert schema_name(Later) == "Later/2"
    assert decode(msgpack.packb(CHAT), Later, "Later/1").text == "t"


@given(st.sampled_from(list(CHAT)), st.text(max_size=20), st.sampled_from([str, str.encode, lambda text: [text]]))
def test_no_value_of_a_payload_stands_in_an_error(field: str, text: str, shape: Callable[[str], Any]) -> None:
    assume(text.isprintable())
    value = msgpack.packb(CHAT | {field: shape(f"marked{text}")})
    try:
        decode(value, ChatMessage)
    except PayloadError as error:
        assert "marked" not in str(error)  # noqa: PT017 - it may as well decode


@given(st.binary(max_size=200))
def test_whatever_bytes_come_they_decode_or_are_refused(value: bytes) -> None:
    for kind in TYPES.values():
        try:
            decode(value, kind)
        except PayloadError as error:
            assert error.reason == "undecodable"  # noqa: PT017 - it may as well decode


def test_equal_payloads_have_equal_bytes_whatever_the_order_of_their_maps() -> None:
    observation = next(e for e in EXAMPLES if isinstance(e, Observation))
    emotions = observation.emotions or {}
    turned = msgspec.structs.replace(observation, emotions=dict(reversed(emotions.items())))
    assert list(turned.emotions or {}) != list(emotions)
    assert encode(turned) == encode(observation)


def test_bytes_travel_as_bytes() -> None:
    frame = next(e for e in EXAMPLES if isinstance(e, VideoFrame))
    assert stranger_reads(encode(frame))["data"] == frame.data


@pytest.mark.parametrize("kind", TYPES.values(), ids=TYPES.keys())
def test_no_payload_speaks_of_what_must_not_be_sensed(kind: type[Keyed]) -> None:
    for name in fields_below(kind):
        assert name == "affect_age_ms" or not set(name.split("_")) & set(FORBIDDEN), name  # how old an event is


@pytest.mark.parametrize("kind", TYPES.values(), ids=TYPES.keys())
def test_every_payload_is_frozen_described_and_dated(kind: type[Keyed]) -> None:
    assert kind.__struct_config__.frozen
    assert inspect.getdoc(kind)
    required = {f.name for f in msgspec.structs.fields(kind) if f.required}
    assert "event_time_ms" in required
    assert ("session_id" in required) == issubclass(kind, SessionKeyed)
