"""The command line: arguments in, an exit code out. Each command is a file of `streamer/cli/commands`."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from streamer.cli.commands import COMMANDS
from streamer.cli.terminal import EXIT_INTERRUPTED
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
   77  refused: this use of affect sensing, or a model's licence
   78  bad configuration: topology, settings, a topic's shape, a model
  130  interrupted (Ctrl-C)

STREAMER_* environment variables hold addresses, credentials and
this deployment's choices: see STREAMER_CONTEXT in the README.
"""


class _Parser(argparse.ArgumentParser):
    """argparse with the exit code of sysexits.h for wrong usage."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"error: {message}\n")


def build_parser(typed: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The command line: every command by name, and the arguments of the one that was typed."""
    parser = _Parser(
        prog="streamer",
        description=DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subcommands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    groups: dict[str, Any] = {"": subcommands}
    for name, line in COMMANDS.items():
        group, _, last = name.rpartition(" ")
        if group not in groups:
            above = subcommands.add_parser(group, help=GROUPS[group])
            groups[group] = above.add_subparsers(title="commands", metavar="COMMAND", required=True)
        own = groups[group].add_parser(last, help=line)
        words = name.split()
        if list(typed[: len(words)]) == words:
            command = importlib.import_module(f"streamer.cli.commands.{'_'.join(words)}")
            command.add_arguments(own)
            own.set_defaults(command=command.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; errors go to stderr as `error: ...`, without a traceback."""
    typed = sys.argv[1:] if arguments is None else list(arguments)
    args = build_parser(typed).parse_args(typed)
    try:
        code: int = args.command(args)
        sys.stdout.flush()
    except StreamerError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except BrokenPipeError:  # the reader of a pipe has gone: not worth a word
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_INPUT_OUTPUT
    except OSError as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_INPUT_OUTPUT
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return code


if __name__ == "__main__":
    sys.exit(main())
