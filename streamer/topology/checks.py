"""Checks a topology as a whole: wiring, types, time. One function for each question; each yields problems."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import typing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from types import ModuleType
from typing import TYPE_CHECKING, Any

import msgspec

from streamer import payloads as runtime_payloads
from streamer.errors import ConfigurationError
from streamer.event_time import Duration
from streamer.operator import OperatorClass, Window, find_operator
from streamer.payloads import AuditEntry, DeadLetter, Keyed, LateRecord, Media, Refusal, SessionKeyed, WorkerReport
from streamer.records import Record
from streamer.topology.yaml_structs import listed, meant, nearest
from streamer.windowing.evidence import REACH_HALF_LIVES

if TYPE_CHECKING:
    from streamer.topology.topology import OperatorSpec, Topology

RUNTIME_TOPICS: dict[str, type[Keyed]] = {
    "dead_letters": DeadLetter,
    "late_records": LateRecord,
    "worker_reports": WorkerReport,
    "audit": AuditEntry,
}
"""Topics that the runtime itself writes, with the payload each must have."""

Found = Iterator[tuple[str, str]]
"""Path and message of each problem."""


def check_topology(topology: Topology, topics: Sequence[str], operators: Sequence[str]) -> Found:
    """Every problem of the whole; `topics` and `operators` are all declared names, those that could not be read too."""
    for spec in topology.operators.values():
        yield from _check_names(spec, topics)
        yield from _check_types(spec, topology)
        yield from _check_queues(spec)
        yield from _check_running(spec)
        yield from _check_window(spec, topology)
    yield from _check_modalities(topology, topics)
    yield from _check_tables(topology)
    yield from _check_writers(topology)
    yield from _check_runtime_topics(topology, topics)
    if len(topology.operators) == len(operators):  # an operator that could not be read may be the missing end
        yield from _check_ends(topology)
        yield from _check_cycles(topology)


def payload_types(package: str, operators: Iterable[ModuleType] = ()) -> dict[str, type[Keyed]]:
    """Every payload by its name: the runtime's own, those of `<package>/payloads.py` and those of operators' files."""
    modules = [*operators, importlib.import_module(f"{package}.payloads"), runtime_payloads]  # shared ones win
    return {name: kind for module in modules for name, kind in _payloads_in(module)}


def name_clashes(module: ModuleType, types: Mapping[str, type[Keyed]]) -> list[str]:
    """The payloads that an operator's file defines under a name which means another payload."""
    own = ((name, kind) for name, kind in _payloads_in(module) if kind.__module__ == module.__name__)
    return [name for name, kind in own if types[name] is not kind]


def _payloads_in(module: ModuleType) -> list[tuple[str, type[Keyed]]]:
    kinds = inspect.getmembers(module, inspect.isclass)
    return [(n, kind) for n, kind in kinds if issubclass(kind, Keyed) and kind not in (Keyed, SessionKeyed, Media)]


def find_checked(name: str, package: str, note: Callable[[str], None]) -> OperatorClass | None:
    """`find_operator`, but everything that can be wrong with an operator's file is noted instead of raised."""
    known = {m.name for m in pkgutil.iter_modules(importlib.import_module(package).__path__) if not m.ispkg}
    if name not in known:
        steps = {module for module in known if "_" in module}  # a step's name is a verb and a noun
        note(f"no file {package}/{name}.py{nearest(name, steps)}")
        return None
    try:
        found = find_operator(name, package)
    except ConfigurationError as error:
        note("; ".join(p.message for p in error.problems))
        return None
    except Exception as error:  # noqa: BLE001 - whatever an import raises is this file's problem, not ours
        note(f"{package}/{name}.py can't be imported: {type(error).__name__}: {error}")
        return None
    config = getattr(found.params, "__struct_config__", None)
    if not isinstance(config, msgspec.structs.StructConfig) or not (config.frozen and config.forbid_unknown_fields):
        note(f"Params of {package}/{name}.py must be a msgspec.Struct, frozen=True, forbid_unknown_fields=True")
        return None
    return found


def _check_names(spec: OperatorSpec, topics: Sequence[str]) -> Found:
    where = f"operators.{spec.name}"
    if not spec.reads:
        yield f"{where}.reads", "names no topic"
    inputs = [(f"reads[{i}]", t) for i, t in enumerate(spec.reads)]
    inputs += [(f"tables[{i}]", t) for i, t in enumerate(spec.tables)]
    seen: set[str] = set()
    for key, topic in inputs:
        if topic in seen:
            yield f"{where}.{key}", f"{topic} is named twice"
        seen.add(topic)
    outputs = [("writes", spec.writes)]
    if spec.window and spec.window.provisional is not None:
        outputs.append(("window.provisional", spec.window.provisional))
        if spec.window.provisional == spec.writes:
            yield f"{where}.window.provisional", f"provisional and final windows can't share {spec.writes}"
    for key, topic in inputs + outputs:
        if topic not in topics:
            yield f"{where}.{key}", f"no topic {topic}{nearest(topic, topics)}"


