"""No library calls home: no command asks for a connection beyond loopback, whatever it imports and starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from streamer.brokers.embedded.local_kafka import LocalKafka
from streamer.settings import load_settings

ROOT = Path(__file__).parents[1]
FILM = ROOT / "tests" / "awkward_inputs" / "media" / "mpegts-starts-at-1.4s.ts"
WATCH = """
import os, sys
loopback = ("127.0.0.1", "localhost", "::1", "None")

def note(event, what):
    with open(os.environ["ASKED"], "a") as out:
        out.write(f"{os.getpid()} {event} {what}\\n")

def watch(event, args):
    if event in ("socket.getaddrinfo", "socket.gethostbyname") and str(args[0]) not in loopback:
        note(event, args[0])
        raise OSError("no network here")
    if event == "socket.connect" and isinstance(args[1], tuple) and not str(args[1][0]).startswith(("127.", "::1")):
        note(event, args[1][0])
        raise OSError("no network here")
    if event in ("os.fork", "os.forkpty"):
        note(event, "")

sys.addaudithook(watch)
"""
"""Python runs `sitecustomize` first, in every process that a command starts, too."""


class Watched:
    """Runs commands without `CI`, with a home of their own, and knows whom they asked for."""

    def __init__(self, folder: Path) -> None:
        self.home, self.asked_file = folder / "home", folder / "asked"
        self.home.mkdir()
        (folder / "watch").mkdir()
        (folder / "watch" / "sitecustomize.py").write_text(WATCH)
        clean = {k: v for k, v in os.environ.items() if k not in ("CI", "HOME") and not k.startswith("STREAMER_")}
        self.environment = clean | {
            "HOME": str(self.home), "PYTHONPATH": str(folder / "watch"), "ASKED": str(self.asked_file), "TERM": "dumb",
            "STREAMER_CONTEXT": "research", "STREAMER_ACCEPT_LICENCES": "unsettled",
            "STREAMER_CACHE": str(load_settings().cache.expanduser()),
        }  # fmt: skip

    def run(self, *arguments: str, stop_at: str = "", **settings: str) -> tuple[int, str]:
        """The exit code of `python -m ...` and what it said; it is asked to stop once it says `stop_at`."""
        child = subprocess.Popen(  # noqa: S603 - our own code
            [sys.executable, "-m", *arguments], cwd=ROOT, env=self.environment | settings, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        said = ""
        try:
            assert child.stdout is not None
            for line in child.stdout:
                said += line
                if stop_at and line.startswith(stop_at):
                    child.send_signal(signal.SIGTERM)
            return child.wait(60), said
        finally:
            child.kill()
            child.communicate()

    def asked(self) -> str:
        """Whom they asked for, a line each."""
        return self.asked_file.read_text() if self.asked_file.exists() else ""


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_whoever_asks_is_noticed(watched: Watched) -> None:
    script = watched.home / "asks.py"
    script.write_text("import socket\nsocket.create_connection(('192.0.2.1', 80), 1)\n")
    watched.environment["PYTHONPATH"] += f"{os.pathsep}{watched.home}"
    code, said = watched.run("asks")
    assert (code, "no network here" in said) == (1, True)
    assert "192.0.2.1" in watched.asked()


def test_replay_with_every_model_asks_for_nobody(watched: Watched) -> None:
    out = str(watched.home.parent / "out")
    code, said = watched.run("streamer", "replay", str(FILM.parent.parent / "folder-ts-beside-chat"),
                             "--consent", "all", "--speed", "max", "--out", out)  # fmt: skip
    assert code == 0, said
    assert watched.asked() == ""
    assert list(watched.home.iterdir()) == []


def test_model_import_asks_for_nobody(watched: Watched) -> None:
    model = ROOT / "tests" / "tiny_encoders" / "vit"
    out = str(watched.home.parent / "models")
    asked = ["--name", "mine", "--modality", "face", "--out", out]
    code, said = watched.run("streamer", "model", "import", str(model), *asked)
    assert code == 0, said
    assert watched.asked() == ""
    assert list(watched.home.iterdir()) == []


@pytest.mark.kafka
def test_run_asks_for_nobody(watched: Watched, kafka: LocalKafka) -> None:
    code, said = watched.run("streamer", "run", stop_at="ready:", STREAMER_BROKERS=kafka.address)
    assert (code, "stopped" in said) == (0, True), said
    assert watched.asked() == ""
    assert list(watched.home.iterdir()) == []


@pytest.mark.kafka
def test_the_demo_asks_for_nobody(watched: Watched) -> None:
    code, said = watched.run("demo", "--media", str(FILM))
    assert code == 0, said
    assert watched.asked() == ""
    assert list(watched.home.iterdir()) == []
