"""The protocols an operator follows, what the runtime hands it, and how a name becomes a class.

One name, three places: the YAML key `fuse_affect` is the file `operators/fuse_affect.py` and the class `FuseAffect`,
with a frozen, typed `Params` beside it. No base class: outputs are returned, never pushed, always for a batch.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from streamer.errors import ConfigurationError, Problem
from streamer.event_time import Clock, SystemClock
from streamer.metrics import Metrics
from streamer.modality import Modality
from streamer.payloads import Keyed
from streamer.records import Origin, Record

if TYPE_CHECKING:
    from streamer.settings import Settings


@dataclass(frozen=True, slots=True)
class Runs:
    """What an operator runs, for the worker reports and the audit.

    Args:
        models: version by model or policy.
        backends: backend by model.
        reasons_against: by backend, why it was not taken.
        licences: licence state by model.
    """

    models: dict[str, str] = field(default_factory=dict)
    backends: dict[str, str] = field(default_factory=dict)
    reasons_against: dict[str, list[str]] = field(default_factory=dict)
    licences: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Context:
    """What the runtime gives an operator: time, counts, a log, this deployment's settings, its tables, the modalities.

    `reported_elsewhere`: tables whose unreadable records another operator of this process makes dead letters of; here
    they are counted. `audits`: whether there is a topic `audit` for an operator's decisions (`AuditEntry`, written
    `to="audit"`). `warned`: topics of which a foreign partition has been warned.
    """

    operator: str
    settings: Settings
    clock: Clock = field(default_factory=SystemClock)
    metrics: Metrics = field(default_factory=Metrics)
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("streamer"))
    tables: Mapping[str, MutableMapping[str, Any]] = field(default_factory=dict)
    runs: Runs = field(default_factory=Runs)
    audits: bool = False
    modalities: Mapping[str, Modality] = field(default_factory=dict)
    reported_elsewhere: frozenset[str] = frozenset()
    warned: set[str] = field(default_factory=set)

    def table(self, name: str) -> Mapping[str, Any]:
        """A declared table, live: key to its latest payload.

        Raises:
            KeyError: the topology does not list it under this operator's `tables`.
        """
        return self.tables[name]


class Operator(Protocol):
    """A step that turns batches of records into records; built as `Class(params, context)`."""

    async def open(self) -> None:
        """Load, compile and warm up; `process` is called only after this."""
        ...

    async def process(self, batch: Sequence[Record[Any]]) -> Sequence[Record[Any]]:
        """The records to write for a batch; `record.refuse(...)` for each one that can't be used."""
        ...

    def needs_from(self, session_id: str) -> Origin | None:
        """The oldest record buffered for a session (half an utterance, say); no offset above it is committed."""
        ...

    def forget(self, session_id: str) -> None:
        """Drop a session's state, when the session expired or its partition was lost."""
        ...

    async def close(self) -> None:
        """Release what `open` took."""
        ...


@dataclass(frozen=True, slots=True)
class Piece:
    """One record as evidence in one window.

    Args:
        payload: the record's.
        weight: in [0, 1]; halves with each half-life of the record's age at the window's end.
        inside: whether its event time lies in the window; else it is carried over from an earlier one.
        offset: the record's.
    """

    payload: Any
    weight: float
    inside: bool
    offset: int


@dataclass(frozen=True, slots=True)
class Window:
    """A window of one session, closed (final) or still open (provisional), as its operator gets it.

    Args:
        session_id: whose.
        start_ms: first moment of the window, in event time.
        end_ms: first moment after it.
        final: whether it is closed: no record can change it any more.
        closed_at_ms: its closing instant, in Kafka time; None for a provisional window.
        revision: 0 for a final window; for a provisional one the offset of its newest record.
        pieces: its evidence, inside and carried over, in offset order.
        newest_ms: newest event time by modality, within the horizon.
        active: the modalities that were active at its closing instant, or now for a provisional one.
        source_kafka_ms: the greatest Kafka time of the media behind its evidence.
        trigger: the offset of the record that closed it.
    """

    session_id: str
    start_ms: int
    end_ms: int
    final: bool
    closed_at_ms: int | None
    revision: int
    pieces: tuple[Piece, ...]
    newest_ms: Mapping[str, int]
    active: frozenset[str]
    source_kafka_ms: int
    trigger: int


class WindowOperator(Protocol):
    """A step over windows, which the runtime keeps: `fuse` is a pure function of a window."""

    async def open(self) -> None:
        """Load, compile, warm up."""
        ...

    async def fuse(self, due: Sequence[Window]) -> Sequence[Keyed | None]:
        """One payload for each window, in their order; None where nothing is to be written for it."""
        ...

    def revokes(self, evidence: Any) -> bool:
        """Whether this record revokes all earlier evidence of its modality (consent withdrawn)."""
        ...

    async def close(self) -> None:
        """Release what `open` took."""
        ...


class TableWatcher(Protocol):
    """What an operator may have besides: a callback for records of its tables."""

    def on_table(self, table: str, record: Record[Any]) -> Sequence[Record[Any]]:
        """The records to write because of a table's new record; called at start for each key's latest one.

        The table has been updated already. A payload of None means that the key was removed.
        """
        ...


@dataclass(frozen=True, slots=True)
class OperatorClass:
    """An operator found by its name: how to build one, the type of its parameters, and the modality it senses, if any.

    A class that senses one has a class attribute `modality`, the name under `modalities` in topology.yaml.
    """

    build: Callable[[Any, Context], Any]
    params: type[msgspec.Struct]
    module: ModuleType
    modality: str | None = None


def find_operator(name: str, package: str = "operators") -> OperatorClass:
    """`fuse_affect` to the class `FuseAffect` and the `Params` of `operators/fuse_affect.py`.

    Raises:
        ConfigurationError: no such file, or the file lacks the class or its Params.
    """
    class_name = "".join(part.capitalize() for part in name.split("_"))
    try:
        module = importlib.import_module(f"{package}.{name}")
        found = getattr(module, class_name)
        return OperatorClass(found, module.Params, module, getattr(found, "modality", None))
    except ModuleNotFoundError as error:
        if error.name not in (package, f"{package}.{name}"):
            raise
        problem = f"no file {package}/{name}.py"
    except AttributeError:
        problem = f"{package}/{name}.py needs a class {class_name} and a frozen struct Params"
    raise ConfigurationError(package, [Problem(f"operators.{name}", problem)])
