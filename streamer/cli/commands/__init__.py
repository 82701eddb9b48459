"""One file for each command of `streamer`, named as it is typed, and the list of them all.

A command's file has `add_arguments(parser)` and `run(args) -> exit code`; it is imported when its command is typed. It
may import every room of `streamer`, but a Kafka client or a media library only inside `run`, so that its `--help` is
quick.
"""

COMMANDS = {
    "check": "judge the topology, and with --kafka a Kafka for it",
    "graph": "print the topology as a Mermaid picture",
    "schema": "print its topics and payloads as AsyncAPI 3",
    "run": "run the operators until Ctrl-C",
    "broker": "run the embedded Kafka by itself",
    "replay": "publish a session folder, a media file or a recording",
    "record": "write topics to a file that replay reads",
    "audit": "print what was decided, oldest first",
    "forget": "erase a person; say what can't be, until when",
    "tail": "print a topic's records, decoded",
    "model import": "an ONNX or a Hugging Face folder, for the topology to name",
}
"""In the order of `streamer --help`, each with its line there. One of two words is a command of a group."""
