"""A labelled folder in, its items with their emotions out, ready to be framed; or all that is wrong with it.

Faces and voices: one folder for each label, with pictures cut to the face, or with recordings. Texts: `*.tsv` files,
a line for each text: the text, a tab, its label.
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
from kernels.model_input import FaceFraming
from kernels.voice.log_mel import RATE_HZ
from kernels.voice.speech import track_pitch
from operators.model_import.label_map import emotion_of
from streamer.errors import Problem

SUFFIXES = {
    "face": (".jpg", ".jpeg", ".png", ".bmp", ".webp"),
    "voice": (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a"),
}
FEWEST = 100
"""A temperature fitted on fewer is mostly chance, and the band of their ECE wider than any fault it could show."""
_LONGEST, _SHORTEST = 3 * RATE_HZ, RATE_HZ // 5
_HEADER = ("text", "label")


@dataclass(frozen=True, slots=True)
class Item:
    """A file, or a text, and its emotion."""

    source: Path | str
    emotion: str

    def digest(self) -> str:
        """SHA-256 of what is read, by which an item is known again."""
        data = self.source.read_bytes() if isinstance(self.source, Path) else self.source.encode()
        return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class Labelled:
    """Items of a model's own emotions, and how many others by label, which it can't speak of."""

    path: Path
    items: tuple[Item, ...]
    left_out: Mapping[str, int]


def find_items(
    path: Path, modality: str, classes: Mapping[str, str | None], option: str
) -> tuple[Labelled, list[Problem]]:
    """A labelled folder and a model's class map to its items; and what is wrong, each by its place under `option`."""
    pairs, problems = _texts(path, option) if modality == "text" else _files(path, modality, option)
    emotions: dict[str, str | None] = {}
    for name in dict.fromkeys(name for name, _ in pairs):
        try:
            emotions[name] = emotion_of(name, classes)
        except ValueError as error:
            problems.append(Problem(f"{option} {name}", str(error)))
    able = set(classes.values()) - {None}
    items: list[Item] = []
    left_out: Counter[str] = Counter()
    for name, source in pairs:
        emotion = emotions.get(name)
        if emotion is not None and emotion in able:
            items.append(Item(source, emotion))
        elif name in emotions:
            left_out[name] += 1
    if not problems and classes:
        problems += _too_few(items, path, option)
    return Labelled(path, tuple(items), left_out), problems


def shared_items(fitted: Labelled, judged: Labelled) -> int:
    """How many items of the second are in the first as well, byte for byte."""
    known = {item.digest() for item in fitted.items}
    return sum(item.digest() in known for item in judged.items)


def read_items(items: Sequence[Item], framing: Any, modality: str) -> tuple[list[Any], list[Item]]:
    """Items to what the framing takes, and those that could be read, in their order."""
    readers: dict[str, Callable[[Item], Any]] = {
        "face": lambda item: _face(item, framing),
        "voice": _voice,
        "text": lambda item: item.source,
    }
    read = [(readers[modality](item), item) for item in items]
    kept = [(value, item) for value, item in read if value is not None]
    return [value for value, _ in kept], [item for _, item in kept]


def _too_few(items: Sequence[Item], path: Path, option: str) -> list[Problem]:
    if len(items) < FEWEST:
        held = f"{path} holds {len(items)} item{'' if len(items) == 1 else 's'} of this model's emotions"
        return [Problem(option, f"{held}; at least {FEWEST} are needed")]
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


def _face(item: Item, framing: FaceFraming) -> Any:
    import cv2

    how = cv2.IMREAD_COLOR if framing.colour else cv2.IMREAD_GRAYSCALE
    picture = cv2.imread(str(item.source), how)
    if picture is None:
        return None
    picture = np.ascontiguousarray(picture[..., ::-1]) if framing.colour else picture
    height, width = picture.shape[:2]
    side = min(height, width)
    return framing.cut(picture, Square((width - side) // 2, (height - side) // 2, side))


def _voice(item: Item) -> Any:
    """The last 3 s of what webrtcvad calls speech, as `sense_voice` hears an utterance."""
    import av

    from kernels.voice.audio_files import read_audio, speech_only

    try:
        samples = speech_only(read_audio(Path(item.source)))[-_LONGEST:]
    except (av.error.FFmpegError, ValueError, IndexError):
        return None
    return track_pitch(samples) if len(samples) >= _SHORTEST else None
