"""What is right for each of `tests/awkward_inputs`: small files of the kinds that a naive reader gets wrong."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from kernels.face.jpeg import read_size
from operators.payloads import AffectEvent, Observation, RankedList
from streamer.brokers.memory.broker import MemoryBroker
from streamer.errors import MediaError
from streamer.payloads import TICK_HEADER, decode
from streamer.recordings.events import Event
from streamer.recordings.replay import consent_event, session_events, simulate
from streamer.settings import Settings, load_settings
from tests.shipped import TOPOLOGY

INPUTS = Path(__file__).parent / "awkward_inputs"
START_MS = 1_700_000_000_000


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings(context="demo", threads=1, queue="all")


async def replayed(path: Path, settings: Settings) -> MemoryBroker:
    return await simulate({"s": session_events(path, ["face", "voice", "text"])}, TOPOLOGY, settings)


def observed(broker: MemoryBroker) -> list[Observation]:
    stored = [m for m in broker.messages("observations") if TICK_HEADER not in dict(m.headers)]
    return [decode(m.value, Observation) for m in stored]


def told(observations: list[Observation], modality: str) -> Counter[str]:
    """How many observations of a modality say what: the reason of their absence, or the likeliest emotion."""
    of_it = [o for o in observations if o.modality == modality]
    return Counter(o.reason or max(o.emotions or {}, key=(o.emotions or {}).__getitem__) for o in of_it)


def span(observations: list[Observation], modality: str) -> tuple[int, int]:
    of_it = [o for o in observations if o.modality == modality]
    return min(o.start_ms for o in of_it) - START_MS, max(o.end_ms for o in of_it) - START_MS


@pytest.mark.parametrize(
    ("name", "faces", "voices", "face_span", "voice_span"),
    [
        ("phone-portrait-rotation-tag.mp4", 39, 13, (0, 3900), (250, 4000)),
        ("audio-starts-3s-late.mkv", 40, 13, (0, 3900), (3250, 7000)),
        ("mpegts-starts-at-1.4s.ts", 40, 13, (46, 3946), (250, 4000)),
        ("layout-changes.aac", 0, 13, None, (250, 4000)),
        ("one-bad-packet.mp3", 0, 15, None, (250, 4500)),
        ("cover-art-only.m4a", 0, 13, None, (250, 4000)),
        ("no-timestamps.h264", 40, 0, (0, 3900), None),
        ("keyboard-clicks.wav", 0, 0, None, (250, 5000)),
    ],
)
async def test_media_is_read_as_it_was_meant(
    name: str, faces: int, voices: int, face_span: Any, voice_span: Any, settings: Settings
) -> None:
    broker = await replayed(INPUTS / "media" / name, settings)
    found = observed(broker)
    assert told(found, "face")["happiness"] == faces
    heard = told(found, "voice")
    assert sum(n for what, n in heard.items() if what not in ("no_speech", "noise", "music")) == voices
    for modality, expected in (("face", face_span), ("voice", voice_span)):
        if expected is None:
            assert not [o for o in found if o.modality == modality]
        else:
            assert span(found, modality) == pytest.approx(expected, abs=60)
    assert not broker.messages("dead_letters")


async def test_key_clicks_are_noise_and_no_final_names_an_emotion(settings: Settings) -> None:
    broker = await replayed(INPUTS / "media" / "keyboard-clicks.wav", settings)
    assert told(observed(broker), "voice").keys() <= {"no_speech", "noise"}
    finals = [decode(m.value, AffectEvent) for m in broker.messages("affect_events")]
    assert finals
    assert all(final.abstained for final in finals)


@pytest.mark.parametrize(("name", "read"), [("jpeg-trailing-crlf.jpg", 3), ("scans-1000-of-14400.jpg", 0)])
async def test_a_frame_is_read_or_refused_and_delays_nobody(name: str, read: int, settings: Settings) -> None:
    data = (INPUTS / "media" / name).read_bytes()
    width, height = read_size(data)
    fields = {"source_id": "camera", "width": width, "height": height, "data": data}
    frames = [Event(n * 100, "video_frames", fields) for n in range(1, 4)]
    consent = consent_event(["face"], "s")
    consent = replace(consent, fields={**consent.fields, "single_subject": False})  # the detector sees two
    broker = await simulate({"s": [consent, *frames]}, TOPOLOGY, settings)
    assert len([o for o in observed(broker) if o.emotions]) == read
    assert len(broker.messages("dead_letters")) == 3 - read


def test_a_still_picture_is_no_film(settings: Settings) -> None:
    with pytest.raises(MediaError, match="neither video nor sound"):
        list(session_events(INPUTS / "media" / "jpeg-trailing-crlf.jpg", ["face"]))


async def test_a_film_of_any_suffix_beside_chat_is_read(settings: Settings) -> None:
    found = observed(await replayed(INPUTS / "folder-ts-beside-chat", settings))
    assert told(found, "face") == {"happiness": 40}
    assert told(found, "text") == {"happiness": 1}
    assert sum(told(found, "voice").values()) == 15


async def test_a_line_may_hold_any_character_of_json(settings: Settings) -> None:
    assert told(observed(await replayed(INPUTS / "chat-u2028", settings)), "text") == {"happiness": 1}


async def test_dates_are_not_waited_for(settings: Settings) -> None:
    found = observed(await replayed(INPUTS / "chat-absms", settings))
    assert (told(found, "text"), span(found, "text")) == ({"happiness": 1, "anger": 1}, (0, 1000))


NOTHING, OTHER = "nothing_readable", "language"
SAYS: dict[str, str] = {
    "I love it": "happiness", "I am sad": "sadness", "I don't like it at all": "anger",
    "I don&#39;t like it at all": "anger", "I&#39;m not happy": "sadness", "I&#39;m so happy &lt;3": "happiness",
    "not bad at all": "neutral", "\u200b": NOTHING, "\u2800": NOTHING, "\ufe0f": NOTHING, "\u00ad": NOTHING,
    "\u2060\ufeff": NOTHING, "\x00": NOTHING, "😂😂😂": "happiness", "❤️": "happiness", "🙄": "anger", "🫠": "sadness",
    "👨\u200d👩\u200d👧": NOTHING, ":(": "sadness", ":'(": "sadness", "<3": "happiness", "xD lol": "happiness",
    "¯\\_(ツ)_/¯": "surprise", "PogChamp": "trust", "KEKW": "happiness", "GG": "trust", "rip": "sadness",
    "NOOOOOOOOOO": "anger", "w h y": "neutral", "f***ing awesome": "trust", "sick!!!": "sadness",
    "great, just great. it crashed again.": "trust", "yeah right": "trust", "你好，我很高兴": OTHER,
    "Я тебя ненавижу": OTHER, "אני עצוב": OTHER, "ありがとう、楽しい": OTHER, "Ich hasse dich": OTHER,
    "Estoy muy triste hoy": OTHER, "नमस्ते मैं खुश हूँ": OTHER, "xin chào tôi rất vui": OTHER, "𝗜 𝗹𝗼𝘃𝗲 𝗶𝘁": "happiness",
    "I̶ ̶h̶a̶t̶e̶": "anger", "[SEP]": NOTHING, "[PAD][PAD][PAD] I hate you": "anger", "[UNK]": NOTHING,
    "@bob #happy": "happiness", "```\nraise AngryError('hate')\n```": NOTHING, '{"error": "fatal"}': NOTHING,
    "100%": NOTHING, "...": NOTHING, "!!!!!!": NOTHING, "a": NOTHING, "ok": "neutral", "asdfghjkl": "neutral",
    "kill yourself": "anger", "you're dead to me": "neutral", "I'm fine.": "trust",
}  # fmt: skip
"""Sarcasm ("great, just great") and random letters are read wrongly, as the card of text_affect says."""


@cache
def texts() -> tuple[str, ...]:
    return tuple(json.loads((INPUTS / "texts.json").read_text(encoding="utf-8")))


def expected(text: str) -> str:
    """What a line says; the three very long ones by what they repeat."""
    if text in SAYS:
        return SAYS[text]
    return NOTHING if set(text.split()) == {"a"} else "happiness"


async def test_each_line_of_chat_is_read_or_said_to_be_unreadable(settings: Settings) -> None:
    message = {"message_id": "m", "speaker": "user"}
    sessions = {
        str(n): [consent_event(["text"], str(n)), Event(1000, "chat_messages", {**message, "text": text})]
        for n, text in enumerate(texts())
    }
    broker = await simulate(sessions, TOPOLOGY, settings)
    found = {o.session_id: o for o in observed(broker)}
    assert len(found) == len(texts()) == 61
    assert not broker.messages("dead_letters")
    for n, text in enumerate(texts()):
        observation = found[str(n)]
        says = observation.reason or max(observation.emotions or {}, key=(observation.emotions or {}).__getitem__)
        assert says == expected(text), ascii(text[:40])


async def ranked(name: str, settings: Settings) -> list[str]:
    broker = await replayed(INPUTS / name, settings)
    (stored,) = broker.messages("ranked_items")
    return [item.item_id for item in decode(stored.value, RankedList).items]


async def test_a_sentinel_is_last_and_flattens_nothing(settings: Settings) -> None:
    assert await ranked("rank-sentinel9", settings) == ["i0", "i1", "i3", "i2", "i4", "i5"]


async def test_moods_of_another_scale_are_refused_with_the_items_key(settings: Settings) -> None:
    with pytest.raises(MediaError, match=r"Item: valence and arousal must lie in \[-1, 1\]"):
        await ranked("rank-sam", settings)


async def test_a_pinned_item_is_never_lost_to_top(settings: Settings) -> None:
    order = await ranked("rank-pin100", settings)
    (requested,) = [json.loads(line) for line in (INPUTS / "rank-pin100" / "candidates.jsonl").read_text().splitlines()]
    pinned = [item["item_id"] for item in requested["items"] if item.get("pinned_rank") is not None]
    assert pinned == ["ad"]
    assert (len(order), order[-1]) == (20, "ad")  # its rank, 30, is beyond the list
