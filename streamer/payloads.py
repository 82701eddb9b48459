"""The codec between MessagePack maps and typed structs, payload versions, and the runtime's own payloads.

The operators' structs are in `operators/payloads.py`; DESIGN §4 is the contract. A value is a MessagePack map with
named fields; the header `schema` is `<payload>/<major>`, and missing means major 1. Unknown fields are ignored and
missing ones take their default, so old and new minor versions read each other. Non-finite numbers are refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_origin

import msgspec

from streamer.errors import PayloadError

SCHEMA_HEADER = "schema"
TRACE_HEADER = "traceparent"
TICK_HEADER = "tick/1"
MODALITY_MARK = "x-modality"
"""In a payload's JSON Schema: a field that holds the name of a modality which the topology declares."""
_CONFLUENT_PREFIX = 5
MAX_DEPTH = 32
"""Maps and lists may be nested this deep, both ways: what passes through us must be readable to others."""


class Keyed(msgspec.Struct, frozen=True, kw_only=True):
    """What every payload has: the event time, in Unix milliseconds UTC.

    `MAJOR` is its version on the wire; no topic may keep it longer than `LONGEST_RETENTION_MS` (raw media, for one).
    """

    MAJOR: ClassVar[int] = 1
    FAILS_CLOSED: ClassVar[bool] = False
    """Whether, in a table, a record that can't be read removes the key's previous one."""
    COUNTS_WITHOUT_CLOCK: ClassVar[bool] = False
    """Whether a record whose event time can't be right counts all the same, from its Kafka time on."""
    MAY_NAME_OTHERS: ClassVar[bool] = False
    """Whether it may name modalities that this topology doesn't declare: they are left aside, counted."""
    LONGEST_RETENTION_MS: ClassVar[int | None] = None
    MEDIA: ClassVar[bool] = False
    """Whether it is what a person showed, said or wrote: recorded only on request, and with consent."""

    UNSET_IF_ZERO: ClassVar[tuple[str, ...]] = ()
    """Optional fields whose zero value (0, "", no bytes) means not set, as clients of proto3 and Go send it."""

    event_time_ms: int  # Unix ms, UTC: when it happened

    def __post_init__(self) -> None:
        for name in self.UNSET_IF_ZERO:
            if not getattr(self, name):
                msgspec.structs.force_setattr(self, name, None)

    def modality_names(self) -> Sequence[str]:
        """The modalities that it names: each must be declared in the topology."""
        return ()

    def grants(self, modality: str) -> bool:
        """Of a record in a table that fails closed: whether it allows a modality to be read."""
        del modality
        return False

    def may_be_recorded(self, consents: Sequence[Keyed | None], modality: str | None) -> bool:
        """Whether a recording may hold this record.

        Args:
            consents: the records of tables that fail closed under its key so far, oldest first; None where one was
                deleted or can't be read.
            modality: whose topic it is on, if any.
        """
        del consents, modality
        return not self.MEDIA


class SessionKeyed(Keyed, frozen=True, kw_only=True):
    """A payload whose record key is its session."""

    session_id: str  # the record key


class Media(SessionKeyed, frozen=True, kw_only=True):
    """What a person showed, said or wrote."""

    MEDIA = True

    def may_be_recorded(self, consents: Sequence[Keyed | None], modality: str | None) -> bool:
        """Only if its modality is allowed now, and has been without a break since before this record's event time."""
        since_ms: int | None = None
        for consent in consents:
            if modality is None or consent is None or not consent.grants(modality):
                since_ms = None
            elif since_ms is None:
                since_ms = consent.event_time_ms
        return since_ms is not None and self.event_time_ms >= since_ms


class DeadLetter(Keyed, frozen=True, kw_only=True):
    """A record an operator could not use: where it lies and why; never its payload, never media."""

    operator: str  # who could not use it
    topic: str  # where it lies
    partition: int  # where it lies
    offset: int  # where it lies
    key: bytes | None = None  # its record key
    kafka_ms: int  # its Kafka time
    reason: str  # a stable code
    detail: str  # what is wrong and what to do; never what it held


class LateRecord(DeadLetter, frozen=True, kw_only=True):
    """A record that came after every window it belongs to was closed."""


