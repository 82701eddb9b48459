"""Compile ONNX models with OpenVINO for the CPU; each calling thread gets its own infer request."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from numpy.typing import NDArray

NAME = "openvino"


def reasons_against(model: Path) -> Sequence[str]:
    """List why OpenVINO can't run this model here; empty if it can."""
    if importlib.util.find_spec("openvino") is None:
        return ["the package openvino is not installed"]
    return [] if model.exists() else [f"{model.name} is missing"]


def import_openvino() -> ModuleType:
    """Import openvino without its telemetry, which would send an event over the network from a forked process.

    Its own switch is opt-out, in a file of the home folder; a module that can't be imported is one it does without.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: importing it is an ImportError
    import openvino

    return cast(ModuleType, openvino)


def port_name(port: Any) -> str:
    """The name that the ONNX graph gives an input or output; OpenVINO adds those of tensors that it merged with it."""
    own: str = port.node.get_friendly_name().partition("/sink_port_")[0]
    return own if own in port.get_names() else str(port.get_any_name())


def compile(model: Path, threads: int) -> Callable[[Mapping[str, NDArray[Any]]], dict[str, NDArray[Any]]]:  # noqa: A001 - a backend compiles
    """Compile an ONNX file to a thread-safe function from named inputs to named outputs, tuned for latency."""
    ov = import_openvino()
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = ov.Core().compile_model(str(model), "CPU", options)
    names = [port_name(output) for output in compiled.outputs]
    local = threading.local()

    def run(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        request = getattr(local, "request", None)
        if request is None:
            request = local.request = compiled.create_infer_request()
        results = request.infer(dict(inputs), share_inputs=True)
        return {name: results[name].copy() for name in names}

    return run
