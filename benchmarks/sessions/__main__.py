"""`python -m benchmarks.sessions DIR`: labelled sessions in; how well each modality, and all together, tell them out.

Every session is replayed file to file under STREAMER_QUEUE=all; one also runs at the media's pace on a real Kafka. The
benchmark sets STREAMER_CONTEXT=research and accepts unsettled licences for itself: recorded material, nobody is sensed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

import yaml
from rich.console import Console
from rich.progress import track

from benchmarks import machine
from benchmarks.real_path import benchmark_settings
from benchmarks.sessions.live_check import live_agreement
from benchmarks.sessions.observed import closed_windows, evidence_modalities, finals, fuser_of, observe_kept, read_log
from benchmarks.sessions.report import FUSED, below_best_single, judge, table
from benchmarks.sessions.segments import Segment, find_sessions, predict, predict_each, read_segments
from benchmarks.sessions.statistics import Prediction
from streamer.errors import ConfigurationError, Problem, StreamerError
from streamer.recordings.replay import SIMULATED_START_MS
from streamer.settings import Settings
from streamer.topology.reading import load_topology
from streamer.topology.topology import Topology


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 when done, 1 where `--check` finds fault, a StreamerError's exit code otherwise."""
    args = _parser().parse_args(arguments)
    try:
        return asyncio.run(_main(args))
    except StreamerError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sessions", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="holds session folders with labels.json")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures for tools")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="sessions at once, one process each (2)")
    parser.add_argument("--topology", type=Path, default=Path("topology.yaml"), metavar="PATH")
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
    facts = machine.describe()
    for line in machine.lines(facts):
        print(line)
    with ExitStack() as stack:
        if args.changes:
            args.topology = varied(
                args.topology, args.changes, Path(stack.enter_context(tempfile.TemporaryDirectory()))
            )
        topology = load_topology(args.topology)
        kept = args.observations or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="observations-")))
        logs = await asyncio.to_thread(
            _observe_all,
            folders,
            args.topology,
            settings.model_copy(update={"queue": "all", "threads": 1}),
            kept,
            args.jobs,
            console,
        )
        predictions, each = await predict_all(logs, segments, topology, settings)
    result = judge(predictions, segments, each)
    print(table(result))
    figures: dict[str, object] = {"machine": facts, "sessions": len(folders), **asdict(result)}
    if args.live:
        with console.status("one session in real time") as status:
            agreement = await live_agreement(folders[0], args.topology, settings, _teller(status.update))
        figures["live"] = asdict(agreement)
        print(
            f"live on Kafka against file to file, {agreement.session}: {agreement.in_both} windows in both "
            f"({agreement.live_windows} live, {agreement.simulated_windows} file to file); same top emotion in "
            f"{agreement.same_top}, within 0.02 in {agreement.within}, abstained in one only "
            f"{agreement.abstained_in_one}; largest difference {agreement.largest_difference:.3f}, "
            f"median {agreement.median_difference:.3f}"
        )
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    return 1 if args.check and below_best_single(result) else 0


def varied(topology: Path, changes: Sequence[str], folder: Path) -> Path:
    """A topology file and changes `a.b.c=value` (the value as YAML) to a copy in a folder with these made.

    What is not a known name or a fitting value is refused where the copy is read, as in any topology.

    Raises:
        ConfigurationError: a change has no `=`, or leads through something that isn't a map.
    """
    tree = yaml.safe_load(topology.read_text(encoding="utf-8"))
    for change in changes:
        path, equals, value = change.partition("=")
        *through, last = path.split(".")
        place = tree
        for name in through:
            place = place.setdefault(name, {}) if isinstance(place, dict) else None
        if not equals or not isinstance(place, dict):
            raise ConfigurationError("--set", [Problem(change, "write it as operators.NAME.params.KEY=VALUE")])
        place[last] = yaml.safe_load(value)
    copy = folder / topology.name
    copy.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return copy


def _teller(update: Callable[[str], None]) -> Callable[[str, float | None], None]:
    return lambda what, fraction: update(what if fraction is None else f"{what} {fraction:.0%}")


def _observe_all(
    folders: Sequence[Path], topology: Path, settings: Settings, kept: Path, jobs: int, console: Console
) -> list[Path]:
    """Every session's kept log, made where there is none; in the order of the folders."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        pending = {pool.submit(_observe_one, folder, topology, settings, kept): folder for folder in folders}
        done: dict[Path, Path] = {}
        for future in track(as_completed(pending), "replaying", total=len(pending), console=console):
            done[pending[future]] = future.result()
    return [done[folder] for folder in folders]


def _observe_one(folder: Path, topology: Path, settings: Settings, kept: Path) -> Path:
    return observe_kept(folder, load_topology(topology), settings, kept)


async def predict_all(
    logs: Sequence[Path], segments: Mapping[str, Sequence[Segment]], topology: Topology, settings: Settings
) -> tuple[dict[str, list[Prediction]], list[Prediction]]:
    """By system (each modality alone, and fused) one prediction for each segment, in their order; and each final's."""
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