def _check_types(spec: OperatorSpec, topology: Topology) -> Found:
    where, method = f"operators.{spec.name}", "fuse" if spec.window else "process"
    function = getattr(spec.found.build, method, None)
    other = "process" if spec.window else "fuse"
    if function is None:
        hint = "has a window, so it" if spec.window else "has no window, so it"
        has_other = f" (it has {other})" if hasattr(spec.found.build, other) else ""
        yield where, f"{hint} needs a method {method}{has_other}"
        return
    try:
        hints = typing.get_type_hints(function)
        watched = typing.get_type_hints(getattr(spec.found.build, "revokes", function)) if spec.window else hints
    except NameError as error:
        yield where, f"the annotations of {method} can't be resolved: {error}; import it at run time"
        return
    returned = _payloads_of(hints.pop("return", Any))
    watched.pop("return", None)
    taken = _payloads_of(*watched.values())
    for i, topic in enumerate(spec.reads):
        yield from _check_type(f"{where}.reads[{i}]", topic, topology, taken, f"{method} takes")
    yield from _check_type(f"{where}.writes", spec.writes, topology, returned, f"{method} returns")
    if spec.window and spec.window.provisional:
        provisional = f"{where}.window.provisional"
        yield from _check_type(provisional, spec.window.provisional, topology, returned, f"{method} returns")


def _check_type(where: str, name: str, topology: Topology, known: frozenset[type], verb: str) -> Found:
    topic = topology.topics.get(name)
    if topic is not None and known and not issubclass(topic.type, tuple(known)):
        yield where, f"{name} carries {topic.payload}, but {verb} {listed(sorted(k.__name__ for k in known))}"


def _payloads_of(*hints: object) -> frozenset[type]:
    """The payload types inside annotations; none where one of them says Any, so that nothing is checked."""
    found: set[type] = set()
    for hint in hints:
        if isinstance(hint, type) and issubclass(hint, Keyed):
            found.add(hint)
        arguments = typing.get_args(hint)
        if typing.get_origin(hint) is Record and Any in arguments:
            return frozenset()
        found |= _payloads_of(*(a for a in arguments if a not in (Window, Refusal)))
    return frozenset(found)


def _check_queues(spec: OperatorSpec) -> Found:
    where = f"operators.{spec.name}"
    for name in spec.queues:
        if name not in spec.reads:
            yield f"{where}.queues.{name}", f"{spec.name} does not read it{nearest(name, spec.reads)}"
    for key, queue in {"queue": spec.queue, **{f"queues.{name}": q for name, q in spec.queues.items()}}.items():
        if queue.policy == "max_age" and queue.max_age is None:
            yield f"{where}.{key}.max_age", "is missing: policy max_age drops what is older than it"
        if queue.policy == "all" and queue.max_age is not None:
            yield f"{where}.{key}.max_age", "means nothing under policy all: use latest or max_age, or leave it out"
        if queue.max_age == 0:
            yield f"{where}.{key}.max_age", "0 would drop every record"
        if spec.window is not None and queue.policy != "all":
            why = "dropped records would change what a re-read gives"
            yield f"{where}.{key}.policy", f"must be all with a window: {why}"


def _check_running(spec: OperatorSpec) -> Found:
    where = f"operators.{spec.name}"
    if spec.delivery == "exactly_once" and spec.window is None:
        yield f"{where}.delivery", "exactly_once needs a window; without one a repeat has the identity of the first"
    if spec.host == "faust" and spec.window is not None:
        yield f"{where}.host", "windows are the runner's: faust has none below a second, and loses them on a rebalance"
    if spec.window is not None and spec.tables:
        yield f"{where}.tables", "a windowed operator has none: its output is a function of one log"


def _check_window(spec: OperatorSpec, topology: Topology) -> Found:
    window = spec.window
    if window is None:
        return
    where = f"operators.{spec.name}.window"
    if len(spec.reads) != 1:
        yield f"operators.{spec.name}.reads", "a windowed operator reads one topic: its offsets are the order"
    if window.size == 0 or window.hop == 0:
        yield f"{where}.{'hop' if window.size else 'size'}", "must be longer than 0ms"
    elif window.size % window.hop:
        yield f"{where}.hop", f"{window.hop} does not divide size {window.size}"
    longest_half_life_ms = max(topology.half_life_ms().values(), default=0)
    if longest_half_life_ms:
        reach = Duration(REACH_HALF_LIVES * longest_half_life_ms)
        if window.rule.idle_after > reach + window.size:
            longest = Duration(reach + window.size)
            yield f"{where}.idle_after", f"{window.rule.idle_after} is longer than reach + size = {longest}"
        parts = (reach, window.size, window.rule.max_open, window.max_delay, window.max_skew)
        if window.horizon < sum(parts):
            terms = " + ".join(map(str, parts))
            total = Duration(sum(parts))
            yield (
                f"{where}.horizon",
                f"{window.horizon} is shorter than reach + size + max_open + max_delay + max_skew = {terms} = {total}",
            )
    for sender in topology.operators.values():
        pace = getattr(sender.params, "hop", window.hop)
        if set(sender.outputs) & set(spec.reads) and pace != window.hop:
            path = f"operators.{sender.name}.params.hop"
            yield path, f"{pace}, but {spec.name} hops by {window.hop}: evidence would come at another pace"
    source = topology.topics.get(spec.reads[0]) if spec.reads else None
    if source and source.retention_ms is not None and source.retention_ms < 2 * window.horizon:
        needed = Duration(2 * window.horizon)
        yield f"topics.{source.name}.retention", f"must be {needed} or more: {spec.name} recovers by re-reading it"


