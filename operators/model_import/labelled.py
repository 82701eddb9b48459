"""Find and read the labelled items that a model is calibrated or tested on, or list all that is wrong with them.

Faces and voices: one folder for each label, with pictures cropped to the face, or with recordings. Texts: `*.tsv`
files, a line for each text: the text, a tab, its label.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kernels.face.crop import Square
from kernels.model_input import FaceInput
from kernels.voice.log_mel import RATE_HZ
from kernels.voice.speech import track_pitch
from operators.model_import.label_map import emotion_of
from streamer.errors import Problem

SUFFIXES = {
    "face": (".jpg", ".jpeg", ".png", ".bmp", ".webp"),
    "voice": (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a"),
}
FEWEST = 100
"""A temperature fitted on fewer is mostly noise, and the band of their ECE is wider than any miscalibration."""
_LONGEST, _SHORTEST = 3 * RATE_HZ, RATE_HZ // 5
_HEADER = ("text", "label")


@dataclass(frozen=True, slots=True)
class Item:
    """A file or a text, and its emotion."""

    source: Path | str
    emotion: str

    def digest(self) -> str:
        """Return the SHA-256 of the content, to find duplicates."""
        data = self.source.read_bytes() if isinstance(self.source, Path) else self.source.encode()
        return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """Items of the emotions that a model predicts, and the number of others by label."""

    path: Path
    items: tuple[Item, ...]
    left_out: Mapping[str, int]


def find_items(
    path: Path, modality: str, classes: Mapping[str, str | None], option: str
) -> tuple[LabelledSet, list[Problem]]:
    """Find the items for a model's classes in a labelled folder; problems are reported under `option`."""
    pairs, problems = _texts(path, option) if modality == "text" else _files(path, modality, option)
    emotions: dict[str, str | None] = {}
    for name in dict.fromkeys(name for name, _ in pairs):
        try:
            emotions[name] = emotion_of(name, classes)
        except ValueError as error:
            problems.append(Problem(f"{option} {name}", str(error)))
    mapped = set(classes.values()) - {None}
    items: list[Item] = []
    left_out: Counter[str] = Counter()
    for name, source in pairs:
        emotion = emotions.get(name)
        if emotion is not None and emotion in mapped:
            items.append(Item(source, emotion))
        elif name in emotions:
            left_out[name] += 1
    if not problems and classes:
        problems += _too_few(items, path, option)
    return LabelledSet(path, tuple(items), left_out), problems


def shared_items(calibration: LabelledSet, test: LabelledSet) -> int:
    """Count the items of `test` that are in `calibration` too, byte for byte."""
    digests = {item.digest() for item in calibration.items}
    return sum(item.digest() in digests for item in test.items)


def read_items(items: Sequence[Item], input_format: Any, modality: str) -> tuple[list[Any], list[Item]]:
    """Read items for an input format; returns their values, and the items that could be read, in the same order."""
    readers: dict[str, Callable[[Item], Any]] = {
        "face": lambda item: _face(item, input_format),
        "voice": _voice,
        "text": lambda item: item.source,
    }
    read = [(readers[modality](item), item) for item in items]
    readable = [(value, item) for value, item in read if value is not None]
    return [value for value, _ in readable], [item for _, item in readable]


def _too_few(items: Sequence[Item], path: Path, option: str) -> list[Problem]:
    if len(items) < FEWEST:
        count = f"{path} holds {len(items)} item{'' if len(items) == 1 else 's'} of this model's emotions"
        return [Problem(option, f"{count}; at least {FEWEST} are needed")]
    if len({item.emotion for item in items}) == 1:
        return [Problem(option, f"all items of {path} are {items[0].emotion}: at least two emotions are needed")]
    return []


def _files(path: Path, modality: str, option: str) -> tuple[list[tuple[str, Path | str]], list[Problem]]:
    if not path.is_dir():
        return [], [Problem(option, f"{path}: no such folder")]
    folders = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    suffixes = SUFFIXES[modality]
    found: list[tuple[str, Path | str]] = [
        (folder.name, file)
        for folder in folders
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in suffixes
    ]
    if not found:
        wanted = f"a folder for each label, with {', '.join(suffixes)} files in it"
        return [], [Problem(option, f"{path} must hold {wanted}")]
    return found, []


def _texts(path: Path, option: str) -> tuple[list[tuple[str, Path | str]], list[Problem]]:
    tables = sorted(path.glob("*.tsv")) if path.is_dir() else [path] if path.is_file() else []
    if not tables:
        return [], [Problem(option, f"{path} must be a .tsv file, or hold some: the text, a tab, its label")]
    found: list[tuple[str, Path | str]] = []
    problems = []
    for table in tables:
        for n, line in enumerate(table.read_text(encoding="utf-8").splitlines(), 1):
            text, tab, label = line.rpartition("\t")
            if (text, label) == _HEADER or not line.strip():
                continue
            if tab and text.strip() and label.strip():
                found.append((label.strip(), text))
            else:
                problems.append(Problem(f"{option} {table.name}:{n}", "must be a text, a tab and its label"))
    return found, problems


def _face(item: Item, input_format: FaceInput) -> Any:
    import cv2

    mode = cv2.IMREAD_COLOR if input_format.colour else cv2.IMREAD_GRAYSCALE
    picture = cv2.imread(str(item.source), mode)
    if picture is None:
        return None
    picture = np.ascontiguousarray(picture[..., ::-1]) if input_format.colour else picture
    height, width = picture.shape[:2]
    side = min(height, width)
    return input_format.cut(picture, Square((width - side) // 2, (height - side) // 2, side))


def _voice(item: Item) -> Any:
    """Read the last 3 s of what webrtcvad takes for speech, the longest segment of `sense_voice`."""
    import av

    from kernels.voice.audio_files import read_audio, speech_only

    try:
        samples = speech_only(read_audio(Path(item.source)))[-_LONGEST:]
    except (av.error.FFmpegError, ValueError, IndexError):
        return None
    return track_pitch(samples) if len(samples) >= _SHORTEST else None
