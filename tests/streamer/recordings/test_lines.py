"""Files of JSON objects: separators, marks and encodings of any client; dates; nothing is waited for 56 years."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streamer.errors import MediaError
from streamer.recordings.events import Event
from streamer.recordings.session_folder import read_session
from tests.streamer.recordings.media_files import write

TEXTS = ["I love it\u2028so much", "a\u2029b\u0085c\x0bd\x0ce", "plain"]
AT_MS = 1_795_690_118_000


def lines(*times: Any, **more: Any) -> list[str]:
    return [json.dumps({"event_time_ms": at, "text": f"t{n}", **more}) for n, at in enumerate(times)]


def read(folder: Path, content: str | bytes, name: str = "chat.jsonl") -> list[Event]:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_session(folder))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n  \n", "\n\x1e"])
@pytest.mark.parametrize("escaped", [True, False])
def test_a_line_ends_where_json_lines_do_and_nowhere_else(tmp_path: Path, end: str, escaped: bool) -> None:
    spoken = [json.dumps({"event_time_ms": n, "text": t}, ensure_ascii=escaped) for n, t in enumerate(TEXTS)]
    for last in ("", end):
        events = read(tmp_path, end.join(spoken) + last)
        assert [e.fields["text"] for e in events] == TEXTS
        assert [e.fields["message_id"] for e in events] == ["chat-1", "chat-2", "chat-3"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_marks_of_byte_order_are_no_text(tmp_path: Path, encoding: str) -> None:
    assert [e.fields["text"] for e in read(tmp_path, "\n".join(lines(0, 5)).encode(encoding))] == ["t0", "t1"]


def test_a_list_and_objects_over_several_lines_are_read_too(tmp_path: Path) -> None:
    objects = [json.loads(line) for line in lines(0, 5)]
    assert len(read(tmp_path, json.dumps(objects, indent=2))) == 2
    assert len(read(tmp_path, "\n".join(json.dumps(o, indent=2) for o in objects))) == 2


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ('{"event_time_ms": 5, "text": "a"', "line 2: Expecting ',' delimiter"),
        ("[5]", "line 2: a JSON object is due, not int"),
        ('"text"', "line 2: a JSON object is due, not str"),
        ('{"text": "a"}', "line 2: event_time_ms is missing"),
        ('{"event_time_ms": "1200"}', "line 2: event_time_ms is milliseconds from the start, a whole number from 0 on"),
        ('{"event_time_ms": -1}', "line 2: event_time_ms is milliseconds"),
        ('{"event_time_ms": 1.5}', "line 2: event_time_ms is milliseconds"),
        ('{"event_time_ms": true}', "line 2: event_time_ms is milliseconds"),
        ('{"event_time_ms": null}', "line 2: event_time_ms is milliseconds"),
        ('{"event_time_ms": NaN}', "line 2: NaN is no number in JSON"),
        ('{"event_time_ms": 1, "event_time_ms": 2}', "line 2: says event_time_ms twice"),
        ('{"event_time_ms": 1795690118}', "line 2: event_time_ms 1795690118 is a date in seconds"),
        ('{"event_time_ms": 1795690118000000}', "line 2: event_time_ms 1795690118000000 is in micro- or nanoseconds"),
        (
            '{"event_time_ms": 1795690118000}',
            "line 1: event_time_ms counts from the session's start, but in .*line 2 it is a date",
        ),
        ('{"event_time_ms": 90000000}', "line 2: 1.0 days after the session's start; at most one is waited for"),
        ("{" * 5000, "line 2"),
    ],
)
def test_a_bad_line_is_named_with_what_is_wrong(tmp_path: Path, bad: str, why: str) -> None:
    with pytest.raises(MediaError, match=rf"chat\.jsonl, {why}"):
        read(tmp_path, f"{lines(0)[0]}\n{bad}\n")


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"chat\.jsonl: not UTF-8 at byte 1"):
        read(tmp_path, b"{\xff}")


def test_a_whole_number_may_have_a_point(tmp_path: Path) -> None:
    assert [e.at_ms for e in read(tmp_path, '{"event_time_ms": 1200.0, "text": "a"}')] == [1200]


def test_dates_are_counted_from_the_first_in_all_files_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "candidates.jsonl").write_text(
        json.dumps(
            {"event_time_ms": AT_MS - 500, "request_id": "q", "user_id": "u", "items": [], "expires_ms": AT_MS + 9}
        )
    )
    events = read(tmp_path, "\n".join(lines(AT_MS + 1000, AT_MS)))
    assert [(e.topic, e.at_ms) for e in events] == [("candidates", 0), ("chat_messages", 500), ("chat_messages", 1500)]
    assert events[0].fields["expires_ms"] == 509
    assert "times are dates; they are counted from the first, 2026-11-26 10:48:37Z" in caplog.text


def test_dates_beside_media_are_asked_about(tmp_path: Path) -> None:
    write(tmp_path / "media.mkv", frames_at=[0, 0.1])
    with pytest.raises(
        MediaError, match=r"line 1: event_time_ms is a date, 2026-.* when media\.mkv began"
    ):
        read(tmp_path, lines(AT_MS)[0])


def test_other_files_are_topics_and_keep_their_own_names(tmp_path: Path) -> None:
    (event,) = read(tmp_path, '{"event_time_ms": 7, "kind": "skip"}', name="interactions.jsonl")
    assert (event.topic, event.at_ms, event.fields) == ("interactions", 7, {"kind": "skip"})