def _check_modalities(topology: Topology, topics: Sequence[str]) -> Found:
    for name, modality in topology.modalities.items():
        if modality.topic is not None and modality.topic not in topics:
            yield f"modalities.{name}.topic", f"no topic {modality.topic}{nearest(modality.topic, topics)}"
    for spec in topology.operators.values():
        sensed = spec.found.modality
        if sensed is None:
            continue
        where = f"operators.{spec.name}"
        if sensed not in topology.modalities:
            yield where, f"it senses {sensed}, which `modalities` does not declare{meant(sensed, topology.modalities)}"
        elif (topic := topology.modalities[sensed].topic) not in spec.reads and set(spec.reads) <= set(topics):
            wanted = f"must read {topic}" if topic else f"needs modalities.{sensed}.topic, which it reads"
            yield f"{where}.reads", f"it senses {sensed}, so it {wanted}"


def _check_tables(topology: Topology) -> Found:
    for spec in topology.operators.values():
        for i, name in enumerate(spec.tables):
            if (topic := topology.topics.get(name)) and not topic.compact:
                where = f"operators.{spec.name}.tables[{i}]"
                yield where, f"{name} is read as a table, so it needs compact: true under topics.{name}"
    for topic in topology.topics.values():
        if topic.compact and topic.retention_ms is not None:
            yield f"topics.{topic.name}.retention", "a compacted topic keeps each key's latest record: leave it out"
        longest = topic.type.LONGEST_RETENTION_MS
        if longest is not None and (topic.compact or topic.retention_ms is None or topic.retention_ms > longest):
            yield f"topics.{topic.name}.retention", f"{topic.payload} may be kept for {Duration(longest)} at most"
        if topic.retention_ms == 0:
            yield f"topics.{topic.name}.retention", "must be longer than 0ms"


def _check_writers(topology: Topology) -> Found:
    written = Counter(chain.from_iterable(spec.outputs for spec in topology.operators.values()))
    for spec in topology.operators.values():
        outputs = zip(("writes", "window.provisional"), spec.outputs, strict=False)
        for key, name in outputs:
            where = f"operators.{spec.name}.{key}"
            topic = topology.topics.get(name)
            if topic is not None and topic.external == "in":
                yield where, f"{name} comes from outside (external: in)"
            if name in RUNTIME_TOPICS:
                yield where, f"{name} is written by the runtime itself"
            elif spec.window is not None and written[name] > 1:
                others = listed([other for other in topology.writers(name) if other != spec.name] or [spec.name])
                yield where, f"{name} is written by {others} too, but the order of windows is one writer's"


def _check_runtime_topics(topology: Topology, topics: Sequence[str]) -> Found:
    if topology.operators and "dead_letters" not in topics:
        yield "topics", "dead_letters is missing: records that can't be used go there (payload: DeadLetter)"
    if "late_records" not in topics and any(spec.window for spec in topology.operators.values()):
        yield "topics", "late_records is missing: records that come after their windows go there (payload: LateRecord)"
    for name, kind in RUNTIME_TOPICS.items():
        topic = topology.topics.get(name)
        if topic is not None and topic.type is not kind:
            yield f"topics.{name}.payload", f"the runtime writes {kind.__name__} here"


def _check_ends(topology: Topology) -> Found:
    specs = topology.operators.values()
    written = {*chain.from_iterable(s.outputs for s in specs), *RUNTIME_TOPICS}
    read = {*chain.from_iterable((*s.reads, *s.tables) for s in specs), *RUNTIME_TOPICS}
    for topic in topology.topics.values():
        where = f"topics.{topic.name}"
        is_written = topic.name in written or topic.external == "in"
        is_read = topic.name in read or topic.external == "out"
        if not is_written and not is_read:
            yield where, "nobody writes or reads it, and it is not external"
        elif not is_written:
            yield where, "nobody writes it: is it external: in?"
        elif not is_read and topic.external is None:
            yield where, "nobody reads it: is it external: out?"


def _check_cycles(topology: Topology) -> Found:
    readers = {
        name: [s for s in topology.operators.values() if name in (*s.reads, *s.tables)] for name in topology.topics
    }
    done: set[str] = set()

    def walk(spec: OperatorSpec, path: tuple[str, ...]) -> Found:
        if spec.name in path:
            circle = " -> ".join((*path[path.index(spec.name) :], spec.name))
            yield f"operators.{spec.name}", f"a cycle: {circle}"
        elif spec.name not in done:
            for following in dict.fromkeys(s.name for t in spec.outputs for s in readers.get(t, ())):
                yield from walk(topology.operators[following], (*path, spec.name))
            done.add(spec.name)

    for spec in topology.operators.values():
        yield from walk(spec, ())
