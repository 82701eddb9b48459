"""Compute a session's log of observations once and cache it; fuse a cached log to finals with any fuser parameters.

The log is what the Kafka topic would hold: replayed under STREAMER_QUEUE=all at `--speed max`, ticks included, so that
fusing it gives exactly the finals of the pipeline. Its file name contains a hash of everything that it depends on.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import track

from kernels import engines
from operators.fuse_affect import FuseAffect, Params
from operators.payloads import AffectEvent, Observation
from streamer.broker import Message
from streamer.event_time import ManualClock
from streamer.operator import Context, Window
from streamer.payloads import TICK_HEADER, decode
from streamer.recordings.replay import SIMULATED_START_MS, session_events, simulate
from streamer.settings import Settings
from streamer.topology.reading import load_topology
from streamer.topology.topology import Topology
from streamer.windowing.window_spec import WindowSpec
from streamer.windowing.windows import PartitionWindows

_CODE = (
    "operators/sense_*.py", "operators/consent.py", "kernels/*.py", "kernels/face/*.py", "kernels/voice/*.py",
    "kernels/text/*.py", "streamer/recordings/media.py", "streamer/recordings/pictures.py",
    "streamer/recordings/sound.py", "streamer/recordings/replay.py",
)  # fmt: skip
_NO_PART_IN_THE_LOG = ("fusion.py",)


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One record of the log; a tick has no value."""

    offset: int
    kafka_ms: int
    value: bytes | None


Log = Sequence[Entry]
"""A session's observations and ticks in the order of its partition."""


def sensing_only(topology: Topology) -> Topology:
    """Remove the ranker and the provisionals from a topology: no observation and no final depends on them."""
    operators = {n: o for n, o in topology.operators.items() if n != "rank_items"}
    for name, operator in operators.items():
        if isinstance(operator.window, WindowSpec):
            operators[name] = replace(operator, window=replace(operator.window, provisional=None))
    return replace(topology, operators=operators)


def evidence_modalities(topology: Topology) -> list[str]:
    """The modalities that are evidence of emotions: each is scored alone, besides all of them fused."""
    return [name for name, modality in topology.modalities.items() if modality.evidence]


def fingerprint(session: Path, topology: Topology, imported: Path | None = None) -> str:
    """Hash what a session's log depends on: its files, the models, the sensing operators, the code; 16 hex digits."""
    digest = hashlib.sha256()
    for path in sorted(p for p in session.iterdir() if p.is_file()):
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    for spec in engines.all_specs(imported=imported):
        digest.update(msgspec.json.encode(msgspec.structs.replace(spec, loaded_from="")))
    for name, operator in sensing_only(topology).operators.items():
        depends_on = [name, operator.window or operator.params]  # sets have another order in each process: sorted here
        digest.update(msgspec.json.encode(depends_on, order="deterministic", enc_hook=int))
    root = Path(__file__).resolve().parents[2]
    for path in sorted(p for pattern in _CODE for p in root.glob(pattern)):
        if path.name not in _NO_PART_IN_THE_LOG:
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


def observe_cached(session: Path, topology: Topology, settings: Settings, cache: Path) -> Path:
    """Return the file of a session's log in the folder `cache`, computed first if it isn't there.

    Blocks; to be called where no event loop runs.
    """
    path = cache / f"{session.name}-{fingerprint(session, topology, settings.models)}.msgpack"
    if path.exists():
        return path
    log = asyncio.run(observe(session, topology, settings))
    cache.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_bytes(msgspec.msgpack.encode(log))
    part.rename(path)
    return path


def observe_all(
    sessions: Sequence[Path], topology: Path, settings: Settings, cache: Path, jobs: int, console: Console
) -> list[Path]:
    """Compute the logs that are not cached, in `jobs` processes at a time, and return all files in order."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        pending = {pool.submit(_load_and_observe, session, topology, settings, cache): session for session in sessions}
        done: dict[Path, Path] = {}
        for future in track(as_completed(pending), "replaying", total=len(pending), console=console):
            done[pending[future]] = future.result()
    return [done[session] for session in sessions]


def _load_and_observe(session: Path, topology: Path, settings: Settings, cache: Path) -> Path:
    return observe_cached(session, load_topology(topology), settings, cache)


def read_log(path: Path) -> Log:
    """Read a cached log."""
    return msgspec.msgpack.decode(path.read_bytes(), type=list[Entry])


def fuser_of(topology: Topology, settings: Settings) -> tuple[FuseAffect, WindowSpec]:
    """Make a topology's fuser, without a pipeline, and return it with the specification of its windows."""
    spec = topology.operators["fuse_affect"]
    assert isinstance(spec.params, Params) and isinstance(spec.window, WindowSpec)  # noqa: S101, PT018 - checked at load
    context = Context("fuse_affect", settings, ManualClock(), modalities=topology.modalities)
    return FuseAffect(spec.params, context), spec.window


def closed_windows(log: Log, topology: Topology, spec: WindowSpec, fuser: FuseAffect) -> list[Window]:
    """Apply a log to the windows and return those that close, in order."""
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
    """Fuse closed windows to finals, from all their evidence or from one modality's alone."""
    await fuser.open()
    return list(await fuser.fuse([w if alone is None else only(w, alone) for w in windows]))


def only(window: Window, modality: str) -> Window:
    """Restrict a window to one modality, as if no other had been observed."""
    pieces = tuple(p for p in window.pieces if p.payload.modality == modality)
    newest = {str(m): t for m, t in window.newest_ms.items() if m == modality}
    return replace(window, pieces=pieces, newest_ms=newest, active=window.active & {modality})


def _entry(message: Message) -> Entry:
    tick = TICK_HEADER in dict(message.headers)
    return Entry(message.offset, message.timestamp_ms, None if tick else message.value)
