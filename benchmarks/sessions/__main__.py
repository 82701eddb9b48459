"""`python -m benchmarks.sessions DIR`: labelled sessions in; how well each modality, and all together, tell them out.

Every session is replayed file to file under STREAMER_QUEUE=all; one also runs at the media's pace on a real Kafka. The
benchmark sets STREAMER_CONTEXT=research and accepts unsettled licences for itself: recorded material, nobody is sensed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import yaml
from rich.console import Console

from benchmarks import command_line
from benchmarks.live_pipeline import benchmark_settings
from benchmarks.sessions.live_check import live_agreement
from benchmarks.sessions.observed import closed_windows, evidence_modalities, finals, fuser_of, observe_all, read_log
from benchmarks.sessions.report import FUSED, below_best_single, judge, table
from benchmarks.sessions.segments import Segment, find_sessions, predict, predict_each, read_segments
from benchmarks.sessions.statistics import Prediction
from streamer.errors import ConfigurationError, Problem
from streamer.recordings.replay import SIMULATED_START_MS
from streamer.settings import Settings
from streamer.topology.reading import load_topology
from streamer.topology.topology import Topology


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 when done, 1 where `--check` fails, a StreamerError's exit code otherwise."""
    args = _parser().parse_args(arguments)
    return command_line.exit_code(lambda: asyncio.run(_main(args)))


def _parser() -> argparse.ArgumentParser:
    parser = command_line.argument_parser("sessions", __doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="holds session folders with labels.json")
    command_line.add_json(parser)
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="sessions at once, one process each (2)")
    command_line.add_topology(parser)
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", dest="changes",
        help="another value in the topology, such as operators.sense_voice.params.model=voice_affect_nc",
    )  # fmt: skip
    parser.add_argument(
        "--observations", type=Path, metavar="DIR",
        help="keep each session's observations here and reuse them while the models and the session stay the same",
    )  # fmt: skip
    parser.add_argument(
        "--check", action="store_true", help="exit 1 where fused is below the best single modality in a kind of segment"
    )
    parser.add_argument("--live", action=argparse.BooleanOptionalAction, default=True, help="the check in real time")
    return parser


async def _main(args: argparse.Namespace) -> int:
    settings = benchmark_settings()
    console = Console(stderr=True)
    folders = await asyncio.to_thread(find_sessions, args.folder)
    segments = {folder.name: read_segments(folder) for folder in folders}
    facts = command_line.print_machine()
    with ExitStack() as stack:
        if args.changes:
            args.topology = changed_topology(
                args.topology, args.changes, Path(stack.enter_context(tempfile.TemporaryDirectory()))
            )
        topology = load_topology(args.topology)
        cache = args.observations or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="observations-")))
        logs = await asyncio.to_thread(
            observe_all,
            folders,
            args.topology,
            settings.model_copy(update={"queue": "all", "threads": 1}),
            cache,
            args.jobs,
            console,
        )
        predictions, each = await predict_all(logs, segments, topology, settings)
    result = judge(predictions, segments, each)
    print(table(result))
    figures: dict[str, object] = {"machine": facts, "sessions": len(folders), **asdict(result)}
    if args.live:
        with console.status("one session in real time") as status:
            agreement = await live_agreement(folders[0], args.topology, settings, _progress(status.update))
        figures["live"] = asdict(agreement)
        print(
            f"live on Kafka against file to file, {agreement.session}: {agreement.in_both} windows in both "
            f"({agreement.live_windows} live, {agreement.simulated_windows} file to file); same top emotion in "
            f"{agreement.same_top}, within 0.02 in {agreement.within}, abstained in one only "
            f"{agreement.abstained_in_one}; largest difference {agreement.largest_difference:.3f}, "
            f"median {agreement.median_difference:.3f}"
        )
    command_line.write_json(args.json, figures)
    return 1 if args.check and below_best_single(result) else 0


def changed_topology(topology: Path, changes: Sequence[str], folder: Path) -> Path:
    """Copy a topology file to a folder with changes `a.b.c=value`, the value as YAML.

    Unknown names and wrong values are not refused here, but when the copy is loaded.

    Raises:
        ConfigurationError: a change has no `=`, or its path leads through something that isn't a map.
    """
    tree = yaml.safe_load(topology.read_text(encoding="utf-8"))
    for change in changes:
        path, equals, value = change.partition("=")
        *parents, key = path.split(".")
        node = tree
        for name in parents:
            node = node.setdefault(name, {}) if isinstance(node, dict) else None
        if not equals or not isinstance(node, dict):
            raise ConfigurationError("--set", [Problem(change, "write it as operators.NAME.params.KEY=VALUE")])
        node[key] = yaml.safe_load(value)
    copy = folder / topology.name
    copy.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return copy


def _progress(update: Callable[[str], None]) -> Callable[[str, float | None], None]:
    return lambda step, fraction: update(step if fraction is None else f"{step} {fraction:.0%}")


async def predict_all(
    logs: Sequence[Path], segments: Mapping[str, Sequence[Segment]], topology: Topology, settings: Settings
) -> tuple[dict[str, list[Prediction]], list[Prediction]]:
    """Predict every segment by each system (the modalities alone, and fused), and by each single fused final."""
    each: list[Prediction] = []
    fuser, spec = fuser_of(topology, settings)
    predictions: dict[str, list[Prediction]] = {name: [] for name in (*evidence_modalities(topology), FUSED)}
    for path, listed in zip(logs, segments.values(), strict=True):
        windows = closed_windows(read_log(path), topology, spec, fuser)
        for name in predictions:
            events = await finals(windows, fuser, None if name == FUSED else name)
            predictions[name] += [predict(segment, events, SIMULATED_START_MS) for segment in listed]
            if name == FUSED:
                each += [p for segment in listed for p in predict_each(segment, events, SIMULATED_START_MS)]
    return predictions, each


if __name__ == "__main__":
    sys.exit(main())
