"""`streamer run` on a Kafka of its own, `replay` and `tail` beside it: started, used and stopped as a person would."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psutil
import pytest

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {"STREAMER_CONTEXT": "research", "STREAMER_ACCEPT_LICENCES": "unsettled", "PYTHONUNBUFFERED": "1"}


def _start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("STREAMER_") or k == "STREAMER_CACHE"}
    return subprocess.Popen(  # noqa: S603 - our own command line
        [sys.executable, "-m", "streamer", *arguments],
        cwd=ROOT, env={**clean, **ENVIRONMENT, **environment}, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def _until(stream: IO[str] | None, word: str) -> str:
    assert stream is not None
    seen = ""
    while word not in seen:
        line = stream.readline()
        assert line, seen
        seen += line
    return seen


@pytest.fixture
def running() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`streamer run --only sense_text --only fuse_affect` with its own Kafka, ready; and that Kafka's address."""
    process = _start("run", "--only", "sense_text", "--only", "fuse_affect")
    printed = _until(process.stderr, "ready:")
    address = re.search(r"Kafka is at (\S+)", printed)
    assert address is not None
    yield process, address[1]
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    process.wait()


def test_a_chat_becomes_events_that_tail_shows_and_ctrl_c_leaves_no_process(
    running: tuple[subprocess.Popen[str], str], tmp_path: Path
) -> None:
    process, address = running
    family = psutil.Process(process.pid).children(recursive=True)
    assert any("java" in child.name() for child in family)
    (tmp_path / "chat.jsonl").write_text('{"event_time_ms": 100, "text": "I am so happy, this is wonderful!"}\n')

    replayed = _start("replay", str(tmp_path), "--consent", "all", "--session", "live", STREAMER_BROKERS=address)
    _, printed = replayed.communicate(timeout=30)
    assert replayed.returncode == 0, printed
    assert "1 chat_messages" in printed
    tailed = _start("tail", "affect_events", "--beginning", "--limit", "2", STREAMER_BROKERS=address)
    lines, printed = tailed.communicate(timeout=30)
    assert tailed.returncode == 0, printed
    assert len(lines.splitlines()) == 2
    assert all(" live " in line and "happiness:" in line for line in lines.splitlines())

    begun = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does at Ctrl-C: the whole foreground group
    _, printed = process.communicate(timeout=20)
    assert process.returncode == 0, printed
    assert "stopping: finishing what is in hand" in printed
    assert printed.rstrip().endswith("stopped")
    assert time.monotonic() - begun < 10
    _, alive = psutil.wait_procs(family, timeout=5)
    assert alive == []


def test_ctrl_c_in_the_middle_of_a_replay_says_what_was_published(
    running: tuple[subprocess.Popen[str], str], tmp_path: Path
) -> None:
    _, address = running
    lines = ['{"event_time_ms": 100, "text": "hello"}', '{"event_time_ms": 90000, "text": "much later"}']
    (tmp_path / "chat.jsonl").write_text("\n".join(lines))
    replay = _start("replay", str(tmp_path), "--consent", "text", "--session", "cut", STREAMER_BROKERS=address)
    tailed = _start("tail", "chat_messages", "--beginning", "--limit", "1", STREAMER_BROKERS=address)
    tailed.communicate(timeout=30)  # the first line is there
    os.killpg(replay.pid, signal.SIGINT)
    _, printed = replay.communicate(timeout=20)
    assert replay.returncode == 130, printed
    assert "stopped in the middle" in printed
    assert "published of cut: 1 chat_messages, 1 consents" in printed