class WorkerReport(Keyed, frozen=True, kw_only=True):
    """What one worker did in the last second: counts by reason, lag, latency histograms, models and backends.

    `lag` counts what may be read and wasn't yet; `held_back` what nobody may read yet, as a transaction of its writer
    is open. `clock_offsets_ms` has the sessions whose clocks are steadily off, and by how many milliseconds their event
    times run ahead of Kafka's (behind: negative), see `ClockOffsets`.
    """

    worker: str  # its name, and the record key
    operator: str  # which of its operators
    partitions: list[int]  # that it owns
    lag: int  # records that may be read and were not yet
    counts: dict[str, int]  # of the last second, by reason
    latency_ms: dict[str, dict[str, float]]  # histograms of the last second, by stage: count, p50, p95, p99, max
    models: dict[str, str]  # name to version
    backend: str  # what runs the models
    reasons_against: dict[str, list[str]]  # why other backends do not
    resident_bytes: int = 0  # memory of its process
    held_back: int = 0  # records behind somebody's open transaction
    clock_offsets_ms: dict[str, int] = {}  # session to how far its clock runs ahead, in ms, where it is steadily off


class AuditEntry(Keyed, frozen=True, kw_only=True):
    """A decision about sensing or ranking: settings, consents, refusals, versions, overrides; no affect values."""

    kind: Literal["settings", "consent", "refusal", "model", "policy", "override"]  # what was decided about
    subject: str  # a session, an operator or the app: the record key
    detail: dict[str, str]  # what, by name; never an affect value


class Tick(Keyed, frozen=True, kw_only=True):
    """Kafka time passing on a quiet partition (DESIGN §5): an empty map without a key, under the header `tick/1`."""


class Refusal(msgspec.Struct, frozen=True):
    """Why an operator can't use a record: a stable reason code, and a detail that doesn't quote the payload."""

    reason: str
    detail: str


T = TypeVar("T", bound=msgspec.Struct)

_encoder = msgspec.msgpack.Encoder(order="sorted")


@cache
def _decoder(payload: type[T]) -> msgspec.msgpack.Decoder[T]:
    return msgspec.msgpack.Decoder(payload)


def schema_name(payload: type[Keyed]) -> str:
    """A payload type to its `schema` header: `VideoFrame/1`."""
    return f"{payload.__name__}/{payload.MAJOR}"


def encode(payload: Keyed) -> bytes:
    """A payload to MessagePack bytes, map keys sorted, so that equal payloads give equal bytes.

    Raises:
        PayloadError: a number in it is not finite, a text is not UTF-8, or it is nested deeper than MAX_DEPTH.
    """
    _refuse_unencodable(payload, type(payload).__name__)
    try:
        return _encoder.encode(payload)
    except UnicodeEncodeError:
        raise PayloadError("undecodable", f"{type(payload).__name__}: text that isn't UTF-8") from None


def decode(value: bytes | None, payload: type[T], schema: str | None = None) -> T:
    """MessagePack bytes to a payload of the given type.

    Args:
        value: the record's value.
        payload: the struct its topic promises.
        schema: the record's `schema` header, None where there is none.

    Raises:
        PayloadError: `unknown_version` for a higher major, `undecodable` for all else; the detail names the field.
    """
    _check_schema(schema, payload)
    if value is None:
        raise PayloadError("undecodable", f"empty value where a {payload.__name__} map is due")
    try:
        decoded: T = _decoder(payload).decode(value)
        _refuse_unencodable(decoded, payload.__name__)
    except msgspec.MsgspecError as error:
        if (without := _without_empty_choices(value, payload) or _without_nulls(value, payload)) is not None:
            return decode(without, payload)
        what = _foreign_format(value) or f"{_without_values(str(error))}{_allowed(str(error), payload)}"
        raise PayloadError("undecodable", f"{payload.__name__}: {what}") from None
    except UnicodeDecodeError:
        raise PayloadError("undecodable", f"{payload.__name__}: text that isn't UTF-8") from None
    except RecursionError:
        raise PayloadError("undecodable", f"{payload.__name__}: nested too deeply") from None
    return decoded


def _without_empty_choices(value: bytes, payload: type[msgspec.Struct]) -> bytes | None:
    """A map without optional fields of fixed choices that are "", which means not set; None where there are none."""
    try:
        fields = msgspec.msgpack.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    optional = [f.name for f in msgspec.structs.fields(payload) if f.default is None]
    unset = [name for name in optional if isinstance(fields, dict) and fields.get(name) == ""]
    return msgspec.msgpack.encode({k: v for k, v in fields.items() if k not in unset}) if unset else None


