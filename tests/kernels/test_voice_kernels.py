"""Log-mel, pitch, sound and segmentation: fast paths against plain ones, and known signals with known answers."""

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.voice.fourier import autocorrelation, power_spectrum
from kernels.voice.log_mel import BANDS, FRAME, HOP, frame_count, log_mel, log_mel_reference, mel_filters
from kernels.voice.segments import Segment, SegmenterParams, SpeechSegmenter, first_origin_ms
from kernels.voice.speech import (
    FEATURES,
    measure_acoustics,
    pitch,
    pitch_reference,
    stack_pieces,
    track_pitch,
    voice_features,
)
from tests.voices import VOICES, pause, read_pcm

RATE = 16000


def tone(hz: float, seconds: float = 1.0) -> NDArray[np.float64]:
    t = np.arange(int(seconds * RATE)) / RATE
    return np.asarray(0.3 * np.sum([np.sin(2 * np.pi * hz * k * t) / k for k in range(1, 6)], axis=0))


def test_log_mel_equals_its_reference_on_speech() -> None:
    samples = read_pcm("sadness")[: RATE // 2] / 32768
    np.testing.assert_allclose(log_mel(samples), log_mel_reference(samples), atol=2e-3)


def test_log_mel_equals_its_reference_on_noise_and_on_silence() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 2000)
    np.testing.assert_allclose(log_mel(noise), log_mel_reference(noise), atol=1e-4)
    np.testing.assert_allclose(log_mel(np.zeros(800)), log_mel_reference(np.zeros(800)), atol=1e-4)


