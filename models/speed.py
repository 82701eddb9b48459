"""Measure a network's median milliseconds beside the same network in torch and onnxruntime, taken in turns.

For the speed of a card: CPU, batch 1, 2 threads. Peers that are not installed are left out, and `absent` names them.
`python -m models.speed [MODEL ...]` times models again and states only the times; run it on an otherwise idle machine.
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
    """Measure the median milliseconds of each of the named calls.

    Every round runs all of them, so that noise of the machine affects all: each once untimed, until the threads of the
    previous one are idle, then three times timed. The first tenth of the rounds doesn't count.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            call()
            for _ in range(_TIMED):
                start = time.perf_counter()
                call()
                taken[name].append((time.perf_counter() - start) * 1e3)
    first = int(rounds * _WARMING) * _TIMED
    return {name: float(np.median(spent[first:])) for name, spent in taken.items()}


def figures(
    taken: Mapping[str, float], *, of: str, must: float | None = None, aim: float | None = None, missed: str = ""
) -> list[Figure]:
    """Turn what `measure` returns into a card's figures: `ms` of OpenVINO, and `times_<peer>`, a peer's time over that.

    The tolerance of `ms` is 100 %, that of a ratio, whose parts are measured in one run, 60 %.

    Args:
        taken: ms by name; `openvino` is ours.
        of: what is timed, for people: `one face of 48 x 48`.
        must: the most ms allowed.
        aim: the most ms aimed at.
        missed: the reason for shipping a model that takes more than `must`; ignored if it doesn't.
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
    """Name the peer that a figure needs and that is not installed; an empty string if there is none."""
    peer = name.removeprefix("times_")
    return peer if peer in PEERS and name != peer and importlib.util.find_spec(peer) is None else ""


def is_time(name: str) -> bool:
    """Whether a figure of that name is measured by `speed()`: `ms`, `ms_...` or `times_...`."""
    return name == "ms" or name.startswith(("ms_", "times_"))


def onnxruntime_call(model: Path, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Call]:
    """Make the call `onnxruntime` that runs an ONNX file on inputs; an empty dict if onnxruntime is not installed."""
    if importlib.util.find_spec("onnxruntime") is None:
        return {}
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return {"onnxruntime": lambda: session.run(None, dict(inputs))}


def torch_call(make: Callable[[], Call]) -> dict[str, Call]:
    """Make the call `torch` of the forward pass that `make` builds; an empty dict if torch is not installed."""
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
    """Time models again and state the times in figures.json and card. Figures of peers not installed here stay."""
    parser = argparse.ArgumentParser(prog="python -m models.speed", description=main.__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="all that state times, if none is named")
    root = Path(__file__).parent
    named = parser.parse_args(arguments).models or sorted(path.parent.name for path in root.glob(f"*/{cards.FIGURES}"))
    for name in named:
        folder, module = root / name, importlib.import_module(f"models.{name}.evaluate")
        if not hasattr(module, "speed"):
            continue
        found = module.speed()
        others = [figure for figure in cards.read(folder) if not is_time(figure.name) or absent(figure.name)]
        cards.write(folder, others + found)
        cards.fill_card(folder)
        print(f"{name} (load {os.getloadavg()[0]:.1f}): " + ", ".join(f"{f.name} {f.value:.2f}" for f in found))


if __name__ == "__main__":
    main()
