"""Entry point of the command line: parses arguments and runs one command of `streamer/cli/commands`."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, NoReturn

from streamer.cli import leaving
from streamer.cli.commands import COMMANDS
from streamer.cli.leaving import EXIT_INTERRUPTED
from streamer.errors import StreamerError

EXIT_USAGE = 64
EXIT_INPUT_OUTPUT = 74
GROUPS = {"model": "bring your own encoder"}

DESCRIPTION = """\
Senses affect as it happens, from Kafka topics, and re-ranks
items because of it. `streamer COMMAND --help` says more.
"""
EXIT_CODES = """\
exit codes:
    0  done
   64  wrong usage of this command
   65  bad input: a record or a media file
   69  a service is unavailable: no broker, no Kafka
   70  this software failed
   74  input or output failed
   77  refused: this use, or a model's licence
   78  bad configuration: topology, settings, topic, model
  130  interrupted (Ctrl-C)

STREAMER_* environment variables hold addresses, credentials
and this deployment's choices: see STREAMER_CONTEXT in the
README, and docs/security.md for TLS, users and rights.
"""


class _Parser(argparse.ArgumentParser):
    """argparse with the exit code of sysexits.h for wrong usage."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"error: {message}\n")


def build_parser(typed: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Build the parser: every command by name, and the arguments of the command in `typed`, the only one imported."""
    parser = _Parser(
        prog="streamer",
        description=DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"affectstream {version('affectstream')}")
    subcommands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    groups: dict[str, Any] = {"": subcommands}
    for name, line in COMMANDS.items():
        group, _, command_name = name.rpartition(" ")
        if group not in groups:
            group_parser = subcommands.add_parser(group, help=GROUPS[group])
            groups[group] = group_parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
        command_parser = groups[group].add_parser(command_name, help=line)
        words = name.split()
        if list(typed[: len(words)]) == words:
            command = importlib.import_module(f"streamer.cli.commands.{'_'.join(words)}")
            command.add_arguments(command_parser)
            command_parser.set_defaults(command=command.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors are printed to stderr as `error: ...`, without a traceback."""
    typed = sys.argv[1:] if arguments is None else list(arguments)
    if not typed:
        parser = build_parser()
        parser.print_help(sys.stderr)
        parser.exit(EXIT_USAGE, "error: say which command\n")
    args = build_parser(typed).parse_args(typed)
    try:
        code: int = args.command(args)
        sys.stdout.flush()
    except StreamerError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except BrokenPipeError:  # the reader of the pipe has ended: no error message
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_INPUT_OUTPUT
    except OSError as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_INPUT_OUTPUT
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return code


def program() -> NoReturn:
    """Run one command as the whole program, which ends in time whatever its libraries have left running."""
    leaving.is_program = True
    sys.exit(main())


if __name__ == "__main__":
    program()
