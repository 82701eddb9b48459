"""`python -m benchmarks.p95`: how long frames, chat, windows and candidates take on the real path, on a real Kafka.

Starts Kafka and the pipeline on this machine, publishes recorded sessions at their own pace (10 frames a second, sound,
chat, candidate lists) and reads what comes out. All clocks are this machine's. The benchmark sets
STREAMER_CONTEXT=research and accepts unsettled licences for itself: recorded material, nobody is sensed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from benchmarks import command_line, latency
from benchmarks.live_pipeline import LivePipeline, benchmark_settings, live_pipeline
from benchmarks.p95.load import publish, read_recordings
from demo.story import compose
from streamer.event_time import SystemClock
from streamer.recordings.events import Event
from streamer.topology.reading import load_topology
from streamer.topology.topology import Topology

WARM_UP_S = 5
LINGER_S = 3
TARGET_MS = 150
LABELS = {
    "frame_to_affect_live": "frame event time -> affect_live",
    "chat_to_affect_live": "chat -> affect_live",
    "closing_to_final": "closing instant -> final readable",
    "candidates_to_ranked": "candidates -> ranked items",
}


@dataclass(frozen=True, slots=True)
class Run:
    """The figures of one load: times in ms, peak resident memory in MiB, and CPU seconds of the pipeline per second."""

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
    return command_line.exit_code(lambda: asyncio.run(_main(args)))


def _parser() -> argparse.ArgumentParser:
    parser = command_line.argument_parser("p95", __doc__, keep_line_breaks=True)
    parser.add_argument("--seconds", type=int, default=40, metavar="N", help="of each load, warm-up included (40)")
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 8], metavar="N", help="loads: sessions at once")
    parser.add_argument("--media", type=Path, metavar="DIR", help="session folders, or one; default: the demo's story")
    command_line.add_topology(parser)
    command_line.add_json(parser)
    return parser


async def _main(args: argparse.Namespace) -> int:
    topology, settings = load_topology(args.topology), benchmark_settings()
    console = Console(stderr=True)
    facts = command_line.print_machine()
    with console.status("preparing media") as status:
        recorded = await asyncio.to_thread(_recorded, args.media, max(args.sessions), args.seconds)
        runs = []
        async with live_pipeline(args.topology, settings, progress=lambda step, _: status.update(step)) as pipeline:
            for count in args.sessions:
                status.update(f"{count} session{'s' * (count > 1)} for {args.seconds} s")
                runs.append(await measure(pipeline, topology, recorded, count, args.seconds))
    for run in runs:
        print("\n".join(report(run)))
    command_line.write_json(args.json, {"machine": facts, "runs": [asdict(run) for run in runs]})
    return 0


def _recorded(media: Path | None, sessions: int, seconds: int) -> list[list[Event]]:
    """Read what `--media` names as events: a session folder, or at most so many in a folder; else the demo's story."""
    if media is None:
        with tempfile.TemporaryDirectory(prefix="story-") as folder:
            compose(Path(folder))
            return read_recordings([Path(folder)], seconds)
    folders = sorted(p for p in media.iterdir() if p.is_dir()) if media.is_dir() else []
    return read_recordings(folders[:sessions] or [media], seconds)


async def measure(
    pipeline: LivePipeline, topology: Topology, recorded: Sequence[Sequence[Event]], count: int, seconds: int
) -> Run:
    """Publish `count` sessions for some seconds to a running pipeline and return the figures without the warm-up."""
    clock, ready, stop = SystemClock(), asyncio.Event(), asyncio.Event()
    receiving = asyncio.create_task(latency.receive(topology, pipeline.broker, clock, ready, stop))
    watching = asyncio.create_task(_peak_memory(pipeline, stop))
    await ready.wait()
    from_ms, cpu_s = clock.now_ms() + WARM_UP_S * 1000, pipeline.cpu_s()
    names = [f"load-{count}-{n}" for n in range(count)]
    sent = await publish(recorded, names, topology, pipeline.broker, clock)
    cores = (pipeline.cpu_s() - cpu_s) / seconds
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


async def _peak_memory(pipeline: LivePipeline, stop: asyncio.Event) -> tuple[int, int]:
    pipeline_bytes = kafka_bytes = 0
    while not stop.is_set():
        pipeline_bytes = max(pipeline_bytes, pipeline.resident_bytes())
        kafka_bytes = max(kafka_bytes, pipeline.kafka.rss_bytes())
        await asyncio.sleep(1)
    return pipeline_bytes, kafka_bytes


def report(run: Run) -> list[str]:
    """Write a run as lines of text, its latencies as a Markdown table."""
    lines = [
        "",
        f"sessions at once: {run.sessions}, at 10 frames/s each, {run.seconds} s without the first {WARM_UP_S}",
        f"| ms | {'p50':>6} | {'p95':>6} | {'p99':>6} | {'max':>6} | {'count':>5} | never |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {LABELS[name]} | {s.p50:6.0f} | {s.p95:6.0f} | {s.p99:6.0f} | {s.max:6.0f} | {s.count:5d} | {s.missing} |"
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
