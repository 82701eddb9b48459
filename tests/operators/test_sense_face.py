"""Face observations from frames of every kind: one face, none, two, turned, broken, refused; the real model."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels import engines
from kernels.emotions import SEVEN
from operators import encoders
from operators.payloads import MAX_FRAME_BYTES, Consent, Observation, VideoFrame
from operators.sense_face import Params, Pixels, SenseFace
from streamer.errors import RefusedUseError
from streamer.event_time import SystemClock
from streamer.operator import Context
from streamer.payloads import Refusal, decode, encode
from streamer.records import Origin, Record
from streamer.settings import load_settings
from tests.faces import empty_room, jpeg, portrait

AT_MS = 1_790_000_000_000
FRAME_MS = 100


class StandingClock(SystemClock):
    """A clock that stands where the frames are."""

    def now_ms(self) -> int:
        return AT_MS + 100


def granted(session_id: str = "s1", **changes: Any) -> Consent:
    fields: dict[str, Any] = {"modalities": ["face"], "disclosed_at_ms": 1, "minor": False, **changes}
    return Consent(session_id=session_id, event_time_ms=AT_MS, user_id="u", **fields)


def shot(picture: NDArray[np.uint8] | None = None, n: int = 0, **changes: Any) -> Record[VideoFrame]:
    picture = portrait() if picture is None else picture
    fields: dict[str, Any] = {
        "session_id": "s1",
        "source_id": "camera",
        "width": picture.shape[1],
        "height": picture.shape[0],
        "data": jpeg(picture),
        **changes,
    }
    frame = VideoFrame(event_time_ms=AT_MS + n * FRAME_MS, **fields)
    at_ms = frame.event_time_ms
    return Record(frame.session_id, at_ms, at_ms + 50, frame, Origin("video_frames", 0, n))


def context(*consents: Consent, **settings: Any) -> Context:
    tables: dict[str, dict[str, Any]] = {"consents": {c.session_id: c for c in consents}, "controls": {}}
    given = load_settings(**{"context": "demo", "threads": 1, **settings})
    return Context("sense_face", given, clock=StandingClock(), tables=tables)


async def opened(*consents: Consent, **settings: Any) -> SenseFace:
    operator = SenseFace(Params(), context(*consents or (granted(),), **settings))
    await operator.open()
    return operator


async def seen(operator: SenseFace, *records: Record[Any]) -> list[Any]:
    return [record.payload for record in await operator.process(records)]


class Counted:
    """A real engine that counts the rows it was given, call by call."""

    def __init__(self, engine: engines.Engine) -> None:
        self.reasons_against = engine.reasons_against
        self.spec, self.backend, self._engine = engine.spec, engine.backend, engine
        self.calls: list[int] = []

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        self.calls.append(len(inputs["faces"]))
        return self._engine.infer(inputs)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many faces each encoder call of this test was given, those of warming up too."""
    rows: list[int] = []
    compiled = engines.load

    def load(name: str, **options: Any) -> Counted:
        counted = Counted(compiled(name, **options))
        counted.calls = rows
        return counted

    monkeypatch.setattr(engines, "load", load)
    return rows


async def test_a_smile_is_read_as_happiness() -> None:
    (o,) = await seen(await opened(), shot())
    assert max(o.emotions, key=o.emotions.get) == "happiness"


async def test_an_observation_keeps_the_contract() -> None:
    (record,) = await (await opened()).process([shot(n=3)])
    o, at_ms = record.payload, AT_MS + 3 * FRAME_MS
    assert isinstance(o, Observation)
    assert (record.key, record.event_time_ms, record.origin) == ("s1", at_ms, Origin("video_frames", 0, 3))
    assert (o.modality, o.source_id, o.source_kafka_ms) == ("face", "camera", at_ms + 50)
    assert o.start_ms == o.end_ms == o.event_time_ms == at_ms
    assert o.emotions is not None
    assert tuple(o.emotions) == SEVEN
    assert sum(o.emotions.values()) == pytest.approx(1.0, abs=1e-9)
    assert 1 / len(SEVEN) <= o.confidence <= max(o.emotions.values()) + 1e-9
    assert o.vad_source == "derived"
    assert o.valence is not None
    assert o.valence > 0
    assert (o.embedding, o.expressions, o.absent, o.mode, o.faces) == (None, None, False, "full", 1)
    assert set(o.quality) == {"blur", "size", "light", "clipped"}
    assert o.model.startswith("face_affect@")
    assert decode(encode(o), Observation) == o


async def test_the_box_is_where_the_face_is_in_the_upright_frame() -> None:
    upright, turned = await opened(), await opened()
    (o,) = await seen(upright, shot())
    (p,) = await seen(turned, shot(np.ascontiguousarray(np.rot90(portrait())), rotation=90))
    assert o.box == pytest.approx(p.box, abs=8)
    left, top, width, height = o.box
    assert width == height
    assert 130 <= left + width / 2 <= 190
    assert 110 <= top + height / 2 <= 165


async def test_frames_of_one_batch_share_one_encoder_call(calls: list[int]) -> None:
    operator = await opened(granted("a"), granted("b"), granted("c"))
    calls.clear()
    read = await seen(operator, *(shot(session_id=name) for name in "abc"))
    assert [o.session_id for o in read] == ["a", "b", "c"]
    assert calls == [3]


