"""A recording as a file: what goes in comes out, what breaks off is readable up to there, damage is refused."""

from __future__ import annotations

import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.broker import Message
from streamer.errors import MediaError
from streamer.recordings.recording import Header, Recording, RecordingWriter, forget_sessions, in_kafka_order

HEADER = Header(
    app="tiny", partitions=4, topology="version: 2\n", topics={"words": "Word"}, made_at_ms=1, product="affectstream"
)
SCHEMA = (("schema", b"Word/1"),)
SMALL = [Message("words", n % 4, n, 1000 + n, b"s%d" % (n % 3), b"\x80" * n, SCHEMA) for n in range(12)]


def written(path: Path, messages: Sequence[Message], ended: bool = True) -> Path:
    with RecordingWriter(path, HEADER) as writer:
        writer.add(messages)
        if ended:
            writer.end({})
    return path


texts = st.text(st.characters(exclude_categories=["Cs"]))
messages = st.builds(
    Message, texts, st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1), st.integers(-(2**63), 2**63 - 1),
    st.none() | st.binary(), st.none() | st.binary(), st.lists(st.tuples(texts, st.binary())).map(tuple),
)  # fmt: skip


@given(st.lists(messages))
def test_any_records_come_out_as_they_went_in(records: list[Message]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        recording = Recording(written(Path(folder) / "a.affectlog", records))
        assert list(recording.messages()) == records
    assert recording.header == HEADER
    assert recording.warning() is None
    assert recording.end is not None
    assert sum(recording.end.records.values()) == len(records)


def test_a_stranger_reads_it_with_any_messagepack_library(tmp_path: Path) -> None:
    with written(tmp_path / "a.affectlog", SMALL).open("rb") as file:
        header, *rows, end = [msgpack.unpackb(blob) for blob in msgpack.Unpacker(file)]
    assert (header["format"], header["version"], header["topics"]) == ("affectlog", 1, {"words": "Word"})
    assert rows[5] == ["words", 1, 5, 1005, b"s2", b"\x80" * 5, [["schema", b"Word/1"]]]
    assert end == {"records": {"words": 12}, "left_out": {}}


def test_a_recording_cut_anywhere_reads_up_to_the_cut_and_says_so(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole.affectlog", SMALL).read_bytes()
    (tmp_path / "none.affectlog").unlink(missing_ok=True)
    header_ends = len(written(tmp_path / "none.affectlog", [], ended=False).read_bytes())
    cut = tmp_path / "cut.affectlog"
    most = 0
    for size in range(len(whole)):
        cut.write_bytes(whole[:size])
        if size < header_ends:
            with pytest.raises(MediaError, match=r"cut.affectlog: breaks off at byte 0"):
                Recording(cut)
            continue
        recording = Recording(cut)
        read = list(recording.messages())
        assert read == SMALL[: len(read)]
        assert len(read) >= most
        most = len(read)
        warning = recording.warning()
        assert warning is not None
        assert f"breaks off at byte {recording.cut_at}" in warning
        assert recording.cut_at is not None
        assert recording.cut_at <= size
    assert most == len(SMALL)


def test_a_file_that_is_none_is_refused_with_its_name_and_the_byte(tmp_path: Path) -> None:
    other = tmp_path / "other.affectlog"
    with pytest.raises(MediaError, match=r"other.affectlog: No such file"):
        Recording(other)
    for content in (b"these are notes", b"\x1a\x45\xdf\xa3", b"#", b"\xc6\xff\xff\xff\xff", b"\xc6\0\0\0\x01\x80"):
        other.write_bytes(content)
        with pytest.raises(MediaError, match=r"other.affectlog: not a recording.*byte 0"):
            Recording(other)
    with pytest.raises(MediaError, match="Is a directory"):
        Recording(tmp_path)


def test_a_newer_version_is_refused_and_says_which(tmp_path: Path) -> None:
    path = tmp_path / "new.affectlog"
    body = msgpack.packb({"format": "affectlog", "version": 2, "all": "is different"})
    path.write_bytes(b"\xc6" + len(body).to_bytes(4, "big") + body)
    with pytest.raises(MediaError, match=r"new.affectlog: recorded in version 2 .* reads up to 1"):
        Recording(path)


def test_damage_in_the_middle_is_refused_at_its_byte_after_what_could_be_read(tmp_path: Path) -> None:
    path = written(tmp_path / "a.affectlog", SMALL)
    good = path.read_bytes()
    at = good.index(b"\x97\xa5words\x01\x05") - 5
    for damage in (good[:at] + b"\0" + good[at + 1 :], good[: at + 5] + b"\xc1" + good[at + 6 :], good + good[at:]):
        path.write_bytes(damage)
        recording, read = Recording(path), []
        with pytest.raises(MediaError, match=rf"a.affectlog: .* at byte ({at}|{len(good)}): "):  # noqa: PT012 - it reads until it raises
            for message in recording.messages():
                read.append(message)  # noqa: PERF402 - what was read before it raised counts
        assert read in (SMALL[:5], SMALL)


def test_a_recording_is_its_owners_alone_and_never_written_over(tmp_path: Path) -> None:
    path = written(tmp_path / "a.affectlog", SMALL)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    with pytest.raises(MediaError, match=r"a.affectlog: is there already"):
        RecordingWriter(path, HEADER)
    assert path.read_bytes() == before


def test_a_session_is_forgotten_and_nothing_else(tmp_path: Path) -> None:
    path = written(tmp_path / "a.affectlog", SMALL)
    assert forget_sessions(path, ["s1", "nobody"]) == 4
    recording = Recording(path)
    assert list(recording.messages()) == [m for m in SMALL if m.key != b"s1"]
    assert recording.header == HEADER
    assert recording.end is not None
    assert recording.end.records == {"words": 8}
    assert b"s1" not in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["a.affectlog"]
    before = path.stat().st_ino
    assert forget_sessions(path, ["s1"]) == 0
    assert path.stat().st_ino == before


def test_forgetting_takes_away_the_half_record_of_a_recording_that_breaks_off(tmp_path: Path) -> None:
    path = written(tmp_path / "a.affectlog", [*SMALL[:2], Message("words", 0, 9, 9, b"me", b"secret" * 9)], ended=False)
    path.write_bytes(path.read_bytes()[:-4])
    assert forget_sessions(path, ["me"]) == 0
    assert b"secret" not in path.read_bytes()
    recording = Recording(path)
    assert list(recording.messages()) == SMALL[:2]
    assert recording.cut_at == path.stat().st_size


def test_a_recording_under_way_can_be_read_but_nothing_forgotten_of_it(tmp_path: Path) -> None:
    path = tmp_path / "a.affectlog"
    with RecordingWriter(path, HEADER) as writer:
        writer.add(SMALL)
        assert list(Recording(path).messages()) == SMALL
        with pytest.raises(MediaError, match="is being recorded"):
            forget_sessions(path, ["s1"])
    assert forget_sessions(path, ["s1"]) == 4


def test_kafka_order_is_by_each_partitions_newest_stamp_and_keeps_a_partitions_order() -> None:
    a = [Message("a", 0, n, stamp, None, None) for n, stamp in enumerate((100, 50, 300))]
    b = [Message("b", 0, n, stamp, None, None) for n, stamp in enumerate((100, 200))]
    assert in_kafka_order([*a, *b], tables=["b"]) == [(100, b[0]), (100, a[0]), (100, a[1]), (200, b[1]), (300, a[2])]
