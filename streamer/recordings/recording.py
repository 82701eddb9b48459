"""Recordings: Kafka records as they are stored there, in one append-only file; `.affectlog` by convention.

The file is a MessagePack stream of `bin 32` objects, each of which contains one MessagePack value: first a map
(`Header`), then for each record an array [topic, partition, offset, Kafka time, key, value, [[header, value], …]],
finally a map (`End`). Records of a partition are in offset order. After a crash the file can be read up to the last
complete record.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, NamedTuple

import msgspec

from streamer.broker import Message, TopicPartition
from streamer.errors import MediaError
from streamer.topology.topology import Topology

SUFFIX = ".affectlog"
VERSION = 1
LARGEST_BYTES = 64 * 1024 * 1024  # of one object: a longer one is not of this format
_BIN_32 = 0xC6
_LENGTH_BYTES = 5  # the marker and the length of a `bin 32`
_OWNER_ONLY = 0o600


class _Preface(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of the first object that every version of the format has."""

    format: Literal["affectlog"]
    version: int


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What was recorded: the app, its topology (the full text of the file), and the payload of each topic."""

    format: Literal["affectlog"] = "affectlog"
    version: int = VERSION
    app: str
    partitions: int
    topology: str
    topics: dict[str, str]
    made_at_ms: int
    product: str


class End(msgspec.Struct, frozen=True, kw_only=True):
    """Written when the recording ended properly: records by topic, and those left out by topic and reason."""

    records: dict[str, int]
    left_out: dict[str, dict[str, int]] = {}


class _Row(NamedTuple):
    """A record as it is stored in the file."""

    topic: str
    partition: int
    offset: int
    kafka_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


_preface, _header = msgspec.msgpack.Decoder(_Preface), msgspec.msgpack.Decoder(Header)
_body = msgspec.msgpack.Decoder(_Row | End)
_encode = msgspec.msgpack.Encoder().encode


def header_of(topology: Topology, topics: Iterable[str], made_at_ms: int) -> Header:
    """The header of a recording of some of a topology's topics."""
    try:
        version = importlib.metadata.version("affectstream")
    except importlib.metadata.PackageNotFoundError:  # a checkout that was not installed
        version = "unknown"
    return Header(
        app=str(topology.app),
        partitions=topology.partitions,
        topology=topology.source.read_text(encoding="utf-8"),
        topics={str(name): topology.topics[name].payload for name in topics},  # Name, a subclass of str, to str
        made_at_ms=made_at_ms,
        product=f"affectstream {version}",
    )


class RecordingWriter:
    """Writes a recording: a new file that only its owner can read, locked until it is closed.

    Raises:
        MediaError: there is something at `path` already.
    """

    def __init__(self, path: Path, header: Header) -> None:
        try:
            self._file = open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY), "wb")  # noqa: SIM115, PTH123 - kept open; pathlib can't set the mode
        except FileExistsError:
            raise MediaError(f"{path}: is there already; a recording is never written over") from None
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self.records: Counter[str] = Counter()
        self._write([_encode(header)])

    def __enter__(self) -> RecordingWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            os.fsync(self._file.fileno())

    def add(self, messages: Iterable[Message]) -> None:
        """Append records and flush."""
        self._write(self._row(message) for message in messages)

    def end(self, left_out: Mapping[str, Mapping[str, int]]) -> End:
        """Write the end, and return it."""
        end = End(records=dict(self.records), left_out={t: dict(reasons) for t, reasons in left_out.items()})
        self._write([_encode(end)])
        return end

    def _row(self, message: Message) -> bytes:
        self.records[message.topic] += 1
        m = message
        return _encode(_Row(m.topic, m.partition, m.offset, m.timestamp_ms, m.key, m.value, m.headers))

    def _write(self, bodies: Iterable[bytes]) -> None:
        self._file.writelines(_framed(body) for body in bodies)
        self._file.flush()


