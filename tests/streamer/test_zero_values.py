"""What clients send for "not set" (0, "", no bytes) means not set, and never consent."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from operators.consent import ConsentGate
from operators.payloads import AudioChunk, CandidateList, ChatMessage, Consent, Control, Interaction, Item, VideoFrame
from streamer.errors import PayloadError
from streamer.event_time import ManualClock
from streamer.operator import Context
from streamer.payloads import Keyed, decode
from streamer.records import Origin, Record
from streamer.settings import load_settings

AT = 1_000_000
SESSION = {"session_id": "s", "event_time_ms": AT, "user_id": "u"}
CONSENT = {**SESSION, "modalities": ["text"], "minor": False}
CHAT = {"session_id": "s", "event_time_ms": AT, "message_id": "m", "speaker": "user", "text": "hi"}
LIST = {**SESSION, "request_id": "r", "items": []}
FRAME = {"session_id": "s", "event_time_ms": AT, "source_id": "c", "width": 2, "height": 2, "data": b"x"}
CHUNK = {"session_id": "s", "event_time_ms": AT, "source_id": "m", "data": b"xx"}
RATING = {**SESSION, "interaction_id": "i", "item_id": "a", "kind": "rating"}
CONTROL = {"event_time_ms": AT, "app": "affect"}


def read(payload: type[Keyed], fields: dict[str, Any]) -> Any:
    return decode(msgpack.packb(fields), payload)


@pytest.mark.parametrize(
    ("payload", "fields", "unset"),
    [
        (Consent, CONSENT, {"disclosure_version": "", "disclosed_at_ms": 0}),
        (Consent, CONSENT, {"disclosed_at_ms": -1}),
        (Consent, CONSENT, {"disclosed_at_ms": -62_135_596_800_000}),  # Go's zero time
        (ChatMessage, CHAT, {"language": ""}),
        (CandidateList, LIST, {"primary_item_id": "", "category": "", "expires_ms": 0}),
        (Interaction, {**SESSION, "interaction_id": "i", "item_id": "a", "kind": "like"}, {"request_id": ""}),
        (Item, {"item_id": "a", "event_time_ms": AT, "text": "t"}, {"embedding": b""}),
        (Control, CONTROL, {"policy": "", "goal": ""}),
        (Control, CONTROL, {"goal": ""}),
    ],
)
def test_a_zero_value_is_the_same_as_none(payload: type[Keyed], fields: dict[str, Any], unset: dict[str, Any]) -> None:
    assert read(payload, {**fields, **unset}) == read(payload, {**fields, **dict.fromkeys(unset)})
    assert read(payload, {**fields, **unset}) == read(payload, fields)


def test_an_items_mood_may_name_no_emotion() -> None:
    fields = {"item_id": "a", "event_time_ms": AT, "text": "t", "mood": {"valence": 0.0, "arousal": 0.0, "emotion": ""}}
    assert read(Item, fields).mood.emotion is None


@pytest.mark.parametrize(
    ("payload", "fields"),
    [
        (Control, {**CONTROL, "cap": 0.0}),
        (Interaction, {**RATING, "value": 0.0, "position": 0}),
        (CandidateList, {**LIST, "items": [{"item_id": "a", "score": 0.0, "pinned_rank": 0}]}),
    ],
)
def test_a_zero_that_is_a_value_stays_one(payload: type[Keyed], fields: dict[str, Any]) -> None:
    found = read(payload, fields)
    stated = fields["items"][0] if "items" in fields and fields["items"] else fields
    holder = found.items[0] if "items" in fields and fields["items"] else found
    assert {name: getattr(holder, name) for name in stated} == stated


def test_a_wrong_choice_is_still_refused_beside_an_empty_one() -> None:
    with pytest.raises(PayloadError, match=r"goal"):
        read(Control, {**CONTROL, "policy": "", "goal": "louder"})
    with pytest.raises(PayloadError, match=r"speaker"):
        read(ChatMessage, {**CHAT, "speaker": "", "language": ""})


@pytest.mark.parametrize("disclosed", [0, -1, None])
def test_without_a_moment_of_disclosure_nothing_is_read(disclosed: int | None) -> None:
    consent = read(Consent, {**CONSENT, "disclosed_at_ms": disclosed})
    tables: dict[str, dict[str, Any]] = {"consents": {"s": consent}, "controls": {}}
    gate = ConsentGate(Context("x", load_settings(context="research"), ManualClock(AT), tables=tables), "text")
    gate.open()
    gate.on_table("consents", Record("s", AT, AT, consent, Origin("consents", 0, 0)))
    verdict = gate.verdict(Record("s", AT + 1, AT + 1, read(ChatMessage, CHAT), Origin("chat_messages", 0, 0)))
    assert (verdict.reason, verdict.disclosed) == ("no_consent", False)
    assert not consent.grants("text")


@pytest.mark.parametrize("mood", [(5.0, 5.0), (-1.01, 0.0), (0.0, 1.5), (1e308, 0.0)])
def test_a_mood_of_another_scale_is_refused(mood: tuple[float, float]) -> None:
    fields = {"item_id": "a", "event_time_ms": AT, "text": "t", "mood": {"valence": mood[0], "arousal": mood[1]}}
    with pytest.raises(PayloadError, match=r"valence and arousal must lie in \[-1, 1\] - at `\$\.mood`"):
        read(Item, fields)


@pytest.mark.parametrize("name", ["sadness", "Sadness", "SADNESS", " sadness "])
def test_an_emotions_name_is_read_in_any_case(name: str) -> None:
    fields = {"item_id": "a", "event_time_ms": AT, "text": "t", "mood": {"valence": -1, "arousal": 1, "emotion": name}}
    assert read(Item, fields).mood.emotion == "sadness"


@pytest.mark.parametrize(
    ("payload", "fields", "nulls"),
    [
        (Consent, CONSENT, ["expressions_only", "affect_ranking", "single_subject", "disclosure_version"]),
        (ChatMessage, CHAT, ["language"]),
        (Control, CONTROL, ["ranking_off", "sensing_off", "policy", "goal", "cap"]),
        (CandidateList, LIST, ["category", "expires_ms", "primary_item_id"]),
        (VideoFrame, FRAME, ["seq", "format", "rotation", "mirrored"]),
        (AudioChunk, CHUNK, ["seq", "format", "sample_rate_hz", "channels"]),
    ],
)
def test_null_where_there_is_a_default_is_that_default(
    payload: type[Keyed], fields: dict[str, Any], nulls: list[str]
) -> None:
    plain = {name: value for name, value in fields.items() if name not in nulls}
    assert read(payload, plain | dict.fromkeys(nulls)) == read(payload, plain)


def test_null_within_an_item_of_a_list_is_its_default_too() -> None:
    listed = {**LIST, "items": [{"item_id": "a", "score": 1.0, "pinned_rank": None, "provenance": None}]}
    assert read(CandidateList, listed) == read(CandidateList, {**LIST, "items": [{"item_id": "a", "score": 1.0}]})


@pytest.mark.parametrize(("field", "payload", "fields"), [("user_id", Consent, CONSENT), ("text", ChatMessage, CHAT)])
def test_null_where_a_value_is_due_is_refused_by_name(field: str, payload: type[Keyed], fields: dict[str, Any]) -> None:
    with pytest.raises(PayloadError, match=field):
        read(payload, {**fields, field: None})


@pytest.mark.parametrize("value", [0, 1, "true", "false"])
def test_what_is_no_truth_value_is_refused_by_name(value: object) -> None:
    with pytest.raises(PayloadError, match="minor"):
        read(Consent, {**CONSENT, "minor": value})
