"""Times are medians taken in turns, and a card says how many times as long the others take."""

from __future__ import annotations

import importlib.util
import time

import numpy as np
import pytest

from kernels.engines import MODELS
from models import speed


def test_every_round_runs_all_calls_in_turn() -> None:
    order: list[str] = []
    speed.measure({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=2)
    assert "".join(order) == "aaaabbbb" * 2


def test_the_slower_call_takes_longer() -> None:
    taken = speed.measure({"quick": lambda: None, "slow": lambda: time.sleep(0.002)}, rounds=10)
    assert taken["slow"] >= 2
    assert taken["quick"] < 1


def test_the_median_is_ours_and_the_others_are_multiples_of_it() -> None:
    ms, beside = speed.figures({"openvino": 2.0, "onnxruntime": 5.0}, of="a face", must=3, aim=1.5, missed="why")
    assert (ms.name, ms.value, ms.verdict, ms.missed) == ("ms", 2.0, "must reached", "")
    assert (beside.name, beside.value) == ("times_onnxruntime", 2.5)
    (late,) = speed.figures({"openvino": 4.0}, of="a face", must=3, missed="why")
    assert (late.verdict, late.missed) == ("missed", "why")


def test_a_peer_that_is_not_installed_is_named_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert speed.absent("times_torch") == "torch"
    assert speed.absent("ms") == speed.absent("torch") == ""
    assert speed.onnxruntime_call(MODELS / "face_affect" / "model.onnx", {}) == {}
    assert speed.torch_call(lambda: lambda: None) == {}


@pytest.mark.train
def test_installed_peers_run() -> None:
    face = {"faces": np.zeros((1, 1, 48, 48), np.float32)}
    calls = speed.onnxruntime_call(MODELS / "face_affect" / "model.onnx", face) | speed.torch_call(lambda: lambda: 1)
    assert set(speed.measure(calls, rounds=2)) == set(speed.PEERS)
