"""topology.yaml in, a checked Topology out, or every mistake in it at once (DESIGN §3)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import msgspec

from streamer.errors import ConfigurationError
from streamer.event_time import Duration
from streamer.modality import Modality
from streamer.payloads import Keyed, SessionKeyed
from streamer.topology.checks import check_topology, find_checked, name_clashes, payload_types
from streamer.topology.topology import Batch, OnFailure, OperatorSpec, Positive, Queue, Topic, Topology
from streamer.topology.upgrade import upgraded
from streamer.topology.yaml_places import YamlTree, read_yaml
from streamer.topology.yaml_structs import StructReader, location, nearest
from streamer.windowing.closing_rule import ClosingRule
from streamer.windowing.window_spec import WindowSpec

VERSION = 2


class Name(str):
    """What an app or a topic may be called."""

    @classmethod
    def parse(cls, value: object) -> Name:
        """A string to a name.

        Raises:
            ValueError: not lower-case letters, digits and `_`, beginning with a letter.
        """
        if not isinstance(value, str) or re.fullmatch("[a-z][a-z0-9_]{0,99}", value) is None:
            raise ValueError(f"{value!r} is not a name: use lower-case letters, digits and _, a letter first")
        return cls(value)


class _WindowEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    size: Duration
    hop: Duration
    lateness: Duration = ClosingRule().lateness
    idle_after: Duration = ClosingRule().idle_after
    max_open: Duration = ClosingRule().max_open
    provisional: str | None = None
    max_skew: Duration = WindowSpec().max_skew
    max_delay: Duration = WindowSpec().max_delay
    horizon: Duration = WindowSpec().horizon

    def spec(self, sparse: frozenset[str]) -> WindowSpec:
        rule = ClosingRule(self.lateness, self.idle_after, self.max_open, sparse)
        return WindowSpec(self.size, self.hop, rule, self.provisional, self.max_skew, self.max_delay, self.horizon)


class _TopicEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    payload: str
    external: Literal["in", "out"] | None = None
    retention: Duration | None = None
    compact: bool = False
    key: str | None = None
    partitions: Positive | None = None


class _OperatorEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    reads: tuple[str, ...]
    writes: str
    tables: tuple[str, ...] = ()
    host: Literal["runner", "faust"] = "runner"
    batch: Batch = Batch()
    queue: Queue = Queue()
    queues: dict[str, Queue] = {}
    window: _WindowEntry | None = None
    delivery: Literal["at_least_once", "exactly_once"] = "at_least_once"
    on_failure: OnFailure = OnFailure()
    params: dict[str, Any] = {}


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: Literal[2]
    app: Name
    partitions: Annotated[int, msgspec.Meta(ge=1, le=1000)]
    topics: dict[Name, _TopicEntry]
    operators: dict[str, _OperatorEntry]
    modalities: dict[Name, Modality] = {}


def load_topology(path: Path | str, *, package: str = "operators") -> Topology:
    """A topology file to a checked Topology; operators and payloads are looked up by name in `package`.

    A payload is found in `<package>/payloads.py` or beside the operator that reads it. Files of version 1 are read too.

    Raises:
        ConfigurationError: every problem found, each with its path in the file, its line and the nearest known name.
    """
    path = Path(path)
    tree = upgraded(read_yaml(path))
    reader = StructReader(tree.lines)
    reader.problems.extend(tree.problems)
    file = reader.read(_File, tree.value, "")
    partitions = reader.at(int, "partitions") or 1
    modalities = _modalities(reader, _names(tree, "modalities"))
    operators = _operators(reader, _names(tree, "operators"), package, modalities)
    types = payload_types(package, [spec.found.module for spec in operators.values()])
    for spec in operators.values():
        for clash in name_clashes(spec.found.module, types):
            reader.note(f"operators.{spec.name}", f"its payload {clash} has the name of another one: call it otherwise")
    topics = _topics(reader, _names(tree, "topics"), partitions, types)
    topology = Topology(
        path, VERSION, file.app if file else "", partitions,
        MappingProxyType(topics), MappingProxyType(operators), MappingProxyType(modalities),
    )  # fmt: skip
    # a value that could not be read has been reported: what stands in for it isn't checked
    checks = check_topology(topology, _names(tree, "topics"), _names(tree, "operators"))
    for where, message in [problem for problem in checks if not reader.has_problem(problem[0])]:
        reader.note(where, message)
    if reader.problems:
        raise ConfigurationError(str(path), sorted(set(reader.problems), key=lambda p: location(p.path, tree.lines)))
    return topology


def _names(tree: YamlTree, section: str) -> tuple[str, ...]:
    value = tree.value.get(section) if isinstance(tree.value, dict) else None
    return tuple(value) if isinstance(value, dict) else ()


def _modalities(reader: StructReader, names: Iterable[str]) -> dict[str, Modality]:
    found = {name: reader.at(Modality, f"modalities.{name}") for name in names}
    return {name: modality for name, modality in found.items() if modality is not None}


def _topics(
    reader: StructReader, names: Iterable[str], partitions: int, types: Mapping[str, type[Keyed]]
) -> dict[str, Topic]:
    topics: dict[str, Topic] = {}
    for name in names:
        where = f"topics.{name}"
        entry = reader.at(_TopicEntry, where)
        if entry is None:
            continue
        if entry.partitions not in (None, partitions):
            reader.note(f"{where}.partitions", f"{entry.partitions}, but every topic of this app has {partitions}")
        kind = types.get(entry.payload)
        if kind is None:
            reader.note(f"{where}.payload", f"no payload {entry.payload}{nearest(entry.payload, types)}")
            continue
        key = entry.key or ("session_id" if issubclass(kind, SessionKeyed) else None)
        if key not in kind.__struct_fields__:
            choices = nearest(key or "", kind.__struct_fields__)
            reader.note(f"{where}.key", f"name the field of {entry.payload} that is the record's key{choices}")
            continue
        retention_ms = None if entry.retention is None else int(entry.retention)
        topics[name] = Topic(name, entry.payload, kind, entry.external, retention_ms, entry.compact, key)
    return topics


def _operators(
    reader: StructReader, names: Iterable[str], package: str, modalities: Mapping[str, Modality]
) -> dict[str, OperatorSpec]:
    sparse = frozenset(name for name, modality in modalities.items() if modality.sparse)
    operators: dict[str, OperatorSpec] = {}
    for name in names:
        where = f"operators.{name}"
        entry = reader.at(_OperatorEntry, where)
        found = find_checked(name, package, partial(reader.note, where))
        if found is None or entry is None:
            continue
        params = reader.read(found.params, entry.params, f"{where}.params")
        if params is None:
            continue
        operators[name] = OperatorSpec(
            name, entry.reads, entry.tables, entry.writes, entry.host, entry.batch, entry.queue,
            MappingProxyType(entry.queues),
            entry.window.spec(sparse) if entry.window else None,
            entry.delivery, entry.on_failure, params, found,
        )  # fmt: skip
    return operators