async def test_a_batch_reads_each_frame_as_if_it_were_alone() -> None:
    dark = (portrait() * 0.6).astype(np.uint8)
    together = await seen(await opened(granted("a"), granted("b")), shot(session_id="a"), shot(dark, session_id="b"))
    alone = [
        (await seen(await opened(granted(name)), shot(picture, session_id=name)))[0]
        for name, picture in (("a", portrait()), ("b", dark))
    ]
    for one, other in zip(together, alone, strict=True):
        assert one.emotions == pytest.approx(other.emotions, abs=2e-3)


async def test_an_empty_room_is_absent_and_counted(calls: list[int]) -> None:
    where = context(granted())
    operator = SenseFace(Params(), where)
    await operator.open()
    calls.clear()
    read = await seen(operator, *(shot(empty_room(seed=n), n) for n in range(4)))
    assert {(o.absent, o.reason, o.faces, o.emotions) for o in read} == {(True, "no_face", 0, None)}
    assert where.metrics.totals["no_face"] == 4
    assert calls == []


async def test_two_faces_are_a_bystander_unless_consent_says_otherwise(calls: list[int]) -> None:
    two = np.hstack([portrait(), portrait()])
    operator = await opened()
    calls.clear()
    (o,) = await seen(operator, shot(two))
    assert (o.absent, o.reason, o.faces, o.emotions) == (True, "bystander", 2, None)
    assert calls == []
    (o,) = await seen(await opened(granted(single_subject=False)), shot(two))
    assert (o.absent, o.faces) == (False, 2)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"modalities": ["voice"]}, "no_consent"), ({"minor": None}, "age_not_said"), ({"minor": True}, "minor")],
)
async def test_a_refused_frame_is_neither_decoded_nor_encoded(
    changes: dict[str, Any], reason: str, calls: list[int]
) -> None:
    operator = await opened(granted(**changes))
    calls.clear()
    (o,) = await seen(operator, shot(data=b"never looked at"))
    assert (o.absent, o.reason, o.emotions, o.box) == (True, reason, None, None)
    assert calls == []


async def test_a_person_who_was_told_nothing_leaves_no_trace() -> None:
    operator = await opened(granted(disclosed_at_ms=None))
    assert await seen(operator, shot(), shot(session_id="stranger")) == []


async def test_expressions_only_names_no_emotion() -> None:
    (o,) = await seen(await opened(granted(expressions_only=True)), shot())
    assert (o.mode, o.emotions, o.valence, o.arousal, o.vad_source) == ("expressions_only", None, None, None, "none")
    assert set(o.expressions) == {"presence", "smiling"}
    assert o.expressions["smiling"] > 0.5


async def test_withdrawn_consent_sends_one_absent_observation_and_forgets_the_face() -> None:
    operator = await opened()
    await seen(operator, shot())
    record = Record("s1", AT_MS + 200, AT_MS + 250, granted(modalities=["text"]), Origin("consents", 0, 3))
    (out,) = operator.on_table("consents", record)
    assert (out.payload.absent, out.payload.reason, out.payload.modality) == (True, "no_consent", "face")
    assert operator.needs_from("s1") is None


BROKEN: dict[str, dict[str, Any]] = {
    "cut short": {"data": jpeg(portrait())[:4000]},
    "not a JPEG": {"data": b"GIF89a" + bytes(100)},
    "nothing": {"data": b""},
    "another size": {"width": 640},
    "over the limit": {"data": jpeg(portrait()) + bytes(MAX_FRAME_BYTES)},
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
async def test_a_broken_frame_is_a_dead_letter_and_its_neighbours_are_read(broken: dict[str, Any]) -> None:
    first, refused, last = await seen(await opened(), shot(), shot(n=1, **broken), shot(n=2))
    assert isinstance(refused, Refusal)
    assert refused.reason == "undecodable"
    assert refused.detail.startswith("VideoFrame.data: ")
    assert (first.absent, last.absent) == (False, False)


async def test_embeddings_leave_only_where_the_deployment_lets_them() -> None:
    (o,) = await seen(await opened(embeddings=True), shot())
    assert np.frombuffer(o.embedding, "<f2").shape == (256,)


async def test_an_unsettled_licence_must_be_accepted_outside_the_demo(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(RefusedUseError, match="STREAMER_ACCEPT_LICENCES=unsettled"):
        await opened(context="entertainment")
    await opened(context="entertainment", accept_licences="unsettled")
    encoders.warned_of.clear()
    with caplog.at_level(logging.WARNING):
        await opened()
    assert "unsettled" in caplog.text


async def test_a_detector_that_is_not_there_is_named() -> None:
    operator = SenseFace(Params(detector="/nowhere/yunet.onnx"), context(granted()))
    with pytest.raises(ValueError, match="/nowhere/yunet.onnx"):
        await operator.open()


def test_a_length_is_written_with_its_unit() -> None:
    assert Pixels.parse("60px") == 60
    for wrong in (60, "60", "px", "6.5px", "-3px", None):
        with pytest.raises(ValueError, match="60px"):
            Pixels.parse(wrong)


def test_a_face_too_small_to_read_is_refused_as_a_parameter() -> None:
    with pytest.raises(ValueError, match="min_face"):
        Params(min_face=Pixels(10))
