"""`python -m benchmarks.p95`: how long frames, chat, windows and candidates take on the real path, on a real Kafka.

Starts Kafka and the pipeline on this machine, publishes recorded sessions at their own pace (10 frames a second, sound,
chat, candidate lists) and reads what comes out. All clocks are this machine's. The benchmark sets
STREAMER_CONTEXT=research and accepts unsettled licences for itself: recorded material, nobody is sensed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from benchmarks import latency, machine
from benchmarks.p95.load import material, publish
from benchmarks.real_path import RealPath, benchmark_settings, real_path
from demo.story import compose
from streamer.errors import StreamerError
from streamer.event_time import SystemClock
from streamer.recordings.media import Event
from streamer.topology.reading import load_topology
from streamer.topology.topology import Topology

WARM_UP_S = 5
LINGER_S = 3
TARGET_MS = 150
NAMES = {
    "frame_to_affect_live": "frame event time -> affect_live",
    "chat_to_affect_live": "chat -> affect_live",
    "closing_to_final": "closing instant -> final readable",
    "candidates_to_ranked": "candidates -> ranked items",
}


@dataclass(frozen=True, slots=True)
class Run:
    """The figures of one load: latencies and stages in ms, memory in MiB, `pipeline_cores` the CPU it kept busy."""

    sessions: int
    seconds: int
    latency_ms: dict[str, latency.Spread]
    stages_ms: dict[str, dict[str, dict[str, float]]]
    counts: dict[str, dict[str, int]]
    dropped: dict[str, int]
    pipeline_rss_mib: int
    kafka_rss_mib: int
    pipeline_cores: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 when done, a StreamerError's exit code otherwise."""
    args = _parser().parse_args(arguments)
    try:
        return asyncio.run(_main(args))
    except StreamerError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.p95", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=40, metavar="N", help="of each load, warm-up included (40)")
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 8], metavar="N", help="loads: sessions at once")
    parser.add_argument("--media", type=Path, metavar="DIR", help="session folders, or one; default: the demo's story")
    parser.add_argument("--topology", type=Path, default=Path("topology.yaml"), metavar="PATH")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures for tools")
    return parser


async def _main(args: argparse.Namespace) -> int:
    topology, settings, facts = load_topology(args.topology), benchmark_settings(), machine.describe()
    console = Console(stderr=True)
    for line in machine.lines(facts):
        print(line)
    with console.status("preparing media") as status:
        recorded = await asyncio.to_thread(_recorded, args.media, max(args.sessions), args.seconds)
        runs = []
        async with real_path(args.topology, settings, progress=lambda what, _: status.update(what)) as path:
            for count in args.sessions:
                status.update(f"{count} session{'s' * (count > 1)} for {args.seconds} s")
                runs.append(await measure(path, topology, recorded, count, args.seconds))
    for run in runs:
        print("\n".join(report(run)))
    if args.json:
        figures = {"machine": facts, "runs": [asdict(run) for run in runs]}
        args.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    return 0


def _recorded(media: Path | None, most: int, seconds: int) -> list[list[Event]]:
    """Recordings as events: a session folder, those in a folder as far as they are needed, or the demo's story."""
    if media is None:
        with tempfile.TemporaryDirectory(prefix="story-") as folder:
            compose(Path(folder))
            return material([Path(folder)], seconds)
    inside = sorted(p for p in media.iterdir() if p.is_dir()) if media.is_dir() else []
    return material(inside[:most] or [media], seconds)


async def measure(
    path: RealPath, topology: Topology, recorded: Sequence[Sequence[Event]], count: int, seconds: int
) -> Run:
    """Publish `count` sessions for some seconds on a running pipeline; the figures without the warm-up."""
    clock, ready, stop = SystemClock(), asyncio.Event(), asyncio.Event()
    receiving = asyncio.create_task(latency.receive(topology, path.broker, clock, ready, stop))
    watching = asyncio.create_task(_peak_memory(path, stop))
    await ready.wait()
    from_ms, cpu_s = clock.now_ms() + WARM_UP_S * 1000, path.cpu_s()
    names = [f"load-{count}-{n}" for n in range(count)]
    sent = await publish(recorded, names, topology, path.broker, clock)
    cores = (path.cpu_s() - cpu_s) / seconds
    await asyncio.sleep(LINGER_S)
    stop.set()
    got = await receiving
    pipeline_bytes, kafka_bytes = await watching
    counts = latency.counts(got.reports, from_ms)
    dropped = {
        f"{operator}: {reason}": n
        for operator, each in counts.items()
        for reason, n in each.items()
        if n and reason not in latency.NOT_DROPS
    }
    return Run(
        count, seconds, latency.latencies(sent, got, from_ms), latency.stages(got.reports, from_ms), counts, dropped,
        pipeline_bytes >> 20, kafka_bytes >> 20, round(cores, 2),
    )  # fmt: skip


async def _peak_memory(path: RealPath, stop: asyncio.Event) -> tuple[int, int]:
    pipeline_bytes = kafka_bytes = 0
    while not stop.is_set():
        pipeline_bytes = max(pipeline_bytes, path.resident_bytes())
        kafka_bytes = max(kafka_bytes, path.kafka.rss_bytes())
        await asyncio.sleep(1)
    return pipeline_bytes, kafka_bytes


def report(run: Run) -> list[str]:
    """A run as lines for people."""
    lines = [
        "",
        f"sessions at once: {run.sessions}, at 10 frames/s each, {run.seconds} s without the first {WARM_UP_S}",
        f"| ms | {'p50':>6} | {'p95':>6} | {'p99':>6} | {'max':>6} | {'count':>5} | never |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {NAMES[name]} | {s.p50:6.0f} | {s.p95:6.0f} | {s.p99:6.0f} | {s.max:6.0f} | {s.count:5d} | {s.missing} |"
        for name, s in run.latency_ms.items()
    ]
    lines.append("per stage, ms (means of the seconds' p50 and p95):")
    for operator, by in run.stages_ms.items():
        cells = ", ".join(f"{stage} {s['p50']:.1f}/{s['p95']:.1f}" for stage, s in by.items())
        lines.append(f"  {operator}: {cells}")
    lines.append("dropped: " + (", ".join(f"{reason} {n}" for reason, n in run.dropped.items()) or "nothing"))
    lines.append(
        f"resident at most: pipeline {run.pipeline_rss_mib} MiB, Kafka {run.kafka_rss_mib} MiB; "
        f"the pipeline kept {run.pipeline_cores:.2f} cores busy"
    )
    frame = run.latency_ms["frame_to_affect_live"]
    if run.sessions == 1:
        met = "met" if 0 < frame.p95 < TARGET_MS and not frame.missing else "missed"
        lines.append(f"target: p95 frame -> affect_live under {TARGET_MS} ms: {met} ({frame.p95:.0f} ms)")
    return lines


if __name__ == "__main__":
    sys.exit(main())