def test_spectra_and_autocorrelations_equal_numpys() -> None:
    rows = np.random.default_rng(0).normal(0, 0.1, (7, 640)).astype(np.float32)
    plain = np.abs(np.fft.rfft(rows.astype(np.float64), 1024)) ** 2
    np.testing.assert_allclose(power_spectrum(rows, 1024), plain, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(autocorrelation(plain.astype(np.float32)), np.fft.irfft(plain, 1024), atol=1e-5)


def test_pitch_equals_its_reference_on_speech_on_noise_and_on_silence() -> None:
    noise = np.random.default_rng(0).normal(0, 0.01, RATE // 2)
    for samples in (read_pcm("anger") / 32768, read_pcm("sadness")[:RATE] / 32768, noise, np.zeros(RATE // 4)):
        (found, voicing), (plain, plain_voicing) = pitch(samples), pitch_reference(samples)
        np.testing.assert_allclose(voicing, plain_voicing, atol=2e-5)
        voiced = plain_voicing > 0.5
        np.testing.assert_allclose(found[voiced], plain[voiced], rtol=1e-4)


def test_features_of_a_frame_do_not_depend_on_how_many_are_worked_on_together() -> None:
    samples = read_pcm("anger")[: 2 * RATE] / 32768
    late = samples[128 * HOP - HOP :]  # the same sound, its frames one frame further in each part
    np.testing.assert_array_equal(log_mel(samples)[127 : 127 + len(log_mel(late))], log_mel(late))
    (hz, voicing), (late_hz, late_voicing) = pitch(samples), pitch(late)
    np.testing.assert_array_equal(hz[129:], late_hz[2:])  # the first two frames reach back over the cut
    np.testing.assert_array_equal(voicing[129:], late_voicing[2:])


def test_less_than_one_frame_gives_no_frames() -> None:
    assert log_mel(np.zeros(FRAME - 1)).shape == (0, BANDS)
    assert voice_features(track_pitch(np.zeros(FRAME - 1))).shape == (0, FEATURES)
    assert [frame_count(n) for n in (0, FRAME - 1, FRAME, FRAME + HOP - 1, FRAME + HOP)] == [0, 0, 1, 1, 2]


def test_every_band_has_some_bins_and_no_band_has_all() -> None:
    filters = mel_filters()
    assert filters.shape == (BANDS, 257)
    assert (filters.sum(axis=1) > 0).all()
    assert filters.max() <= 1.0


def test_a_tone_is_loudest_in_the_band_around_it() -> None:
    t = np.arange(RATE) / RATE
    centre_hz = (mel_filters() * np.arange(257)).sum(1) / mel_filters().sum(1) * RATE / 512
    for hz in (300.0, 1000.0, 4000.0):
        loudest = log_mel(np.sin(2 * np.pi * hz * t)).mean(axis=0).argmax()
        assert centre_hz[loudest] == pytest.approx(hz, rel=0.06)


@pytest.mark.parametrize("hz", [80.0, 123.0, 200.0, 333.0, 500.0])
def test_pitch_of_a_harmonic_tone_is_its_fundamental(hz: float) -> None:
    found, voicing = pitch(tone(hz))
    assert np.median(found) == pytest.approx(hz, rel=0.01)
    assert np.median(voicing) > 0.9


def test_noise_and_silence_are_not_voiced() -> None:
    assert np.median(pitch(np.random.default_rng(0).normal(0, 0.1, RATE))[1]) < 0.5
    assert pitch(np.zeros(RATE))[1].max() == 0.0


def test_features_do_not_depend_on_the_recording_level() -> None:
    samples = read_pcm("anger") / 32768
    loud, quiet = (voice_features(track_pitch(samples * gain)) for gain in (1.0, 0.25))
    np.testing.assert_allclose(loud, quiet, atol=0.02)


def test_pieces_are_padded_behind_and_masked() -> None:
    features, mask = stack_pieces([np.ones((3, FEATURES), np.float32), np.ones((5, FEATURES), np.float32)], 6)
    assert features.shape == (2, 6, FEATURES)
    assert mask.tolist() == [[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0]]
    assert (features.sum(axis=2) == mask * FEATURES).all()


def test_sound_is_measured_by_its_level_pitch_and_clipping() -> None:
    sound, quiet, clipped = (
        measure_acoustics(track_pitch(samples))
        for samples in (tone(200.0), tone(200.0) * 0.1, np.clip(tone(200.0) * 9, -1, 1))
    )
    assert sound.pitch_hz == pytest.approx(200.0, rel=0.01)
    assert sound.clipped == 0.0
    assert quiet.loudness_dbfs == pytest.approx(sound.loudness_dbfs - 20.0, abs=0.1)
    assert clipped.clipped > 0.3


def test_rate_counts_the_syllables_of_a_pulsed_tone() -> None:
    pulses = tone(150.0, 2.0) * (0.01 + np.clip(np.sin(2 * np.pi * 4.0 * np.arange(2 * RATE) / RATE), 0, 1))
    assert measure_acoustics(track_pitch(pulses)).rate_hz == pytest.approx(4.0, abs=0.6)


def segmented(samples: NDArray[np.int16], cuts: list[int], start_ms: int = 0) -> list[tuple[int, int, int, bytes]]:
    segments, due = SpeechSegmenter(start_ms, SegmenterParams()), list[Segment]()
    for part in np.split(samples, cuts):
        due += segments.push(part)
    return [(d.start_ms, d.end_ms, d.speech_ms, b"" if d.samples is None else d.samples.tobytes()) for d in due]


SPOKEN = np.concatenate(
    [pause(1.0), read_pcm("anger"), pause(1.2), read_pcm("neutral"), pause(6.0), read_pcm("sadness")]
)


@given(st.lists(st.integers(0, len(SPOKEN)), max_size=40))
def test_how_the_samples_are_cut_changes_nothing(cuts: list[int]) -> None:
    assert segmented(SPOKEN, sorted(cuts)) == segmented(SPOKEN, [])


def test_every_step_yields_something_and_speech_yields_growing_pieces() -> None:
    due = segmented(SPOKEN, [])
    assert [d[1] for d in due] == list(range(500, len(SPOKEN) // 16 + 1, 250))
    assert all(d[1] - d[0] == 250 for d in due if not d[3])
    pieces = [d for d in due if d[3]]
    assert all(600 <= d[1] - d[0] <= 3000 and len(d[3]) == 32 * (d[1] - d[0]) for d in pieces)
    first = [d for d in pieces if d[0] == pieces[0][0]]
    assert len(first) > 3  # one utterance, again as it grows


@pytest.mark.parametrize("sigma", [0, 12, 200, 800])
def test_steady_noise_is_no_speech(sigma: int) -> None:
    noise = np.random.default_rng(1).normal(0, sigma, 12 * RATE).astype(np.int16)
    assert not any(d[3] for d in segmented(noise, []))


def test_a_stream_that_starts_at_an_origin_yields_the_same_from_there_on() -> None:
    whole, segments, origins = segmented(SPOKEN, []), SpeechSegmenter(0, SegmenterParams()), set[int]()
    for part in np.split(SPOKEN, range(320, len(SPOKEN), 320)):
        segments.push(part)
        origins.add(segments.origin_ms)
    assert len(origins) > 1
    for origin_ms in sorted(origins)[1:]:
        for early_ms in (0, 20, 240):
            start_ms = origin_ms - 250 - early_ms
            assert first_origin_ms(start_ms, 250) == origin_ms
            again = segmented(SPOKEN[start_ms * 16 :], [], start_ms)
            assert again == [d for d in whole if d[1] > origin_ms]


def test_endless_speech_does_not_buffer_more_than_a_few_seconds() -> None:
    segments = SpeechSegmenter(0, SegmenterParams())
    voice = np.concatenate([read_pcm(name) for name in VOICES])
    origins = set()
    for part in np.split(np.tile(voice, 3), range(1600, 3 * len(voice), 1600)):
        segments.push(part)
        origins.add(segments.origin_ms)
        assert len(segments._buffer) <= 4.2 * RATE  # noqa: SLF001 - the most of a voice that is buffered
    assert max(np.diff(sorted(origins))) <= 15_000 + 250


def test_the_demo_voices_are_whole_16_khz_originals() -> None:
    for name, path in VOICES.items():
        with av.open(str(path)) as container:
            stream = container.streams.audio[0]
            assert (stream.rate, stream.channels) == (RATE, 1), name
