"""What the demo can play: its own story, a file, a camera. Each is events for `replay` and how to speak of them."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from demo import story
from streamer.recordings.media import Event, read_session
from streamer.recordings.replay import consent_event

REQUEST_EVERY_MS = 15_000
FILE_LABEL = "your file"


@dataclass(frozen=True, slots=True)
class Source:
    """Something to play.

    `events` begins it; `playing` says what is on at a moment, where that is known; `kept` is whether what is sensed may
    be written to disk; `stop` ends one that goes on by itself.
    """

    label: str
    events: Callable[[], Iterable[Event]]
    length_ms: int | None
    playing: Callable[[int], tuple[str, str]] = lambda _: ("", "")
    kept: bool = True
    stop: Callable[[], None] = lambda: None


def story_source(folder: Path, progress: Callable[[float], None] | None = None) -> Source:
    """Compose the story into `folder`; blocks for a few seconds."""
    story.compose(folder, progress)
    return Source(story.LABEL, lambda: read_session(folder), story.LENGTH_MS, story.playing)


def media_source(path: Path) -> Source:
    """A media file or a session folder of the newcomer's own.

    Raises:
        MediaError: nothing there, or nothing that can be read.
    """
    first = next(iter(read_session(path)), None)  # what is wrong with it shows now, not after Kafka's start
    length_ms = _length_ms(path) if first else 0
    own = path.is_dir() and (path / "consents.jsonl").exists()

    def events() -> Iterator[Event]:
        if not own:
            yield consent_event(("face", "voice", "text", "behaviour"), path.stem)
        asked = iter(()) if (path / "candidates.jsonl").exists() else shelf_requests(length_ms)
        yield from heapq.merge(read_session(path), asked, key=lambda e: e.at_ms)

    return Source(f"{FILE_LABEL} {path.name}", events, length_ms, lambda _: ("your picture", "your sound"))


def shelf_requests(length_ms: int | None) -> Iterator[Event]:
    """The demo's shelf as candidates, now and again; without end where `length_ms` is None."""
    at_ms, number = 500, 0
    while length_ms is None or at_ms < length_ms:
        number += 1
        items = [{"item_id": item, "score": score} for item, score in story.SHELF.items()]
        yield Event(at_ms, "candidates", {"request_id": f"shelf-{number}", "user_id": story.USER, "items": items})
        at_ms += REQUEST_EVERY_MS


def _length_ms(path: Path) -> int | None:
    import av

    files = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.suffix == ".mkv")
    if not files:
        return None
    with av.open(str(files[0])) as container:
        return container.duration // 1000 if container.duration else None
