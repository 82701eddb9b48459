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
from typing import Any, Protocol

import msgspec

from streamer.errors import ConfigurationError, Problem
from streamer.event_time import Clock, SystemClock
from streamer.metrics import Metrics
from streamer.modality import Modality
from streamer.payloads import Keyed
from streamer.records import Origin, Record
from streamer.settings import Settings


@dataclass(frozen=True, slots=True)
class Runs:
    """What an operator runs: versions by model or policy, backends and licence states by model, why not others."""

    models: dict[str, str] = field(default_factory=dict)
    backends: dict[str, str] = field(default_factory=dict)
    reasons_against: dict[str, list[str]] = field(default_factory=dict)
    licences: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Context:
    """What the runtime gives an operator: time, counts, a log, this deployment's settings, its tables, the modalities.

    `audits`: whether there is a topic `audit` for an operator's decisions (`AuditEntry`, written `to="audit"`).
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

    def table(self, name: str) -> Mapping[str, Any]:
        """A declared table, live: key to its latest payload.

        Raises:
            KeyError: the topology does not list it under this operator's `tables`.
        """
        return self.tables[name]


class Operator(Protocol):
    """A step that turns a batch of records into records. Built as `Class(params, context)`."""

    async def open(self) -> None:
        """Load, compile, warm up: the operator is ready only after this."""
        ...

    async def process(self, batch: Sequence[Record[Any]]) -> Sequence[Record[Any]]:
        """What to write for these records; `record.refuse(...)` for each that can't be used."""
        ...

    def needs_from(self, session_id: str) -> Origin | None:
        """The oldest input still held for a session (half an utterance): commits stay below it."""
        ...

    def forget(self, session_id: str) -> None:
        """Drop a session's state: consent revoked, session expired, partition lost."""
        ...

    async def close(self) -> None:
        """Release what `open` took."""
        ...


@dataclass(frozen=True, slots=True)
class Piece:
    """One record as evidence in one window: `weight` in [0, 1] halves with each half-life of age at window end."""

    payload: Any
    weight: float
    own: bool
    offset: int


@dataclass(frozen=True, slots=True)
class Window:
    """A window as its operator sees it: its evidence, own and carried, in offset order, and who was active.

    `closed_at_ms` is the closing instant c for a final one, None for a provisional one; `revision` is 0 for a final
    one, else the offset of the newest record in it.
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
    """A step over closed windows. The runtime owns windows, evidence and dedupe: this is a pure function of them."""

    async def open(self) -> None:
        """Load, compile, warm up."""
        ...

    async def fuse(self, due: Sequence[Window]) -> Sequence[Keyed | None]:
        """One payload for each window, in their order; None where nothing may be said of it."""
        ...

    def revokes(self, evidence: Any) -> bool:
        """Whether this record takes back all earlier evidence of its modality (consent withdrawn)."""
        ...

    async def close(self) -> None:
        """Release what `open` took."""
        ...


class TableWatcher(Protocol):
    """What an operator may also have: a say when a record of one of its tables arrives."""

    def on_table(self, table: str, record: Record[Any]) -> Sequence[Record[Any]]:
        """What to write because a table's record changed; called again for the latest ones at start.

        The table holds it already. A payload of None says that the key was removed.
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
