"""Responsible use (DESIGN §9) on a real Kafka with the real models: each duty holds, and what breaks it is noticed.

Each `duty_...` is run twice: as things are, and with its check taken out (`WITHOUT`), when it must fail.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import pytest_asyncio

from kernels.face.jpeg import JpegError
from kernels.intents import likeliest
from operators import consent as gate
from operators import fuse_affect, sense_face
from operators.consent import ConsentGate, Verdict
from operators.payloads import VideoFrame
from operators.rank_items import RankItems
from operators.sense_face import SenseFace
from operators.sense_text import SenseText
from streamer.broker import Outgoing
from streamer.brokers.embedded.local_kafka import local_kafka
from streamer.payloads import encode
from streamer.settings import Settings, load_settings
from streamer.topology.reading import load_topology
from tests.faces import portrait
from tests.streamer.compliance.platform import (
    AGO_MS,
    Counted,
    Overheard,
    Platform,
    chat_message,
    done,
    felt,
    frame,
    now_ms,
    reasons,
    sound,
)

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(60, func_only=True), pytest.mark.asyncio(loop_scope="module")]

Duty = Callable[[Platform, str], Awaitable[None]]
Patch = pytest.MonkeyPatch
TESTS = Path(__file__).parents[2]
numbers = itertools.count()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def platform() -> AsyncIterator[Platform]:
    """All operators on a Kafka whose switches no other test sees."""
    async with (
        local_kafka(load_settings()) as kafka,
        Platform(kafka, load_topology("topology.yaml")).running() as running,
    ):
        yield running


@pytest.fixture
def session() -> str:
    return f"person-{next(numbers)}"


async def duty_without_consent_no_encoder_is_called(platform: Platform, session: str) -> None:
    counts = {m: platform.runners[f"sense_{m}"].context.metrics.totals for m in ("face", "voice", "text")}
    before = {m: total["no_consent"] for m, total in counts.items()}
    await platform.consent(session, modalities=[])
    assert await platform.media(session) == {}
    for modality, total in counts.items():
        assert total["no_consent"] > before[modality]
        assert reasons(await platform.observations(session, modality)) == {"no_consent"}


async def duty_nothing_leaves_before_a_disclosure_is_recorded(platform: Platform, session: str) -> None:
    assert await platform.media(session) == {}
    await platform.consent(session, disclosed_at_ms=None)
    assert await platform.media(session) == {}
    told_ms = now_ms()
    await platform.consent(session, disclosed_at_ms=told_ms)
    assert await platform.media(session, told_ms - 1) == {}
    assert await platform.read("observations", session) == []
    assert await platform.read("affect_live", session) == []


async def duty_what_was_captured_before_consent_is_not_read(platform: Platform, session: str) -> None:
    consented_ms = now_ms() - 1000
    await platform.consent(session, consented_ms, disclosed_at_ms=consented_ms - AGO_MS)
    assert await platform.media(session, consented_ms - 1) == {}
    assert "text_affect" in await platform.media(session, consented_ms)


async def duty_a_withdrawal_takes_back_what_was_said(platform: Platform, session: str) -> None:
    await platform.consent(session)
    await platform.processed("chat_messages", chat_message(session, now_ms()))
    await platform.finals(session, lambda finals: any(f.emotions for f in finals))
    withdrawn_ms = now_ms()
    await platform.consent(session, withdrawn_ms, modalities=[])
    finals = await platform.finals(session, lambda finals: finals[-1].window_end_ms > withdrawn_ms)
    for after in (f for f in finals if f.window_end_ms > withdrawn_ms):
        assert (after.abstained, after.emotions, after.valence, after.intents) == (True, None, None, None)
        assert after.modalities["text"].state == "no_consent"


async def duty_acts_are_read_only_where_that_was_consented_to(platform: Platform, session: str) -> None:
    await platform.consent(session, modalities=["face", "voice", "text"])
    await platform.processed("interactions", done(session, now_ms()))
    assert reasons(await platform.observations(session, "behaviour")) == {"no_consent"}


async def duty_acts_say_no_emotion_and_are_taken_back_with_consent(platform: Platform, session: str) -> None:
    await platform.consent(session)
    skipped_ms = now_ms()
    await platform.processed("interactions", *(done(session, skipped_ms - n) for n in (2, 1, 0)))
    read = await platform.finals(session, lambda finals: any(f.intents for f in finals))
    assert likeliest(next(f.intents for f in read if f.intents), 0.0) == "change"
    await platform.consent(session, modalities=["text"])
    await platform.processed("chat_messages", chat_message(session, now_ms() + 100))
    finals = await platform.finals(session, lambda finals: any(f.emotions for f in finals))
    assert not any(f.emotions for f in read)
    for after in (f for f in finals if f.emotions):
        assert after.modalities["behaviour"].state == "no_consent"
        assert (after.modalities["behaviour"].weight, "behaviour" in after.models) == (0, False)


async def duty_a_deleted_consent_is_a_withdrawal(platform: Platform, session: str) -> None:
    await platform.consent(session)
    assert await platform.media(session) != {}
    await platform.delete("consents", session)
    assert await platform.media(session) == {}
    for modality in ("face", "voice", "text"):
        assert (await platform.observations(session, modality))[-1].reason == "no_consent"


async def duty_face_and_voice_of_a_minor_are_absent(platform: Platform, session: str) -> None:
    seen: set[str | None] = set()
    for minor, reason in ((True, "minor"), (None, "age_not_said")):
        await platform.consent(session, minor=minor)
        assert set(await platform.media(session)) == {"text_affect", "text_vad", "text_intent"}
        seen.add(reason)
        assert reasons(await platform.observations(session, "face")) == seen
        assert reasons(await platform.observations(session, "voice")) == seen


async def duty_another_speaker_is_never_encoded(platform: Platform, session: str) -> None:
    await platform.consent(session)
    before = Counted.rows.copy()
    await platform.processed("chat_messages", chat_message(session, now_ms(), speaker="other"))
    assert before == Counted.rows
    assert await platform.observations(session, "text") == []


async def duty_two_faces_are_read_only_where_that_was_consented_to(platform: Platform, session: str) -> None:
    two = np.hstack([portrait(), portrait()])
    await platform.consent(session)
    before = Counted.rows["face_affect"]
    await platform.processed("video_frames", frame(session, now_ms(), two))
    assert reasons(await platform.observations(session, "face")) == {"bystander"}
    assert Counted.rows["face_affect"] == before
    await platform.consent(session, single_subject=False)
    await platform.processed("video_frames", frame(session, now_ms(), two))
    assert (await platform.observations(session, "face"))[-1].faces == 2
    assert Counted.rows["face_affect"] == before + 1


async def duty_the_switch_stops_the_sensing_within_a_second(platform: Platform, session: str) -> None:
    await platform.consent(session)
    await platform.processed("chat_messages", chat_message(session, now_ms()))
    thrown_ms = now_ms()
    try:
        await platform.control(sensing_off=True)
        assert await platform.media(session, now_ms()) == {}
        (taken_back,) = [o for o in await platform.observations(session, "text") if o.source_id == "consent"]
        assert taken_back.reason == "switched_off"
        (written,) = [m for m in platform.seen if m.topic == "observations" and m.value == encode(taken_back)]
        assert written.timestamp_ms - thrown_ms < 1000
    finally:
        await platform.control()


async def duty_what_was_captured_while_the_switch_was_off_stays_unread(platform: Platform, session: str) -> None:
    await platform.consent(session)
    await platform.control(sensing_off=True)
    captured_ms = now_ms()
    await asyncio.sleep(0.01)
    await platform.control()
    assert await platform.media(session, captured_ms) == {}
    assert "text_affect" in await platform.media(session, now_ms())


async def duty_expressions_only_holds_to_the_end(platform: Platform, session: str) -> None:
    await platform.consent(session, expressions_only=True)
    assert set(await platform.media(session)) == {"face_affect", "silero_vad"}  # its smile, and whether it speaks
    await platform.processed("interactions", done(session, now_ms()))
    observed = [o for m in platform.pipeline.topology.modalities for o in await platform.observations(session, m)]
    everything = {"presence", "smiling", "speaking", "loudness", "pitch", "rate"}

    def tell_everything(finals: list[Any]) -> bool:
        named = {name for final in finals for name in final.expressions or ()}
        return named == everything or any(final.emotions for final in finals)

    finals = await platform.finals(session, tell_everything)
    for record in (*observed, *await platform.read("affect_live", session), *finals):
        assert (record.emotions, record.intents) == (None, None)
        assert (record.valence, record.arousal, record.dominance, record.vad_source) == (None, None, None, "none")
        assert getattr(record, "compounds", []) == []
        assert getattr(record, "embedding", None) is None
    assert any(final.modalities["face"].state == "present" for final in finals if "face" in final.modalities)
    assert all(o.absent for o in observed if o.modality == "behaviour")


async def duty_the_ranker_ignores_a_person_in_expressions_only(platform: Platform, session: str) -> None:
    await platform.control(goal="lift")
    await platform.consent(session, expressions_only=True)
    await platform.send("affect_live", felt(session))
    await asyncio.sleep(0.3)  # rank_items reads it beside other topics: nothing tells when
    listed = await platform.ranked(session)
    await platform.control()
    assert [i.item_id for i in listed.items] == ["elegy", "garden", "storm"]
    assert all("affect" not in i.reasons for i in listed.items)
    assert listed.affect_event_id is None


async def duty_embeddings_stay_where_they_are_made(platform: Platform, session: str) -> None:
    await platform.consent(session)
    await platform.media(session)
    for modality in ("face", "voice", "text"):
        read = [o for o in await platform.observations(session, modality) if not o.absent]
        assert read
        assert all(o.embedding is None for o in read)


async def duty_media_and_words_reach_no_other_topic_and_no_log(platform: Platform, session: str) -> None:
    bait = f"secret-of-{session}"
    data, key, at_ms = bait.encode() * 3, session.encode(), now_ms()
    bad = [
        frame(session, at_ms, data=data),
        frame(session, at_ms + 1, data=frame(session, at_ms).data[:200] + data),
        sound(session, at_ms, data=data + b"." * (len(data) % 2 + 1)),
        sound(session, at_ms, data=data, sample_rate_hz=8000),
        chat_message(session, at_ms, bait),
    ]
    topics = ["video_frames", "video_frames", "audio_chunks", "audio_chunks", "chat_messages"]
    whole = [Outgoing(t, key, encode(p)) for t, p in zip(topics, bad, strict=True)]
    cut = [Outgoing(o.topic, o.key, (o.value or b"")[:-7], (("schema", b"?"),)) for o in whole]
    cut += [Outgoing(o.topic, o.key, (o.value or b"")[:-7]) for o in whole]
    log = Overheard()
    Counted.fails_with = f"could not read {bait}"
    logging.getLogger().addHandler(log)
    try:
        await platform.consent(session)
        await platform.producer.send([*whole, *cut])
        await platform.until_letters(session, len(whole) + len(cut))
    finally:
        logging.getLogger().removeHandler(log)
        Counted.fails_with = None
    assert not [m for m in platform.seen if bait.encode() in (m.value or b"")]
    assert bait not in log.text
    assert "failed for good" in log.text


def _everything_is_allowed(patch: Patch) -> None:
    patch.setattr(ConsentGate, "_consented", lambda *_: Verdict(None))


def _nobody_need_be_told(patch: Patch) -> None:
    judged = ConsentGate.verdict
    patch.setattr(ConsentGate, "verdict", lambda self, record: replace(judged(self, record), disclosed=True))


def _consent_reaches_back(patch: Patch) -> None:
    granted = gate._Grant  # noqa: SLF001 - what is taken out has no public name
    patch.setattr(gate, "_Grant", lambda _, mode: granted(0, mode))


def _nothing_is_taken_back(patch: Patch) -> None:
    patch.setattr(ConsentGate, "_ends", lambda *_: None)


def _everybody_is_of_age(patch: Patch) -> None:
    judged = ConsentGate._consented  # noqa: SLF001 - what is taken out has no public name
    patch.setattr(ConsentGate, "_consented", lambda self, c: judged(self, msgspec.structs.replace(c, minor=False)))


def _every_speaker_is_the_user(patch: Patch) -> None:
    patch.setattr(SenseText, "_without_encoder", lambda *_: None)


def _every_face_is_the_user(patch: Patch) -> None:
    detect = SenseFace._detect  # noqa: SLF001 - what is taken out has no public name

    def detected(self: SenseFace, finder: Any, grey: Any, detection: Any) -> None:
        detection.verdict = replace(detection.verdict, single_subject=False)
        detect(self, finder, grey, detection)

    patch.setattr(SenseFace, "_detect", detected)


def _there_is_no_switch(patch: Patch) -> None:
    patch.setattr(ConsentGate, "_switched_off", lambda _: False)


def _the_switch_is_forgotten(patch: Patch) -> None:
    on_control = ConsentGate._on_control  # noqa: SLF001 - what is taken out has no public name

    def controlled(self: ConsentGate, record: Any) -> Any:
        outputs = on_control(self, record)
        vars(self)["_on_since_ms"] = 0
        return outputs

    patch.setattr(ConsentGate, "_on_control", controlled)


def _every_mode_is_full(patch: Patch) -> None:
    judged = ConsentGate._consented  # noqa: SLF001 - what is taken out has no public name
    patch.setattr(ConsentGate, "_consented", lambda self, c: replace(judged(self, c), mode="full"))


def _the_ranker_does_not_ask(patch: Patch) -> None:
    patch.setattr(RankItems, "_may_use_affect", lambda *_: True)


def _embeddings_are_asked_for(patch: Patch) -> None:
    read = Settings.__getattribute__
    patch.setattr(Settings, "__getattribute__", lambda self, name: name == "embeddings" or read(self, name))


def _complaints_quote_what_they_complain_of(patch: Patch) -> None:
    def quoted(picture: VideoFrame, **_: object) -> None:
        raise JpegError(repr(picture.data))

    patch.setattr(sense_face, "_decoded", quoted)


def _fusion_does_not_listen(patch: Patch) -> None:
    patch.setattr(fuse_affect, "REVOKING", ())


WITHOUT: list[tuple[Duty, Callable[[Patch], None]]] = [
    (duty_without_consent_no_encoder_is_called, _everything_is_allowed),
    (duty_nothing_leaves_before_a_disclosure_is_recorded, _nobody_need_be_told),
    (duty_what_was_captured_before_consent_is_not_read, _consent_reaches_back),
    (duty_a_withdrawal_takes_back_what_was_said, _nothing_is_taken_back),
    (duty_a_withdrawal_takes_back_what_was_said, _fusion_does_not_listen),
    (duty_acts_are_read_only_where_that_was_consented_to, _everything_is_allowed),
    (duty_acts_say_no_emotion_and_are_taken_back_with_consent, _fusion_does_not_listen),
    (duty_a_deleted_consent_is_a_withdrawal, _nothing_is_taken_back),
    (duty_face_and_voice_of_a_minor_are_absent, _everybody_is_of_age),
    (duty_another_speaker_is_never_encoded, _every_speaker_is_the_user),
    (duty_two_faces_are_read_only_where_that_was_consented_to, _every_face_is_the_user),
    (duty_the_switch_stops_the_sensing_within_a_second, _there_is_no_switch),
    (duty_what_was_captured_while_the_switch_was_off_stays_unread, _the_switch_is_forgotten),
    (duty_expressions_only_holds_to_the_end, _every_mode_is_full),
    (duty_the_ranker_ignores_a_person_in_expressions_only, _the_ranker_does_not_ask),
    (duty_embeddings_stay_where_they_are_made, _embeddings_are_asked_for),
    (duty_media_and_words_reach_no_other_topic_and_no_log, _complaints_quote_what_they_complain_of),
]


DUTIES = list(dict.fromkeys(duty for duty, _ in WITHOUT))


def name_of(one: Callable[..., object]) -> str:
    return one.__name__.removeprefix("duty_").lstrip("_")


@pytest.mark.parametrize("duty", DUTIES, ids=name_of)
async def test_the_duty_holds(duty: Duty, platform: Platform, session: str) -> None:
    await duty(platform, session)


@pytest.mark.parametrize(("duty", "take_out"), WITHOUT, ids=name_of)
async def test_without_its_check_the_duty_is_seen_to_fail(
    duty: Duty, take_out: Callable[[Patch], None], platform: Platform, session: str, monkeypatch: Patch
) -> None:
    take_out(monkeypatch)
    with pytest.raises(AssertionError):
        await duty(platform, session)


async def test_every_duty_of_this_file_has_its_check_taken_out_once() -> None:
    assert set(DUTIES) == {found for name, found in globals().items() if name.startswith("duty_")}


async def test_the_page_names_tests_that_exist() -> None:
    page = (TESTS.parent / "docs" / "responsible_use.md").read_text(encoding="utf-8")  # noqa: ASYNC240 - small
    named = set(re.findall(r"`((?:test|duty)_\w+)`", page))
    written = "".join(path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py"))
    assert named >= {duty.__name__ for duty in DUTIES}
    assert {name for name in named if f"def {name}(" not in written} == set()
