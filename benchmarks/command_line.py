"""What the commands of the benchmarks share: arguments, facts about the machine, progress, JSON files, exit codes."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import machine
from streamer.errors import StreamerError


def argument_parser(name: str, description: str | None, *, keep_line_breaks: bool = False) -> argparse.ArgumentParser:
    """Make the parser of `python -m benchmarks.NAME`; `--help` wraps the description unless its breaks are kept."""
    wrapping = argparse.RawDescriptionHelpFormatter if keep_line_breaks else argparse.HelpFormatter
    return argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}", description=description, formatter_class=wrapping
    )


def add_topology(parser: argparse.ArgumentParser) -> None:
    """Add `--topology PATH`, by default `topology.yaml` in the current folder."""
    parser.add_argument("--topology", type=Path, default=Path("topology.yaml"), metavar="PATH")


def add_json(parser: argparse.ArgumentParser, content: str = "the figures") -> None:
    """Add `--json FILE`; `content` names for `--help` what is written there."""
    parser.add_argument("--json", type=Path, metavar="FILE", help=f"write {content} for tools")


def exit_code(command: Callable[[], int], *, prefix: str = "") -> int:
    """Run a command and return its exit code; a StreamerError is printed to stderr after `prefix` and gives its own."""
    try:
        return command()
    except StreamerError as error:
        sys.stderr.write(f"{prefix}{error}\n")
        return error.exit_code


def print_machine() -> dict[str, object]:
    """Print the machine, the versions and the models (benchmarks/machine.py), and return them for the JSON file."""
    facts = machine.describe()
    for line in machine.lines(facts):
        print(line)
    return facts


def log(line: str) -> None:
    """Write a line of progress to stderr; stdout is for figures."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def write_json(path: Path | None, figures: dict[str, object], *, end: str = "") -> None:
    """Write figures where `--json` asks for it, and `end` after them."""
    if path:
        path.write_text(json.dumps(figures, indent=1) + end, encoding="utf-8")
