"""What the demo can play, as events for `replay` with a label: its story, or a file (the camera is in camera.py)."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from demo import story
from streamer.recordings.events import Event
from streamer.recordings.replay import consent_event
from streamer.recordings.session_folder import media_length_ms, read_session

REQUEST_EVERY_MS = 15_000
FILE_LABEL = "your file"


@dataclass(frozen=True, slots=True)
class Source:
    """Something to play.

    Attributes:
        label: names it on the screen.
        events: starts it and yields its events.
        length_ms: its duration where known.
        playing: what is in the picture and in the sound at a moment (ms from the start), for display.
        is_recorded: whether the resulting records are written to `recordings/demo`.
        stop: ends a live source.
    """

    label: str
    events: Callable[[], Iterable[Event]]
    length_ms: int | None
    playing: Callable[[int], tuple[str, str]] = lambda _: ("", "")
    is_recorded: bool = True
    stop: Callable[[], None] = lambda: None


def story_source(folder: Path, progress: Callable[[float], None]) -> Source:
    """Compose the story into `folder`; blocks for a few seconds and reports the share done."""
    story.compose(folder, progress)
    return Source(story.LABEL, lambda: read_session(folder), story.LENGTH_MS, story.playing)


def media_source(path: Path) -> Source:
    """Play the user's media file or session folder.

    Raises:
        MediaError: it doesn't exist or can't be read.
    """
    first = next(iter(read_session(path)), None)  # fails here, before Kafka is started
    length_ms = media_length_ms(path) if first else 0
    has_consents = path.is_dir() and (path / "consents.jsonl").exists()

    def events() -> Iterator[Event]:
        if not has_consents:
            yield consent_event(("face", "voice", "text", "behaviour"), path.stem)
        requests = iter(()) if (path / "candidates.jsonl").exists() else shelf_requests(length_ms)
        yield from heapq.merge(read_session(path), requests, key=lambda e: e.at_ms)

    return Source(f"{FILE_LABEL} {path.name}", events, length_ms, lambda _: ("your picture", "your sound"))


def shelf_requests(length_ms: int | None) -> Iterator[Event]:
    """Yield the shelf as a candidate list every `REQUEST_EVERY_MS`; without end where `length_ms` is None."""
    at_ms, number = 500, 0
    while length_ms is None or at_ms < length_ms:
        number += 1
        yield Event(at_ms, "candidates", story.shelf_request(number))
        at_ms += REQUEST_EVERY_MS
