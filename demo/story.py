"""The demo's story: what is played when, written as a session folder. It contains no results of sensing.

Sixty seconds at a railway station: a goodbye (sadness), a cancelled train with nobody to ask (anger), an angry voice
in a smiling face (conflict), seats after all (happiness), waiting (neutral), and the voice's consent withdrawn.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demo.portrait import HEIGHT, WIDTH, Portrait

LENGTH_MS = 60_000
FRAMES_PER_S = 10
RATE_HZ = 16_000
FADE_MS = 500
VOICES = Path(__file__).with_name("voices")
LABEL = "altered picture, acted voices (German)"
USER = "traveller"


@dataclass(frozen=True, slots=True)
class Face:
    """From `at_ms` on the face has this expression; None: nobody is in the picture."""

    at_ms: int
    expression: str | None


@dataclass(frozen=True, slots=True)
class Voice:
    """At `at_ms` this recording begins; `words` is its text (every text of EmoDB is neutral in content)."""

    at_ms: int
    recording: str
    words: str

    @property
    def acted(self) -> str:
        """The emotion that was acted."""
        return self.recording.partition("_")[0]


FACES = (
    Face(0, "neutral"),
    Face(1500, "sadness"),
    Face(11_500, None),
    Face(18_500, "anger"),
    Face(23_000, None),
    Face(26_500, "happiness"),
    Face(44_500, "neutral"),
)
SPEECH = (
    Voice(2000, "sadness_13a05Tc", "Das schwarze Stück Papier befindet sich da oben …"),
    Voice(6800, "sadness_13b03Td", "An den Wochenenden bin ich jetzt immer nach Hause gefahren …"),
    Voice(12_100, "sadness_13a04Ta", "Heute abend könnte ich es ihm sagen."),
    Voice(15_600, "anger_13a04Wc", "Heute abend könnte ich es ihm sagen."),
    Voice(18_000, "anger_13b03Wc", "An den Wochenenden bin ich jetzt immer nach Hause gefahren …"),
    Voice(26_700, "anger_13a02Wa", "Das will sie am Mittwoch abgeben."),
    Voice(30_500, "happiness_13a01Fd", "Der Lappen liegt auf dem Eisschrank."),
    Voice(33_000, "happiness_13b01Fc", "Was sind denn das für Tüten, die da unter dem Tisch stehen?"),
    Voice(38_000, "happiness_13b09Fb", "Ich will das eben wegbringen und dann mit Karl was trinken gehen."),
    Voice(45_600, "neutral_13b02Nb", "Sie haben es gerade hochgetragen …"),
    Voice(48_900, "neutral_13b03Na", "An den Wochenenden bin ich jetzt immer nach Hause gefahren …"),
    Voice(54_500, "neutral_13b09Na", "Ich will das eben wegbringen …"),
)
CHAT = (
    (2500, "user", "I just said goodbye to my grandmother. I miss her already, I feel so sad."),
    (6000, "user", "It was probably the last time. I can't stop crying."),
    (15_200, "user", "How dare they cancel my train! I'm so angry with them."),
    (17_500, "other", "Service desk: please wait, your request is being processed."),
    (18_500, "user", "They just lie to us! I am so mad at them."),
    (23_500, "user", "Nobody even answers. I hate how they treat people here!"),
    (29_800, "user", "Wait, they found two seats for us! I'm so happy, thank you!"),
    (37_000, "user", "We're going home tonight. I am so happy!"),
    (45_000, "user", "The train goes from platform four."),
    (55_500, "user", "We sit in coach twelve."),
)
GRANTED_MS, WITHDRAWN_MS = 1000, 51_000

# The platform's candidates with its scores: what sells at a station. The same items each time, so that every
# difference between two orders is due to affect.
SHELF: Mapping[str, float] = {
    "story-empty-chair-at-supper": 8.7,
    "story-August-traffic-jam": 8.6,
    "story-wilted-rose-garden": 8.4,
    "story-paper-map": 8.3,
    "story-unopened-letter": 8.2,
    "story-rain-on-the-tent": 8.0,
    "story-village-choir": 7.9,
    "story-lantern-parade": 7.7,
    "story-road-in-the-fog": 5.4,
    "story-street-football-final": 5.1,
}
REQUESTED_MS = (500, 16_000, 31_000, 46_000)

Sound = NDArray[np.int16]
Image = NDArray[np.uint8]


def compose(folder: Path, progress: Callable[[float], None] | None = None) -> None:
    """Write the story into a folder for `streamer replay`; takes a few seconds and reports the share done (0..1).

    Raises:
        FileNotFoundError: a recording or the picture is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in (("consents", consents()), ("chat", chat()), ("candidates", requests())):
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    write_media(folder / "media.mkv", pictures(), soundtrack(), progress or (lambda _: None))


def consents() -> list[dict[str, Any]]:
    """Consent for every modality at `GRANTED_MS`, without the voice from `WITHDRAWN_MS` on."""
    person = {
        "user_id": USER,
        "disclosure_version": "demo",
        "disclosed_at_ms": GRANTED_MS,
        "minor": False,
        "affect_ranking": True,
    }
    return [
        {"event_time_ms": GRANTED_MS, **person, "modalities": ["face", "voice", "text", "behaviour"]},
        {"event_time_ms": WITHDRAWN_MS, **person, "modalities": ["face", "text", "behaviour"]},
    ]


