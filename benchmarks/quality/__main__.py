"""`python -m benchmarks.quality --data DIR`: every figure of every model card, found again; exit 0 if all are, else 1.

A figure is reproduced where it is found within its stated tolerance. Retraining one fold needs the extra `train`; where
that is missing, this part and comparisons with torch and onnxruntime are skipped and named. Progress goes to stderr.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import msgspec

from benchmarks import command_line
from benchmarks.quality import report as quality_report
from benchmarks.quality.model_folders import FolderResult, examine, find_model_folders
from streamer.errors import ConfigurationError, Problem


def main(arguments: Sequence[str] | None = None, package: str = "models") -> int:
    """Check the model folders of a package.

    Returns:
        0; 1 where a figure is not reproduced or a folder breaks a rule; the exit code of a StreamerError.
    """
    args = _parser().parse_args(arguments)
    return command_line.exit_code(lambda: _main(args, package))


def _parser() -> argparse.ArgumentParser:
    parser = command_line.argument_parser("quality", __doc__)
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="holds goemotions/, fer2013/, emodb/ ..."
    )
    parser.add_argument("--only", nargs="+", metavar="MODEL", help="these models, not all")
    parser.add_argument("--without-speed", action="store_true", help="time nothing")
    parser.add_argument("--without-retraining", action="store_true", help="train no fold again")
    command_line.add_json(parser, "everything")
    return parser


def _main(args: argparse.Namespace, package: str) -> int:
    folders = find_model_folders(package)
    problems = (
        [] if args.data.is_dir() else [Problem("--data", f"{args.data} is no folder: give the one with the data sets")]
    )
    problems += [
        Problem("--only", f"no model {name}; there are {', '.join(folders) or 'none'}")
        for name in args.only or ()
        if name not in folders
    ]
    if problems:
        raise ConfigurationError("benchmarks.quality", problems)
    facts = command_line.print_machine()
    start_s = time.perf_counter()
    results = [
        examine(
            folders[name], package, args.data, with_speed=not args.without_speed,
            with_retraining=not args.without_retraining,
            on_progress=lambda step: command_line.log(f"{time.perf_counter() - start_s:4.0f} s  {step}"),
        )
        for name in args.only or folders
    ]  # fmt: skip
    weights = quality_report.weights_bytes(folders.values())
    print(quality_report.report(results, weights))
    command_line.write_json(args.json, _for_tools(results, weights, facts), end="\n")
    return int(any(result.problems for result in results) or weights > quality_report.WEIGHTS_MAX)


def _for_tools(results: Sequence[FolderResult], weights: int, facts: dict[str, object]) -> dict[str, object]:
    listed = [{**asdict(result), "problems": result.problems} for result in results]
    return {"machine": facts, "weights_bytes": weights, "rooms": msgspec.to_builtins(listed)}


if __name__ == "__main__":
    sys.exit(main())
