"""One file for each command of `streamer`, named as it is typed; `NAMES` is their order in `streamer --help`.

A command's file has `HELP` (its line in that list), `add_arguments(parser)` and `run(args) -> exit code`. It may import
every room of `streamer`, a Kafka client or a media library only inside `run`, since `--help` imports all of them.
"""

NAMES = (
    "check", "graph", "schema", "run", "broker", "replay", "record", "audit", "forget", "tail", "model import",
)  # fmt: skip
