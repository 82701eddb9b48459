"""The command line: arguments in, an exit code out. What a command does stands in `streamer/commands.py`."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from streamer import commands
from streamer.audit import KINDS
from streamer.errors import StreamerError
from streamer.event_time import Duration

EXIT_USAGE = 64
EXIT_INPUT_OUTPUT = 74
EXIT_INTERRUPTED = 130

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


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = _Parser(
        prog="streamer",
        description=DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    topology = _Parser(add_help=False)
    topology.add_argument(
        "--topology", type=Path, default=default_topology(), metavar="PATH", help="the picture (default: topology.yaml)"
    )
    subcommands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    check = subcommands.add_parser("check", parents=[topology], help="judge the topology: all its problems at once")
    check.set_defaults(command=commands.check)

    graph = subcommands.add_parser("graph", parents=[topology], help="print the topology as a Mermaid picture")
    graph.set_defaults(command=commands.graph)

    schema = subcommands.add_parser("schema", parents=[topology], help="print its topics and payloads as AsyncAPI 3")
    schema.set_defaults(command=commands.schema)
    _add_live_commands(subcommands, topology)
    _add_model(subcommands)
    return parser


def _add_live_commands(subcommands: Any, topology: argparse.ArgumentParser) -> None:
    run = subcommands.add_parser("run", parents=[topology], help="run the operators until Ctrl-C")
    run.add_argument("--only", action="append", default=[], metavar="OP", help="only this operator (repeatable)")
    run.set_defaults(command=_live("run"))

    broker = subcommands.add_parser("broker", parents=[topology], help="run the embedded Kafka by itself")
    broker.add_argument("--port", type=int, default=9092, help="where to listen on loopback; 0 takes a free one")
    broker.add_argument("--data", type=Path, metavar="DIR", help="keep its records here (default: a temporary folder)")
    broker.set_defaults(command=_live("broker"))

    _add_replay(subcommands)
    _add_record(subcommands, topology)
    _add_duties(subcommands, topology)

    tail = subcommands.add_parser("tail", parents=[topology], help="print a topic's records, decoded")
    tail.add_argument("topics", nargs="+", metavar="TOPIC")
    tail.add_argument("--beginning", action="store_true", help="from the oldest record on, not from now")
    tail.add_argument("--json", action="store_true", help="whole payloads as JSON lines")
    tail.add_argument("--limit", type=int, metavar="N", help="end after N records")
    tail.set_defaults(command=_live("tail"))


def _add_replay(subcommands: Any) -> None:
    replay = subcommands.add_parser("replay", help="publish a session folder, a media file or a recording")
    picture = "the picture (default: topology.yaml; a recording is folded with its own)"
    replay.add_argument("--topology", type=Path, metavar="PATH", help=picture)
    what = "media.mkv + chat.jsonl, any media file, or a recording (*.affectlog)"
    replay.add_argument("path", type=Path, metavar="DIR|FILE", help=what)
    replay.add_argument("--speed", choices=["1", "max"], default="1", help="at the recorded pace, or in memory")
    allowed = "what the person allows: all, or of face,voice,text,behaviour"
    replay.add_argument("--consent", metavar="LIST", help=allowed)
    replay.add_argument("--session", metavar="ID", help="the session's id (default: the folder's or file's name)")
    replay.add_argument("--out", type=Path, metavar="DIR", help="with --speed max: a JSON-lines file for each topic")
    only = "of a recording, with --speed max: run this operator (repeatable; default: those with windows)"
    replay.add_argument("--only", action="append", default=[], metavar="OP", help=only)
    finish = "of a recording, with --speed max: close what is open at its end, as if nothing more had come"
    replay.add_argument("--finish", action="store_true", help=finish)
    replay.set_defaults(command=_live("replay"), default_topology=default_topology())


def _add_record(subcommands: Any, topology: argparse.ArgumentParser) -> None:
    record = subcommands.add_parser("record", parents=[topology], help="write topics to a file that replay reads")
    record.add_argument("out", type=Path, metavar="OUT.affectlog", help="a new file")
    record.add_argument("topics", nargs="*", metavar="TOPIC", help="default: all but media and chat")
    since = record.add_mutually_exclusive_group()
    since.add_argument("--since", type=_duration, metavar="10m", help="from so long ago on, not from now")
    since.add_argument("--beginning", action="store_true", help="from the oldest record on")
    until = record.add_mutually_exclusive_group()
    until.add_argument("--until-now", action="store_true", help="what is there now (from the beginning, or --since)")
    until.add_argument("--seconds", type=int, metavar="N", help="end after N seconds, not at Ctrl-C")
    media = "media and chat too, of those who consented to its being read"
    record.add_argument("--with-media", action="store_true", help=media)
    record.set_defaults(command=_live("record", "live_recording"))


def _add_duties(subcommands: Any, topology: argparse.ArgumentParser) -> None:
    audit = subcommands.add_parser("audit", parents=[topology], help="print what was decided, oldest first")
    audit.add_argument("--session", metavar="ID", help="of this session only")
    audit.add_argument("--user", metavar="ID", help="of this person's sessions only")
    audit.add_argument("--kind", choices=KINDS, help="of this kind only")
    audit.add_argument("--json", action="store_true", help="entries as JSON lines")
    audit.set_defaults(command=_live("audit", "live_duties"))

    forget = subcommands.add_parser("forget", parents=[topology], help="erase a person; say what can't be, until when")
    forget.add_argument("who", metavar="USER|SESSION", help="the id of a user (all their sessions) or of one session")
    forget.add_argument("--recordings", type=Path, metavar="DIR", help="erase from the recordings below here, too")
    forget.add_argument("--yes", action="store_true", help="don't ask")
    forget.set_defaults(command=_live("forget", "live_duties"))


def _add_model(subcommands: Any) -> None:
    model = subcommands.add_parser("model", help="bring your own encoder")
    commands_of_model = model.add_subparsers(title="commands", metavar="COMMAND", required=True)
    into = commands_of_model.add_parser("import", help="an ONNX or a Hugging Face folder, for the topology to name")
    into.add_argument("path", type=Path, metavar="PATH", help="a file.onnx, or a folder with config.json and weights")
    into.add_argument("--name", required=True, help="what the topology will call it, such as my_face")
    into.add_argument("--modality", required=True, choices=["face", "voice", "text"], help="what it reads")
    labels = "its classes' emotions, in their order where config.json names none; none leaves a class out"
    into.add_argument("--labels", default="", metavar="LABEL=EMOTION,...", help=labels)
    into.add_argument("--label-map", type=Path, metavar="FILE", help="the same as a JSON map")
    shares = "label shares of its training set, which fusion divides out (default: equal)"
    into.add_argument("--prior", default="", metavar="EMOTION=SHARE,...", help=shares)
    items = "calibrate on these: a folder for each label with face pictures or recordings, or .tsv: text, tab, label"
    into.add_argument("--calibrate", type=Path, metavar="DIR", help=items)
    into.add_argument("--test", type=Path, metavar="DIR", help="judge on these, laid out alike")
    states = ["free", "share_alike", "unsettled", "non_commercial"]
    into.add_argument("--licence", choices=states, default="unsettled", help="its licence state (default: unsettled)")
    into.add_argument("--out", type=Path, metavar="DIR", help="the folder of models (default: STREAMER_MODELS)")
    into.set_defaults(command=_live("import_model", "model_import"))


def _duration(text: str) -> Duration:
    try:
        return Duration.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _live(name: str, module: str = "live") -> Callable[[argparse.Namespace], int]:
    """A command of `streamer/<module>.py`, imported when it is run: `check` needs no Kafka client."""

    def command(args: argparse.Namespace) -> int:
        found: Callable[[argparse.Namespace], int] = getattr(importlib.import_module(f"streamer.{module}"), name)
        return found(args)

    return command


def default_topology() -> Path:
    """`topology.yaml` of the current folder, or else of this checkout."""
    here = Path("topology.yaml")
    return here if here.exists() else Path(__file__).resolve().parent.parent / "topology.yaml"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; errors go to stderr as `error: ...`, without a traceback."""
    args = build_parser().parse_args(arguments)
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