def chat() -> list[dict[str, Any]]:
    """The chat lines of the user and of somebody else (whose lines no model reads)."""
    return [{"event_time_ms": at, "speaker": speaker, "text": text, "language": "en"} for at, speaker, text in CHAT]


def requests() -> list[dict[str, Any]]:
    """The shelf as a candidate list at each of `REQUESTED_MS`."""
    return [{"event_time_ms": at_ms, **shelf_request(n)} for n, at_ms in enumerate(REQUESTED_MS, 1)]


def shelf_request(number: int) -> dict[str, Any]:
    """The fields of a candidate list with the shelf's items and scores."""
    items = [{"item_id": item, "score": score} for item, score in SHELF.items()]
    return {"request_id": f"shelf-{number}", "user_id": USER, "items": items}


def playing(at_ms: int) -> tuple[str, str]:
    """What is played at a moment: the face (`absent` where nobody is in the picture) and the voice ("" in silence)."""
    face = next(f.expression for f in reversed(FACES) if f.at_ms <= max(at_ms, 0))
    voice = next((v for v in SPEECH if v.at_ms <= at_ms < v.at_ms + _length_ms(v.recording)), None)
    return face or "absent", f"{voice.acted} “{voice.words}”" if voice else ""


def soundtrack() -> Sound:
    """The story's full sound, 16 kHz mono: the recordings over faint white noise."""
    total = np.random.default_rng(3).normal(0, 8, LENGTH_MS * RATE_HZ // 1000)
    for voice in SPEECH:
        samples = read_voice(voice.recording)
        start = voice.at_ms * RATE_HZ // 1000
        total[start : start + len(samples)] += samples
    return np.asarray(total.round().clip(-32768, 32767), np.int16)


def pictures() -> Iterator[Image]:
    """Ten frames a second, BGR 240 x 320: expressions are blended into one another, and the head moves a little."""
    import cv2

    portrait, made = Portrait(), dict[tuple[str | None, str | None, int], Image]()
    for n in range(LENGTH_MS * FRAMES_PER_S // 1000):
        at_ms = n * 1000 // FRAMES_PER_S
        key = _transition(at_ms)
        if key not in made:
            made[key] = _blend(portrait, *key)
        move = np.array([[1, 0, 2.5 * math.sin(n / 9)], [0, 1, 1.5 * math.sin(n / 7)]])
        yield np.asarray(cv2.warpAffine(made[key], move, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE), np.uint8)


def _transition(at_ms: int) -> tuple[str | None, str | None, int]:
    """The previous expression, the current one, and the share of the current one in tenths."""
    now = max(i for i, f in enumerate(FACES) if f.at_ms <= at_ms)
    share = min((at_ms - FACES[now].at_ms) * 10 // FADE_MS, 10) if now else 10
    current = FACES[now].expression
    return (FACES[now - 1].expression if share < 10 else current), current, share  # noqa: PLR2004 - tenths


def _blend(portrait: Portrait, before: str | None, now: str | None, tenths: int) -> Image:
    share = tenths / 10
    if before is not None and now is not None:
        weights = {before: 1 - share}
        weights[now] = weights.get(now, 0.0) + share
        return portrait.frame(weights)
    expression = now or before
    opacity = share if now else 1 - share
    person = portrait.frame({expression: 1.0}) if expression and opacity else portrait.empty()
    return np.asarray((opacity * person.astype(np.float32) + (1 - opacity) * portrait.empty()).round(), np.uint8)


def read_voice(recording: str) -> Sound:
    """Read a recording's samples, 16 kHz mono."""
    import av

    with av.open(str(VOICES / f"{recording}.flac")) as container:
        return np.concatenate([frame.to_ndarray().ravel() for frame in container.decode(audio=0)]).astype(np.int16)


def _length_ms(recording: str) -> int:
    if recording not in _lengths_ms:
        _lengths_ms[recording] = len(read_voice(recording)) * 1000 // RATE_HZ
    return _lengths_ms[recording]


_lengths_ms: dict[str, int] = {}


def write_media(path: Path, frames: Iterator[Image], sound: Sound, progress: Callable[[float], None]) -> None:
    """Write frames and sound to a Matroska file as Motion JPEG and PCM, which every build of FFmpeg has."""
    import av

    total = LENGTH_MS * FRAMES_PER_S // 1000
    with av.open(str(path), "w") as container:
        video = container.add_stream("mjpeg", rate=FRAMES_PER_S)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        video.options = {"qmin": "2", "qmax": "3"}
        audio = container.add_stream("pcm_s16le", rate=RATE_HZ, layout="mono")
        step = RATE_HZ // FRAMES_PER_S
        for n, picture in enumerate(frames):
            shot = av.VideoFrame.from_ndarray(picture, "bgr24").reformat(format="yuvj420p")
            shot.pts = n
            container.mux(video.encode(shot))
            chunk = av.AudioFrame.from_ndarray(sound[None, n * step : (n + 1) * step], "s16", "mono")
            chunk.sample_rate, chunk.pts = RATE_HZ, n * step
            container.mux(audio.encode(chunk))
            progress((n + 1) / total)
        container.mux(video.encode())
        container.mux(audio.encode())
