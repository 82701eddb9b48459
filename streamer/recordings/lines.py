"""Reads files of JSON objects, `chat.jsonl` or `<topic>.jsonl`, as events: one payload each, with `event_time_ms`.

Times count from the session's start. Dates (Unix milliseconds) are taken too where no media lies beside them, and
counted from the earliest; nothing is ever waited for that is more than a day away.
"""

from __future__ import annotations

import codecs
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from streamer.errors import MediaError
from streamer.event_time import utc_text
from streamer.recordings.events import Event

LONGEST_SESSION_MS = 24 * 3_600_000
FIRST_DATE_MS = 100_000_000_000
"""From here on (1973) a number of milliseconds is a date, no length of a session."""
_SECONDS = range(1_000_000_000, 10_000_000_000)
_FINER_THAN_MS = 100_000_000_000_000
_BETWEEN = " \t\r\n\x1e"
"""What may stand between two objects; RFC 7464 puts a record separator there."""
_OTHER_TIMES = ("disclosed_at_ms", "expires_ms")
_LOG = logging.getLogger(__name__)


def read_lines(paths: Sequence[Path], media: Path | None = None) -> list[Event]:
    """The events of files, in the order of their times.

    Args:
        paths: the files; `chat.jsonl` holds `chat_messages`, another one what its name says.
        media: a media file beside them, whose beginning is the session's.

    Raises:
        MediaError: a file can't be read, or a line of it; names the file and the line.
    """
    found = [(path, line, event) for path in paths for line, event in _events(path)]
    dated = [one for one in found if one[2].at_ms >= FIRST_DATE_MS]
    if dated and len(dated) < len(found):
        path, line, _ = next(one for one in found if one[2].at_ms < FIRST_DATE_MS)
        other, at, event = dated[0]
        here = f"{path}, line {line}: event_time_ms counts from the session's start"
        raise MediaError(f"{here}, but in {other}, line {at} it is a date, {utc_text(event.at_ms)}: write all alike")
    if dated and media is not None:
        path, line, event = dated[0]
        what = f"event_time_ms is a date, {utc_text(event.at_ms)}, and when {media.name} began is not known"
        raise MediaError(f"{path}, line {line}: {what}: write milliseconds from its beginning")
    events = sorted((event for _, _, event in found), key=lambda event: event.at_ms)
    if dated:
        _LOG.warning("%s: times are dates; they are counted from the first, %s",
                     dated[0][0].parent, utc_text(events[0].at_ms))  # fmt: skip
        events = [_counted_from(events[0].at_ms, event) for event in events]
    if events and events[-1].at_ms > LONGEST_SESSION_MS:
        path, line, _ = max(found, key=lambda one: one[2].at_ms)
        days = events[-1].at_ms / LONGEST_SESSION_MS
        raise MediaError(f"{path}, line {line}: {days:.1f} days after the session's start; at most one is waited for")
    return events


def _events(path: Path) -> Iterator[tuple[int, Event]]:
    """The events of a file as they are written, each with the line on which it begins."""
    topic = "chat_messages" if path.stem == "chat" else path.stem
    number = 0
    for line, fields in _objects(path):
        try:
            at_ms = _whole_ms(fields.pop("event_time_ms"))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            why = "event_time_ms is missing" if isinstance(error, KeyError) else str(error)
            raise MediaError(f"{path}, line {line}: {why}") from None
        number += 1
        defaults = {"message_id": f"chat-{number}", "speaker": "user"} if topic == "chat_messages" else {}
        yield line, Event(at_ms, topic, defaults | fields)


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The JSON objects of a file, each with its line: one a line, over several lines, or in a list."""
    text, decoder = _text(path), json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_without_repeats)
    at, line = 0, 1
    while at < len(text):
        if text[at] in _BETWEEN:
            line += text[at] == "\n" or (text[at] == "\r" and text[at : at + 2] != "\r\n")
            at += 1
            continue
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            why = f"{error.msg} (column {error.colno})" if isinstance(error, json.JSONDecodeError) else str(error)
            raise MediaError(f"{path}, line {line}: {why}") from None
        for one in value if isinstance(value, list) else [value]:
            if not isinstance(one, dict):
                raise MediaError(f"{path}, line {line}: a JSON object is due, not {type(one).__name__}")
            yield line, one
        line += text.count("\n", at, end)
        at = end


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return data.decode("utf-16" if utf16 else "utf-8-sig")
    except OSError as error:
        raise MediaError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise MediaError(f"{path}: not UTF-8 at byte {error.start}") from None


def _whole_ms(value: object) -> int:
    """An `event_time_ms` as written.

    Raises:
        ValueError: no whole number from 0 on, or one of another unit.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("event_time_ms is milliseconds from the start, a whole number from 0 on")
    if value in _SECONDS:
        raise ValueError(f"event_time_ms {value} is a date in seconds: write milliseconds, from the session's start")
    if value >= _FINER_THAN_MS:
        raise ValueError(f"event_time_ms {value} is in micro- or nanoseconds: write milliseconds")
    return value


def _counted_from(start_ms: int, event: Event) -> Event:
    others = {
        name: event.fields[name] - start_ms
        for name in _OTHER_TIMES
        if isinstance(event.fields.get(name), int) and event.fields[name] >= FIRST_DATE_MS
    }
    return replace(event, at_ms=event.at_ms - start_ms, fields={**event.fields, **others})


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        repeated = next(name for i, (name, _) in enumerate(pairs) if name in dict(pairs[:i]))
        raise ValueError(f"says {repeated} twice")
    return fields


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")
