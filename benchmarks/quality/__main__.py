"""`python -m benchmarks.quality --data DIR`: every figure of every model card, found again; exit 0 if all are, else 1.

A figure is reproduced where it is found within its stated tolerance. Retraining one fold needs the extra `train`; where
that is missing, this part and comparisons with torch and onnxruntime are skipped and named. Progress goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import msgspec

from benchmarks import machine
from benchmarks.quality import report as quality_report
from benchmarks.quality.model_folders import Room, examine, find_rooms
from streamer.errors import ConfigurationError, Problem, StreamerError


def main(arguments: Sequence[str] | None = None, package: str = "models") -> int:
    """Run the benchmark on the rooms of a package; 0, or 1 where a card can't be believed, or an error's exit code."""
    args = _parser().parse_args(arguments)
    try:
        return _main(args, package)
    except StreamerError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="holds goemotions/, fer2013/, emodb/ ..."
    )
    parser.add_argument("--only", nargs="+", metavar="MODEL", help="these models, not all")
    parser.add_argument("--without-speed", action="store_true", help="time nothing")
    parser.add_argument("--without-retraining", action="store_true", help="train no fold again")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything for tools")
    return parser


def _main(args: argparse.Namespace, package: str) -> int:
    known = find_rooms(package)
    problems = (
        [] if args.data.is_dir() else [Problem("--data", f"{args.data} is no folder: give the one with the data sets")]
    )
    problems += [
        Problem("--only", f"no model {name}; there are {', '.join(known) or 'none'}")
        for name in args.only or ()
        if name not in known
    ]
    if problems:
        raise ConfigurationError("benchmarks.quality", problems)
    facts = machine.describe()
    for line in machine.lines(facts):
        print(line)
    begun = time.perf_counter()
    rooms = []
    for name in args.only or known:
        room = examine(
            known[name], package, args.data, with_speed=not args.without_speed,
            with_retraining=not args.without_retraining,
            tell=lambda what: _tell(f"{time.perf_counter() - begun:4.0f} s  {what}"),
        )  # fmt: skip
        rooms.append(room)
    weights = quality_report.weights_bytes(known.values())
    print(quality_report.report(rooms, weights))
    if args.json:
        args.json.write_text(json.dumps(_for_tools(rooms, weights, facts), indent=1) + "\n", encoding="utf-8")
    return int(any(room.problems for room in rooms) or weights > quality_report.WEIGHTS_MOST)


def _tell(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _for_tools(rooms: Sequence[Room], weights: int, facts: dict[str, object]) -> dict[str, object]:
    listed = [{**asdict(room), "problems": room.problems} for room in rooms]
    return {"machine": facts, "weights_bytes": weights, "rooms": msgspec.to_builtins(listed)}


if __name__ == "__main__":
    sys.exit(main())