def _without_nulls(value: bytes, payload: type[msgspec.Struct]) -> bytes | None:
    """A map without nulls in fields that have a default, as Java's serializers write them; None without any."""
    try:
        fields = msgspec.msgpack.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    stripped = _stripped(fields, payload)
    return msgspec.msgpack.encode(stripped) if stripped != fields else None


def _stripped(fields: Any, kind: Any) -> Any:
    """Fields without the nulls that stand for a default, in the structs within too."""
    if isinstance(fields, list):
        inner = next((part for part in get_args(kind)), None)
        return [_stripped(one, inner) for one in fields]
    structs = [t for t in (kind, *get_args(kind)) if isinstance(t, type) and issubclass(t, msgspec.Struct)]
    if not isinstance(fields, dict) or not structs:
        return fields
    known = {field.encode_name: field for field in msgspec.structs.fields(structs[0])}
    return {
        name: _stripped(value, known[name].type) if name in known else value
        for name, value in fields.items()
        if value is not None or name not in known or known[name].required
    }


def headers_for(payload: Keyed, traceparent: str | None = None) -> tuple[tuple[str, bytes], ...]:
    """A payload to the Kafka headers it travels with."""
    headers = ((SCHEMA_HEADER, schema_name(type(payload)).encode()),)
    return (*headers, (TRACE_HEADER, traceparent.encode())) if traceparent else headers


def _check_schema(schema: str | None, payload: type[msgspec.Struct]) -> None:
    if schema is None:
        return
    name, _, major = schema.partition("/")
    if name != payload.__name__ or re.fullmatch("[1-9][0-9]{0,8}", major) is None:
        raise PayloadError("undecodable", f"header schema is not {payload.__name__}/<major>")
    known = getattr(payload, "MAJOR", 1)
    if int(major) > known:
        raise PayloadError("unknown_version", f"{payload.__name__}/{int(major)}; this build reads up to /{known}")


def _foreign_format(value: bytes) -> str | None:
    """What a value that is no MessagePack map seems to be instead, and what to do; None where that isn't plain."""
    if value.lstrip()[:1] in (b"{", b"[") and value.rstrip()[-1:] in (b"}", b"]"):
        return "the value is JSON; it must be a MessagePack map (`streamer schema` describes it)"
    if len(value) > _CONFLUENT_PREFIX and value[0] == 0:
        return "the value begins as Confluent's wire format does (a zero byte, a schema id); send the map alone"
    return None


def _allowed(message: str, payload: type[msgspec.Struct]) -> str:
    """`; allowed: a, b` for an error about a top-level field of fixed choices."""
    named = re.search(r"^Invalid enum value .* - at `\$\.(\w+)`$", message, re.DOTALL)
    kinds = {field.name: field.type for field in msgspec.structs.fields(payload)} if named else {}
    kind = kinds.get(named[1]) if named else None
    choices = [c for part in (kind, *get_args(kind)) for c in (get_args(part) if get_origin(part) is Literal else ())]
    return f"; allowed: {', '.join(map(str, choices))}" if choices else ""


def _without_values(message: str) -> str:
    """An error of msgspec in, without the values it quotes, out: a dead letter must not carry payload."""
    return re.sub(r"(?s)^(Invalid enum value) .*?( - at `[^`]*`)?$", _kind_and_place, message)


def _kind_and_place(match: re.Match[str]) -> str:
    return match[1] + (match[2] or "")


def _refuse_unencodable(value: Any, path: str, depth: int = 0) -> None:
    """Raise for numbers that aren't finite, for MessagePack extensions and deep nesting; no key of a map is named."""
    if depth > MAX_DEPTH:
        raise PayloadError("undecodable", f"{path.partition('[')[0]} is nested more than {MAX_DEPTH} deep")
    if isinstance(value, float):
        if not math.isfinite(value):
            raise PayloadError("undecodable", f"{path} is not a finite number")
    elif isinstance(value, msgspec.msgpack.Ext):
        raise PayloadError("undecodable", f"{path} is a MessagePack extension")
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            _refuse_unencodable(getattr(value, name), f"{path}.{name}", depth + 1)
    elif isinstance(value, Mapping):
        for inner in value.values():
            _refuse_unencodable(inner, f"{path}[…]", depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            _refuse_unencodable(inner, f"{path}[…]", depth + 1)
