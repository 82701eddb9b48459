"""Sounds in which nobody speaks are `absent` with their reason; speech is read. By the real detectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.emotions import SEVEN
from kernels.engines import MODELS, ModelFolderError, load
from kernels.voice.confirm import FRAME, check_detector, classify, speech_probability
from kernels.voice.speech import SpeechClip
from models.silero_vad.noises import make_noises
from operators.payloads import Observation
from operators.sense_voice import Params
from streamer.errors import ModelError
from tests.operators.test_sense_voice import granted, identity, opened, stream, told
from tests.voices import ALL_VOICES, pause, read_pcm

NOISES = make_noises(seed=3)
TONAL = {"buzz of a phone", "tone, 440 Hz", "chord", "ringing", "plucked strings", "organ", "bowed strings", "siren"}
ATONAL = {"white noise", "key clicks", "fast key clicks", "hum, 50 Hz", "hum, 60 Hz", "breath", "drums", "crackle"}


async def observed(samples: NDArray[np.int16], **changes: Any) -> list[Observation]:
    return await told(await opened(granted(**changes)), stream(samples, [50]), batch=40)


@pytest.mark.parametrize("name", sorted(NOISES))
async def test_nothing_is_read_of_a_sound_in_which_nobody_speaks(name: str) -> None:
    out = await observed(NOISES[name])
    read = [o for o in out if not o.absent]
    assert read == []
    reasons = {o.reason for o in out if o.absent}
    assert reasons <= {"no_speech", "noise", "music"}
    if name in TONAL | ATONAL:
        assert reasons - {"no_speech"} <= ({"music"} if name in TONAL else {"noise"})


async def test_what_was_taken_for_speech_and_is_none_is_counted_by_its_reason() -> None:
    operator = await opened()
    for name in ("white noise", "organ"):
        await told(operator, stream(NOISES[name], [50], source_id=name), batch=40)
    totals = operator._context.metrics.totals  # noqa: SLF001 - what its worker reports
    assert totals["noise"] > 30
    assert totals["music"] > 30


@pytest.mark.parametrize("emotion", sorted({name for name, _ in ALL_VOICES}))
async def test_whoever_speaks_is_read_as_before(emotion: str) -> None:
    spoken = read_pcm(emotion)
    out = await observed(np.concatenate([pause(1.0), spoken, pause(1.0)]))
    assert sum(not o.absent for o in out) >= len(spoken) / 4000 - 3
    assert set().union(*(o.emotions for o in out if o.emotions)) <= set(SEVEN)


@pytest.mark.parametrize("name", ["pink noise", "key clicks", "drums", "hum, 50 Hz"])
async def test_speech_is_read_in_noise_ten_decibels_softer(name: str) -> None:
    spoken = np.concatenate([read_pcm("anger"), pause(0.3), read_pcm("happiness")]).astype(float)
    noise = np.resize(NOISES[name], len(spoken)).astype(float)
    loud = np.sqrt(np.square(spoken[np.abs(spoken) > 200]).mean())
    noisy = spoken + noise / np.sqrt(np.square(noise).mean()) * loud / 10**0.5
    out = await observed(np.clip(noisy, -32768, 32767).astype(np.int16))
    assert sum(not o.absent for o in out) >= 0.8 * (len(spoken) / 4000 - 4)


async def test_speech_after_noise_is_read_and_the_noise_isnt() -> None:
    noise, spoken = NOISES["white noise"][:80_000], read_pcm("happiness")
    out = await observed(np.concatenate([noise, pause(1.0), spoken, pause(1.0)]))
    from_ms = out[0].end_ms + 5000
    assert not [o for o in out if not o.absent and o.end_ms < from_ms]
    assert [o for o in out if not o.absent and o.end_ms > from_ms]


async def test_two_sources_are_judged_each_by_itself() -> None:
    mine = stream(np.concatenate([pause(1.0), read_pcm("anger"), pause(1.0)]), [50], source_id="mic")
    fan = stream(NOISES["fan"], [50], source_id="fan")
    mixed = [r for pair in zip(mine, fan, strict=False) for r in pair]
    out = await told(await opened(), mixed, batch=40)
    alone = await told(await opened(), mine[: len(mixed) // 2], batch=40)
    of_mic = [o for o in out if o.source_id == "mic"]
    assert [(identity(o), o.emotions) for o in of_mic] == [(identity(o), o.emotions) for o in alone]
    assert all(o.absent for o in out if o.source_id == "fan")


async def test_expressions_only_says_that_nobody_speaks() -> None:
    out = await observed(NOISES["white noise"], expressions_only=True)
    assert {(o.absent, tuple((o.expressions or {}).items())) for o in out} == {(True, (("speaking", 0.0),))}


def clip(octaves: float, voiced: float = 1.0) -> SpeechClip:
    """300 frames, so many of them with a pitch that moves evenly through so many octaves."""
    hz = 200 * 2 ** np.linspace(0, octaves, 300, dtype=np.float32)
    return SpeechClip(np.zeros(48_000, np.float32), hz, (np.arange(300) < 300 * voiced).astype(np.float32))


def test_enough_is_said_by_time_and_by_share() -> None:
    heard = np.zeros(94, np.float32)
    heard[:6] = 0.9
    assert classify(clip(1.0), heard, 700) == "speech"
    assert classify(clip(1.0), heard, 800) == "music"
    heard[5] = 0.49
    assert classify(clip(1.0, voiced=0.4), heard, 600) == "noise"


def test_what_keeps_its_pitch_is_no_voice_however_sure_the_network_is() -> None:
    assert classify(clip(0.03), np.ones(94, np.float32), 3000) == "music"
    assert classify(clip(0.05), np.ones(94, np.float32), 3000) == "speech"
    assert classify(clip(0.0, voiced=0.03), np.ones(94, np.float32), 3000) == "speech"  # whispered: nearly no pitch


def test_a_segment_is_judged_by_itself_whatever_was_asked_before() -> None:
    detector = load("silero_vad", threads=1)
    spoken = (read_pcm("anger")[: 40 * FRAME] / np.float32(32768)).astype(np.float32)
    first = speech_probability(detector, spoken)
    speech_probability(detector, np.zeros(48_000, np.float32))
    np.testing.assert_array_equal(speech_probability(detector, spoken), first)
    assert len(first) == 40
    assert len(speech_probability(detector, spoken[:-1])) == 40


async def test_a_model_that_is_no_detector_is_refused_with_a_way_out() -> None:
    with pytest.raises(ModelFolderError, match="name one as `detector`, such as silero_vad"):
        check_detector(load("text_vad", threads=1).spec)
    with pytest.raises(ModelError, match="voice_affect@3 is no speech detector"):
        await opened(params=Params(detector="voice_affect"))


def test_the_detector_ships_with_its_makers_licence() -> None:
    assert "Silero Team" in (MODELS / "silero_vad" / "LICENSE").read_text()
