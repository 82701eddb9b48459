"""A session in, its log of observations out, once; a log in, finals out, for any fuser parameters, in seconds.

The log is what Kafka would hold: replayed under STREAMER_QUEUE=all at `--speed max`, ticks included, so that reading
it gives the very finals of the pipeline. It is kept under a name that changes with everything it depends on.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from kernels import engines
from operators.fuse_affect import FuseAffect, Params
from operators.payloads import AffectEvent, Observation
from streamer.broker import Message
from streamer.event_time import ManualClock
from streamer.operator import Context, Window
from streamer.payloads import TICK_HEADER, decode
from streamer.recordings.replay import SIMULATED_START_MS, session_events, simulate
from streamer.settings import Settings
from streamer.topology.topology import Topology
from streamer.windowing.windows import PartitionWindows, WindowSpec

_CODE = (
    "operators/sense_*.py", "operators/consent.py", "kernels/*.py", "kernels/face/*.py", "kernels/voice/*.py",
    "streamer/recordings/media.py", "streamer/recordings/replay.py",
)  # fmt: skip
_AFTER_THE_LOG = ("fusion.py",)


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One record of the log; a tick has no value."""

    offset: int
    kafka_ms: int
    value: bytes | None


Log = Sequence[Entry]
"""A session's observations in the order of its partition."""


def sensing_only(topology: Topology) -> Topology:
    """The topology without its ranker and its provisionals, on which no observation and no final depends."""
    operators = {n: o for n, o in topology.operators.items() if n != "rank_items"}
    for name, operator in operators.items():
        if isinstance(operator.window, WindowSpec):
            operators[name] = replace(operator, window=replace(operator.window, provisional=None))
    return replace(topology, operators=operators)


def evidence_modalities(topology: Topology) -> list[str]:
    """The modalities that are evidence of emotions: each is judged alone beside all of them fused."""
    return [name for name, modality in topology.modalities.items() if modality.evidence]


def fingerprint(session: Path, topology: Topology, imported: Path | None = None) -> str:
    """16 hex digits of all that a session's log depends on: its files, the models, the sensing operators, the code."""
    digest = hashlib.sha256()
    for path in sorted(p for p in session.iterdir() if p.is_file()):
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    for spec in engines.all_specs(imported=imported):
        digest.update(msgspec.json.encode(msgspec.structs.replace(spec, where="")))
    for name, operator in sensing_only(topology).operators.items():
        depends_on = [name, operator.window or operator.params]  # sets have another order in each process: sorted here
        digest.update(msgspec.json.encode(depends_on, order="deterministic", enc_hook=int))
    root = Path(__file__).resolve().parents[2]
    for path in sorted(p for pattern in _CODE for p in root.glob(pattern)):
        if path.name not in _AFTER_THE_LOG:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


async def observe(session: Path, topology: Topology, settings: Settings, start_ms: int = SIMULATED_START_MS) -> Log:
    """Run a session file to file through the sensing operators and the fuser.

    Raises:
        StreamerError: the session can't be read, or an operator can't be opened.
    """
    events = session_events(session, evidence_modalities(topology))
    broker = await simulate({session.name: events}, sensing_only(topology), settings, start_ms=start_ms)
    return [_entry(message) for message in broker.messages("observations")]


def observe_kept(session: Path, topology: Topology, settings: Settings, kept: Path) -> Path:
    """Where a session's log is kept, made now if it isn't there; blocks, for a process of its own."""
    path = kept / f"{session.name}-{fingerprint(session, topology, settings.models)}.msgpack"
    if path.exists():
        return path
    log = asyncio.run(observe(session, topology, settings))
    kept.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_bytes(msgspec.msgpack.encode(log))
    part.rename(path)
    return path


def read_log(path: Path) -> Log:
    """A kept log."""
    return msgspec.msgpack.decode(path.read_bytes(), type=list[Entry])


def fuser_of(topology: Topology, settings: Settings) -> tuple[FuseAffect, WindowSpec]:
    """A topology's fuser, outside a pipeline, and its windows."""
    spec = topology.operators["fuse_affect"]
    assert isinstance(spec.params, Params) and isinstance(spec.window, WindowSpec)  # noqa: S101, PT018 - checked at load
    context = Context("fuse_affect", settings, ManualClock(), modalities=topology.modalities)
    return FuseAffect(spec.params, context), spec.window


def closed_windows(log: Log, topology: Topology, spec: WindowSpec, fuser: FuseAffect) -> list[Window]:
    """The windows that close over a log, in order."""
    windows = PartitionWindows(spec, topology.half_life_ms(), fuser.revokes)
    closed: list[Window] = []
    for entry in log:
        if entry.value is None:
            closed += windows.tick(entry.offset, entry.kafka_ms).closed
        else:
            observation = decode(entry.value, Observation)
            closed += windows.apply(entry.offset, entry.kafka_ms, observation).closed
    return closed


async def finals(windows: Sequence[Window], fuser: FuseAffect, alone: str | None = None) -> list[AffectEvent]:
    """What the fuser makes of closed windows, of all their evidence or of one modality's alone."""
    await fuser.open()
    return list(await fuser.fuse([w if alone is None else only(w, alone) for w in windows]))


def only(window: Window, modality: str) -> Window:
    """A window as if nothing but one modality had ever been observed."""
    pieces = tuple(p for p in window.pieces if p.payload.modality == modality)
    newest = {str(m): t for m, t in window.newest_ms.items() if m == modality}
    return replace(window, pieces=pieces, newest_ms=newest, active=window.active & {modality})


def _entry(message: Message) -> Entry:
    tick = TICK_HEADER in dict(message.headers)
    return Entry(message.offset, message.timestamp_ms, None if tick else message.value)
