"""No library calls home: `replay` and `model import` ask for no connection beyond loopback, whatever they import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WATCHED = """
import os, socket, sys
asked = []

def watch(event, args):
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        if str(args[0]) not in ("127.0.0.1", "localhost", "::1", "None"):
            asked.append((event, str(args[0])))
            raise OSError("no network here")
    if event == "socket.connect" and isinstance(args[1], tuple) and not str(args[1][0]).startswith("127."):
        asked.append((event, str(args[1][0])))
        raise OSError("no network here")
    if event in ("os.fork", "os.forkpty"):
        asked.append((event, ""))

sys.addaudithook(watch)
from streamer.__main__ import main
code = main(sys.argv[1:])
import threading
for thread in threading.enumerate():
    if thread is not threading.main_thread():
        thread.join(3)
print("asked:", asked, "telemetry:", getattr(sys.modules.get("openvino_telemetry"), "__name__", None))
sys.exit(code)
"""


def run(home: Path, *arguments: str) -> tuple[int, str]:
    """A command in a process without `CI`, with a home of its own, that records whom it asks for."""
    clean = {k: v for k, v in os.environ.items() if k not in ("CI", "HOME") and not k.startswith("STREAMER_")}
    settings = {"HOME": str(home), "STREAMER_CONTEXT": "research", "STREAMER_ACCEPT_LICENCES": "unsettled"}
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", WATCHED, *arguments], cwd=ROOT, env=clean | settings, capture_output=True, text=True,
        check=False, timeout=110,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def chat(tmp_path: Path) -> Path:
    folder = tmp_path / "session"
    folder.mkdir()
    (folder / "chat.jsonl").write_text('{"event_time_ms": 100, "text": "I am so happy today"}\n', encoding="utf-8")
    return folder


def test_replay_with_every_model_asks_for_nobody(tmp_path: Path, chat: Path) -> None:
    out = str(tmp_path / "out")
    code, said = run(tmp_path, "replay", str(chat), "--consent", "all", "--speed", "max", "--out", out)
    assert code == 0, said
    assert "asked: [] telemetry: None" in said, said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "session"]  # nothing is left in the home folder


def test_model_import_asks_for_nobody(tmp_path: Path) -> None:
    model = ROOT / "tests" / "tiny_encoders" / "vit"
    asked = ["--name", "mine", "--modality", "face", "--out", str(tmp_path / "models")]
    code, said = run(tmp_path, "model", "import", str(model), *asked)
    assert code == 0, said
    assert "asked: [] telemetry: None" in said, said
    assert [path.name for path in tmp_path.iterdir()] == ["models"]
