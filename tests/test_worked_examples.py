"""The rows of "Where do I change ..." in docs/architecture.md that an example shows: each is done here, and works."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import operators
from kernels import backend_openvino, engines
from kernels.engines import Arrays
from operators.payloads import AffectEvent, Observation
from streamer.__main__ import main
from streamer.broker import Outgoing
from streamer.brokers.memory.broker import MemoryBroker
from streamer.cli import commands
from streamer.event_time import ManualClock
from streamer.operator import Context, Piece, Window
from streamer.payloads import WorkerReport, decode, encode, headers_for
from streamer.recordings.replay import settle
from streamer.runtime.pipeline import Pipeline
from streamer.settings import load_settings
from streamer.topology.reading import load_topology
from tests.shipped import MODALITIES
from tests.streamer.runtime.small_world import START, TINY
from tests.tiny_operators.payloads import Word

ROOT = Path(__file__).parents[1]


def observation(end_ms: int, emotions: dict[str, float]) -> Observation:
    return Observation(
        session_id="s", event_time_ms=end_ms, modality="face", source_id="c", start_ms=end_ms, end_ms=end_ms,
        emotions=emotions, confidence=0.8, source_kafka_ms=end_ms,
    )  # fmt: skip


async def test_another_fusion_method_is_one_file_and_its_name_in_the_topology(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operators, "__path__", [*operators.__path__, str(ROOT / "docs" / "examples")])
    importlib.invalidate_caches()
    shipped = (ROOT / "topology.yaml").read_text(encoding="utf-8")
    path = tmp_path / "topology.yaml"
    path.write_text(
        shipped.replace("\n  fuse_affect:\n", "\n  fuse_newest:\n").replace("    params: {fuser: gate}\n", ""),
        encoding="utf-8",
    )
    spec = load_topology(path).operators["fuse_newest"]
    context = Context("fuse_newest", load_settings(), ManualClock(2200), modalities=MODALITIES)
    fuser = spec.found.build(spec.params, context)
    old, new = observation(900, {"happiness": 1.0}), observation(1900, {"sadness": 0.7, "neutral": 0.3})
    pieces = (Piece(new, 1.0, True, 1), Piece(old, 0.5, True, 0))
    window = Window("s", 0, 2000, True, 2150, 0, pieces, {"face": 1900}, frozenset({"face"}), 1900, 1)
    (event,) = await fuser.fuse([window])
    assert isinstance(event, AffectEvent)
    assert event.emotions == {"sadness": 0.7, "neutral": 0.3}


def test_another_backend_is_a_module_in_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    def compiled(model: Path, threads: int) -> Any:
        run = backend_openvino.compile(model, threads)

        def doubled(inputs: Arrays) -> Arrays:
            return {name: 2 * values for name, values in run(inputs).items()}

        return doubled

    doubling = SimpleNamespace(NAME="doubling", reasons_against=lambda model: [], compile=compiled)
    declining = SimpleNamespace(NAME="declining", reasons_against=lambda model: ["it never runs anything"])
    load = getattr(engines.load, "__wrapped__", engines.load)
    plain = load("text_vad")
    inputs = {str(plain.spec.input["reads"]): np.ones((1, 2688), np.float32)}
    monkeypatch.setattr(engines, "BACKENDS", (declining, doubling, backend_openvino))
    other = load("text_vad")
    assert (plain.backend, other.backend) == ("openvino", "doubling")
    assert other.reasons_against == {"declining": ["it never runs anything"]}
    np.testing.assert_allclose(other.infer(inputs)["vad"], 2 * plain.infer(inputs)["vad"], rtol=1e-6)


def test_another_command_is_a_file_and_its_line_in_the_list(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--name", default="world")

    def run(args: argparse.Namespace) -> int:
        sys.stdout.write(f"hello {args.name}\n")
        return 0

    hello = ModuleType("streamer.cli.commands.hello")
    hello.add_arguments, hello.run = add_arguments, run  # type: ignore[attr-defined]  # as a file would have them
    monkeypatch.setitem(sys.modules, hello.__name__, hello)
    monkeypatch.setitem(commands.COMMANDS, "hello", "greet somebody")
    assert main(["hello", "--name", "reader"]) == 0
    assert capsys.readouterr().out == "hello reader\n"
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "greet somebody" in capsys.readouterr().out


async def test_what_an_operator_counts_is_in_the_worker_reports(tmp_path: Path) -> None:
    path = tmp_path / "topology.yaml"
    path.write_text(TINY, encoding="utf-8")
    topology, clock = load_topology(path, package="tests.tiny_operators"), ManualClock(START)
    broker = MemoryBroker(clock)
    pipeline = Pipeline(topology, load_settings(context="research"), broker, clock=clock, only=["stumble"])
    await pipeline.open()
    (runner,) = pipeline.runners
    runner.context.metrics.count("no_speech", 3)
    runner.context.metrics.time("rank", [2.0, 4.0])
    producer = broker.producer()
    await producer.start()
    word = Word(session_id="s", event_time_ms=START, text="hi")
    await producer.send([Outgoing("words", b"s", encode(word), headers_for(word))])
    await settle(pipeline)
    clock.set_ms(START + 3000)
    await runner.step(0)
    reports = [decode(m.value, WorkerReport) for m in broker.messages("worker_reports")]
    assert _total(reports, "no_speech") == 3
    assert _total(reports, "read") == 1
    assert max(r.latency_ms["rank"]["max"] for r in reports if "rank" in r.latency_ms) == 4.0
    await pipeline.stop()


def _total(reports: Sequence[WorkerReport], name: str) -> int:
    counts: Sequence[Mapping[str, int]] = [report.counts for report in reports]
    return sum(count.get(name, 0) for count in counts)
