"""Measure false and missed speech, confirmed and not: `python -m models.silero_vad.evaluate --data DIR`.

Needs the run-time packages only. `--write` (with matplotlib) states the figures: figures.json, the card's table and
picture, and a line of `test_log.jsonl`. Without it nothing is stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import cycle
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kernels.engines import MODELS, Engine, load
from kernels.voice.audio_files import read_audio
from kernels.voice.confirm import classify, speech_probability
from kernels.voice.segments import SegmenterParams, SpeechSegmenter
from kernels.voice.speech import track_pitch
from models import evaluation, pictures
from models.figures import Figure
from models.silero_vad.noises import SEED, make_noises

MODEL = "silero_vad"
EMODB, RAVDESS = "emodb/orig_4class_wav16k", "ravdess/wav16k"
ROOM_SAMPLES = 4800
"""Of each RAVDESS file: nobody speaks in its first 300 ms."""
SNR_DB = (20, 10, 5, 0)
PROMISED_DB = 10
_TOLERANCE = 0.01

Samples = NDArray[np.int16]


@cache
def _detector() -> Engine:
    return load(MODEL, threads=1)


def judged(samples: Samples) -> dict[int, bool]:
    """Of each segment that webrtcvad takes for speech, by its end in ms: whether it is confirmed."""
    segmenter = SpeechSegmenter(0, SegmenterParams())
    found = {}
    for start in range(0, len(samples), 800):
        for segment in segmenter.push(samples[start : start + 800]):
            if segment.samples is not None:
                clip = track_pitch(np.asarray(segment.samples, np.float32) / np.float32(32768))
                heard = speech_probability(_detector(), clip.samples)
                found[segment.end_ms] = classify(clip, heard, segment.speech_ms) == "speech"
    return found


def figures(data: Path) -> list[Figure]:
    """Measure every figure of the card."""
    synthetic = [judged(x) for x in make_noises().values()]
    steps = sum((len(x) // 4000) - 2 for x in make_noises().values())  # a step every 250 ms, from 750 ms on
    claimed, confirmed = _count(synthetic)
    ravdess = [_samples(path) for path in _files(data, RAVDESS)]
    room = np.concatenate([x[:ROOM_SAMPLES] for x in ravdess])
    loud_room = np.asarray(np.clip(room.astype(np.int32) * 10, -32768, 32767), np.int16)
    in_room = [judged(part) for x in (room, loud_room) for part in np.array_split(x, 20)]
    room_steps = 2 * len(room) // 4000
    room_claimed, room_confirmed = _count(in_room)
    emodb = [_padded(_samples(path)) for path in _files(data, EMODB)]
    found = [
        _share(
            "false_synthetic_alone", "steps of 27 synthetic sounds taken for speech, webrtcvad alone", claimed, steps
        ),
        _share("false_synthetic", "the same, confirmed", confirmed, steps, must=0.01, lower=True),
        _share(
            "false_room_alone",
            "steps of RAVDESS' silent rooms, as they are and 20 dB louder, webrtcvad alone",
            room_claimed,
            room_steps,
        ),
        _share("false_room", "the same, confirmed", room_confirmed, room_steps, must=0.01, lower=True),
        _heard("heard_emodb", "segments of EmoDB's speech that are confirmed", emodb, must=0.98),
        _heard("heard_ravdess", "segments of RAVDESS' speech that are confirmed", ravdess, must=0.95),
    ]
    clean, noises = [judged(x) for x in emodb], make_noises(seed=SEED + 1)
    for db in SNR_DB:
        counts = [
            _heard_again(before, judged(mix(x, noise, db)))
            for x, before, noise in zip(emodb, clean, cycle(noises.values()), strict=False)
        ]
        steps, again = (sum(part) for part in zip(*counts, strict=True))
        must = 0.95 if db >= PROMISED_DB else None
        what = f"steps of EmoDB's speech that are still heard with a synthetic sound {db} dB softer"
        found.append(_share(f"heard_{db}_db", what, again, steps, must))
    return found


def mix(speech: Samples, noise: Samples, snr_db: float) -> Samples:
    """Speech with noise so many dB below its loud samples (those above 200 of 32768)."""
    x, n = speech.astype(np.float64), np.resize(noise, len(speech)).astype(np.float64)
    loud = np.sqrt(np.square(x[np.abs(x) > 200]).mean())  # noqa: PLR2004 - see above
    y = x + n / np.sqrt(np.square(n).mean()) * loud / 10 ** (snr_db / 20)
    return np.asarray(np.clip(np.round(y), -32768, 32767), np.int16)


def _files(data: Path, folder: str) -> list[Path]:
    return sorted((data / folder).rglob("*.flac"))


def _samples(path: Path) -> Samples:
    return np.asarray(np.clip(np.round(read_audio(path) * 32768), -32768, 32767), np.int16)


def _padded(samples: Samples) -> Samples:
    """An utterance between two quiet seconds: EmoDB's begin at once, and detectors need a moment."""
    quiet = np.random.default_rng(0).integers(-3, 4, 16000).astype(np.int16)
    return np.concatenate([quiet, samples, quiet])


def _count(sounds: Iterable[dict[int, bool]]) -> tuple[int, int]:
    """How many segments webrtcvad takes for speech, and how many of them are confirmed."""
    counts = [(len(one), sum(one.values())) for one in sounds]
    return sum(n for n, _ in counts), sum(n for _, n in counts)


def _heard_again(clean: dict[int, bool], noisy: dict[int, bool]) -> tuple[int, int]:
    """At how many steps the clean sound is speech, and at how many of them the noisy one is, too."""
    ends = [end for end, confirmed in clean.items() if confirmed]
    return len(ends), sum(noisy.get(end, False) for end in ends)


def _share(name: str, what: str, part: int, whole: int, must: float | None = None, *, lower: bool = False) -> Figure:
    value = part / whole
    return Figure(name=name, what=what, value=value, tolerance=_TOLERANCE, n=whole, must=must, lower_is_better=lower)


def _heard(name: str, what: str, sounds: Sequence[Samples], must: float | None = None) -> Figure:
    claimed, confirmed = _count(judged(x) for x in sounds)
    return _share(name, what, confirmed, claimed, must)


def main() -> None:
    """Run the command line."""
    given = evaluation.parser(MODEL, __doc__, "folder that holds emodb/ and ravdess/").parse_args()

    def draw(folder: Path) -> None:
        by_sound = {name: judged(x) for name, x in make_noises().items()}
        steps = {name: len(x) // 4000 - 2 for name, x in make_noises().items()}
        alone = {name: len(found) / steps[name] for name, found in by_sound.items()}
        confirmed = {name: sum(found.values()) / steps[name] for name, found in by_sound.items()}
        pictures.draw_shares(folder, {"webrtcvad alone": alone, "confirmed": confirmed}, "steps taken for speech")

    evaluation.report(MODELS / MODEL, figures(given.data), draw, write=given.write, log="all")


if __name__ == "__main__":
    main()