class Recording:
    """A recording to read. `end` and `cut_at` are set once `messages` has been read to its end.

    Raises:
        MediaError: no such file, no recording, or one of a newer version; names the file, and the byte where it fails.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.end: End | None = None
        self.cut_at: int | None = None  # the byte at which half a record begins, or where the end is missing
        try:
            with path.open("rb") as file:
                first = next(_frames(file, path), None)
        except OSError as error:
            raise MediaError(f"{path}: {error.strerror}") from None
        if first is None:
            raise MediaError(f"{path}: breaks off at byte 0: not even the header is whole, nothing can be read")
        at, body = first
        try:
            preface = _preface.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise _damaged(path, at, "no header of a recording") from None
        if preface.version > VERSION:
            newer = f"recorded in version {preface.version} of the format; this build reads up to {VERSION}"
            raise MediaError(f"{path}: {newer}: use a newer affectstream")
        try:
            self.header = _header.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise _damaged(path, at, f"its header lacks something ({error})") from None

    def messages(self) -> Iterator[Message]:
        """Its records in the order of the file, which is offset order within a partition.

        Raises:
            MediaError: something in the middle is not a record.
        """
        self.end = None
        with self.path.open("rb") as file:
            frames = _frames(file, self.path)
            at, body = next(frames)
            for at, body in frames:
                if self.end is not None:
                    raise _damaged(self.path, at, "goes on after its end")
                try:
                    row = _body.decode(body)
                except (msgspec.MsgspecError, UnicodeDecodeError):
                    raise _damaged(self.path, at, "neither a record nor an end") from None
                if isinstance(row, End):
                    self.end = row
                else:
                    yield Message(*row)
            self.cut_at = None if self.end is not None else at + _LENGTH_BYTES + len(body)

    def warning(self) -> str | None:
        """A warning if the recording breaks off, None if it ended properly; call it once `messages` has been read."""
        if self.cut_at is None:
            return None
        lost = self.path.stat().st_size - self.cut_at
        half = f"half a record of {lost} bytes is left aside" if lost else "all that is there was read"
        return f"{self.path}: breaks off at byte {self.cut_at}: it was not ended in order; {half}"


def in_kafka_order(messages: Iterable[Message], tables: Collection[str] = ()) -> list[tuple[int, Message]]:
    """Pairs of Kafka time (DESIGN §5: the partition's running maximum) and record, earliest first.

    A partition's records keep their order; at the same millisecond records of `tables` come first.
    """
    newest: dict[TopicPartition, int] = {}
    timed: list[tuple[int, Message]] = []
    for message in messages:
        partition = TopicPartition(message.topic, message.partition)
        newest[partition] = max(newest.get(partition, 0), message.timestamp_ms)
        timed.append((newest[partition], message))
    timed.sort(key=lambda pair: (pair[0], pair[1].topic not in tables))
    return timed


def forget_sessions(path: Path, session_ids: Collection[str]) -> int:
    """Remove every record whose key is one of these sessions from a recording; returns how many there were.

    The file is written anew beside itself and then replaced at once, so a crash leaves the old one or the new one. One
    that breaks off loses its half record, too: nobody can say whose it is. Without such a record nothing is touched.

    Raises:
        MediaError: not a recording that can be read, or one that is being recorded now.
    """
    recording, keys = Recording(path), {s.encode(errors="surrogateescape") for s in session_ids}
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MediaError(f"{path}: is being recorded; end that first (Ctrl-C)") from None
        removed = sum(m.key in keys for m in recording.messages())
        cut = recording.cut_at is not None and recording.cut_at < path.stat().st_size
        if removed or cut:
            beside = path.with_name(f"{path.name}.part")
            beside.unlink(missing_ok=True)
            with RecordingWriter(beside, recording.header) as writer:
                writer.add(m for m in recording.messages() if m.key not in keys)
                if recording.end is not None:
                    writer.end(recording.end.left_out)
            beside.replace(path)
    return removed


def _framed(body: bytes) -> bytes:
    return bytes([_BIN_32]) + len(body).to_bytes(4) + body


def _frames(file: BinaryIO, path: Path) -> Iterator[tuple[int, bytes]]:
    """The complete objects of a file, each with the byte where it begins; an incomplete last one is left out."""
    at = 0
    while len(start := file.read(_LENGTH_BYTES)) == _LENGTH_BYTES:
        length = int.from_bytes(start[1:])
        if start[0] != _BIN_32 or length > LARGEST_BYTES:
            raise _damaged(path, at, "no object of this format")
        body = file.read(length)
        if len(body) < length:
            return
        yield at, body
        at += _LENGTH_BYTES + length
    if start and start[0] != _BIN_32:
        raise _damaged(path, at, "no object of this format")


def _damaged(path: Path, at: int, what: str) -> MediaError:
    return MediaError(f"{path}: not a recording, or a damaged one: at byte {at}: {what}")
