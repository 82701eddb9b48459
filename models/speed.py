"""Calls in, their median milliseconds out, taken in turns: what a network costs beside torch and onnxruntime.

For the speed of a card: CPU, batch 1, 2 threads. Peers that are not installed are left out, and `absent` says so.
`python -m models.speed [MODEL ...]` times models again, and states only that: on a machine that has nothing else to do.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import figures as cards
from models.figures import Figure

OURS, PEERS = "openvino", ("torch", "onnxruntime")
THREADS = 2
_TIMED, _WARMING = 3, 0.1
_SLOWER, _RATIO_MOVES = 1.0, 0.6

Call = Callable[[], object]


def measure(calls: Mapping[str, Call], rounds: int = 60) -> dict[str, float]:
    """Named calls to the median milliseconds of each.

    Every round runs all of them, so that a noisy machine is noisy for all: each once untimed, for the threads of the
    one before it to come to rest, then three times timed. The first tenth of the rounds doesn't count.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            call()
            for _ in range(_TIMED):
                begun = time.perf_counter()
                call()
                taken[name].append((time.perf_counter() - begun) * 1e3)
    first = int(rounds * _WARMING) * _TIMED
    return {name: float(np.median(spent[first:])) for name, spent in taken.items()}


def figures(
    taken: Mapping[str, float], *, of: str, must: float | None = None, aim: float | None = None, missed: str = ""
) -> list[Figure]:
    """What `measure` took to a card's figures: `ms` of OpenVINO and `times_<peer>`, how many times as long that took.

    A later run may take up to twice as long; a ratio, taken in one run, may move by 60 %.

    Args:
        taken: ms by name; `openvino` is ours.
        of: what is timed, for people: `one face of 48 x 48`.
        must: the most ms that will do.
        aim: the most ms that are aimed at.
        missed: why more are shipped; left out where they are not.
    """
    ours = taken[OURS]
    what = f"{of}: median ms on {THREADS} threads of a CPU, batch 1"
    ms = Figure(
        name="ms", what=what, value=ours, tolerance=_SLOWER * ours, must=must, aim=aim, lower_is_better=True,
        missed=missed if must is not None and round(ours, 3) > must else "",
    )  # fmt: skip
    ratios = {peer: taken[peer] / ours for peer in PEERS if peer in taken}
    return [ms] + [
        Figure(name=f"times_{peer}", what=f"{peer} takes so many times as long", value=r, tolerance=_RATIO_MOVES * r)
        for peer, r in ratios.items()
    ]


def absent(name: str) -> str:
    """A figure's name to the peer that it needs and this machine lacks; empty where it needs none, or has it."""
    peer = name.removeprefix("times_")
    return peer if peer in PEERS and name != peer and importlib.util.find_spec(peer) is None else ""


def is_time(name: str) -> bool:
    """Whether a figure of that name is what `speed()` finds: `ms`, `ms_...` or `times_...`."""
    return name == "ms" or name.startswith(("ms_", "times_"))


def onnxruntime_call(model: Path, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Call]:
    """An ONNX file and its inputs to its call under the name `onnxruntime`; to nothing where that is not installed."""
    if importlib.util.find_spec("onnxruntime") is None:
        return {}
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return {"onnxruntime": lambda: session.run(None, dict(inputs))}


def torch_call(make: Callable[[], Call]) -> dict[str, Call]:
    """What builds a network's forward pass (it may import torch) to its call as `torch`; to nothing without torch."""
    if importlib.util.find_spec("torch") is None:
        return {}
    import torch

    torch.set_num_threads(THREADS)
    forward = make()

    def call() -> object:
        with torch.inference_mode():
            return forward()

    return {"torch": call}


def main(arguments: Sequence[str] | None = None) -> None:
    """Time models again; figures.json and card state what was found. What this machine can't find stays as it is."""
    parser = argparse.ArgumentParser(prog="python -m models.speed", description=main.__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="all that state times, if none is named")
    root = Path(__file__).parent
    named = parser.parse_args(arguments).models or sorted(path.parent.name for path in root.glob(f"*/{cards.FIGURES}"))
    for name in named:
        folder, room = root / name, importlib.import_module(f"models.{name}.evaluate")
        if not hasattr(room, "speed"):
            continue
        found = room.speed()
        kept = [figure for figure in cards.read(folder) if not is_time(figure.name) or absent(figure.name)]
        cards.write(folder, kept + found)
        cards.fill_card(folder)
        print(f"{name} (load {os.getloadavg()[0]:.1f}): " + ", ".join(f"{f.name} {f.value:.2f}" for f in found))


if __name__ == "__main__":
    main()
