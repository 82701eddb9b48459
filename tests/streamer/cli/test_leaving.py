"""Stop means gone: a library's thread or task that goes on for ever can't keep `streamer run`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streamer.brokers.embedded.local_kafka import LocalKafka

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(60, func_only=True)]

ROOT = Path(__file__).parents[3]
KEPT = """
import asyncio, sys, threading, time
from streamer import __main__ as door
from streamer.cli import leaving
from streamer.errors import BrokerUnreachableError
from streamer.runtime.pipeline import Pipeline

leaving.LEAVE_S = 1.0
failing, kept = sys.argv[1:], []

async def never() -> None:
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:  # as a library that swallows it
            pass

async def opened(pipeline: Pipeline) -> None:
    kept.append(asyncio.create_task(never()))
    threading.Thread(target=time.sleep, args=(60,), name="somebody's").start()
    await asyncio.sleep(0)
    if failing:
        raise {"fail": BrokerUnreachableError("gone"), "break": RuntimeError("a bug")}[failing[0]]

async def run(pipeline: Pipeline) -> None:
    await pipeline._closing.wait()

Pipeline.open, Pipeline.run = opened, run
sys.argv = ["streamer", "run", "--only", "sense_text"]
door.program()
"""


def start(kafka: LocalKafka, *arguments: str, code: str = KEPT) -> subprocess.Popen[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("STREAMER_") or k == "STREAMER_CACHE"}
    return subprocess.Popen(  # noqa: S603 - our own code
        [sys.executable, "-c", code, *arguments], cwd=ROOT, text=True, stderr=subprocess.PIPE,
        env={**clean, "STREAMER_BROKERS": kafka.address, "STREAMER_CONTEXT": "research",
             "STREAMER_ACCEPT_LICENCES": "unsettled"},
    )  # fmt: skip


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_is_gone_whatever_was_left_running(kafka: LocalKafka, stop: signal.Signals) -> None:
    process = start(kafka)
    assert process.stderr is not None
    while "ready:" not in process.stderr.readline():
        pass
    process.send_signal(stop)
    begun = time.monotonic()
    _, said = process.communicate(timeout=20)
    assert time.monotonic() - begun < 10
    assert process.returncode == 0
    assert "stopped" in said
    assert "left running: somebody's" in said


@pytest.mark.parametrize("after", ["runs on openvino", "model text_intent"])  # early and late
def test_a_run_that_is_stopped_while_it_starts_leaves_nothing_running(kafka: LocalKafka, after: str) -> None:
    process = start(kafka, code="import sys; sys.argv[1:] = ['run']; from streamer import __main__ as m; m.program()")
    assert process.stderr is not None
    while after not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0
    assert said.splitlines()[-1] == "stopped"
    assert "Traceback" not in said
    assert "ready:" not in said


@pytest.mark.parametrize(("how", "code", "says"), [("fail", 69, "error: gone"), ("break", 70, "error: a bug")])
def test_a_failed_run_says_why_and_is_gone(kafka: LocalKafka, how: str, code: int, says: str) -> None:
    process = start(kafka, how)
    _, said = process.communicate(timeout=30)
    assert process.returncode == code
    assert says in said
