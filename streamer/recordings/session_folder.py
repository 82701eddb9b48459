"""Reads a session folder or a media file as the events a platform would have published, in the order of event time.

A session folder holds media files and/or `chat.jsonl`, and may hold a `<topic>.jsonl` for any other topic from outside
(see `lines`). What else lies in it is passed over, with a word.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

from streamer.errors import MediaError
from streamer.recordings.events import Event
from streamer.recordings.lines import read_lines
from streamer.recordings.media import MediaFile

_SYSTEM_FILES = ("._", ".DS_Store", "Thumbs.db", "desktop.ini")
_LOG = logging.getLogger(__name__)


def read_session(path: Path) -> Iterator[Event]:
    """The events of a session folder or a media file, in the order of event time.

    One camera and one microphone are called so; of several in a folder each has its file's name too, `camera-left.mp4`.

    Raises:
        MediaError: nothing there, not media, nothing that can be decoded, or a line of JSON that can't be read; names
            the file and the line.
    """
    if not path.is_dir():
        file = MediaFile(path)
        return _not_nothing(
            path, _merged([*_streams(file.has_video, file.video()), *_streams(file.has_audio, file.audio())])
        )
    media = _media_in(path)
    lines = sorted(p for p in path.glob("*.jsonl") if not p.name.startswith(_SYSTEM_FILES))
    if not media and not lines:
        raise MediaError(f"{path}: a session folder holds a media file, such as media.mkv, or chat.jsonl")
    cameras, microphones = (sum(map(attrgetter(kind), media)) for kind in ("has_video", "has_audio"))
    streams: list[Iterator[Event]] = [iter(read_lines(lines, media[0].path if media else None))]
    for file in media:
        camera = "camera" if cameras == 1 else f"camera-{file.path.name}"
        microphone = "microphone" if microphones == 1 else f"microphone-{file.path.name}"
        streams += _streams(file.has_video, file.video(camera)) + _streams(file.has_audio, file.audio(microphone))
    return _merged(streams)


def media_length_ms(path: Path) -> int | None:
    """How long a media file, or the longest one of a folder, says that it is; None where none says it.

    Raises:
        MediaError: a file can't be read.
    """
    files = _media_in(path) if path.is_dir() else [MediaFile(path)]
    return max((file.length_ms for file in files if file.length_ms), default=None)


def _media_in(folder: Path) -> list[MediaFile]:
    found: list[MediaFile] = []
    passed_over: list[str] = []
    for path in sorted(folder.iterdir()):
        if path.suffix == ".jsonl" and not path.name.startswith(_SYSTEM_FILES):
            continue
        file = None if path.name.startswith(_SYSTEM_FILES) else _media_or_none(path)
        if file is None:
            passed_over.append(path.name)
        else:
            found.append(file)
    if passed_over:
        _LOG.warning("%s: passed over as neither media nor *.jsonl: %s", folder, ", ".join(passed_over))
    return found


def _media_or_none(path: Path) -> MediaFile | None:
    try:
        return MediaFile(path)
    except MediaError:
        return None


def _streams(wanted: bool, events: Iterator[Event]) -> list[Iterator[Event]]:
    return [events] if wanted else []


def _merged(streams: list[Iterator[Event]]) -> Iterator[Event]:
    return heapq.merge(*streams, key=attrgetter("at_ms"))


def _not_nothing(path: Path, events: Iterator[Event]) -> Iterator[Event]:
    """The events of a file; an error where there are none."""
    count = 0
    for count, event in enumerate(events, 1):  # noqa: B007 - counted for below
        yield event
    if count == 0:
        raise MediaError(f"{path}: nothing of it can be decoded")
