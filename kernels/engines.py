"""Model name in, a warm engine on the best backend of this machine out, or every backend's reasons why not.

A model is a folder `models/<name>/` with `model.onnx` and `model.json`. Backends are asked in order; the first whose
`reasons_against` is empty is taken, and the choice and every refusal are logged once.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from kernels import backend_openvino

MODELS = Path(__file__).resolve().parent.parent / "models"

Licence = Literal["free", "share_alike", "unsettled", "non_commercial"]
Arrays = Mapping[str, NDArray[Any]]


class ModelFolderError(ValueError):
    """A model folder is incomplete or altered, or no backend takes it; says which and what to do."""


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A model's `model.json`: what it predicts and what its numbers need to become probabilities.

    `prior` is the label distribution of the training set (fusion divides it out); `temperature` divides logits.
    """

    name: str
    version: str
    modality: str
    labels: list[str]
    prior: dict[str, float] = {}
    temperature: float = 1.0
    licence: Licence
    input: dict[str, Any] = {}
    outputs: dict[str, str] = {}
    embedding_width: int = 0
    sha256: str

    @property
    def id(self) -> str:
        """`name@version`, as observations carry it."""
        return f"{self.name}@{self.version}"

    @property
    def folder(self) -> Path:
        """Where the model lives."""
        return MODELS / self.name


class Engine(Protocol):
    """A compiled model: thread-safe, warm, batched along the first axis."""

    @property
    def spec(self) -> ModelSpec:
        """What the model predicts."""
        ...

    @property
    def backend(self) -> str:
        """The backend that runs it."""
        ...

    @property
    def reasons_against(self) -> Mapping[str, Sequence[str]]:
        """Why not the backends that come before it, by name."""
        ...

    def infer(self, inputs: Arrays) -> Arrays:
        """Named inputs (n, ...) to named outputs (n, ...)."""
        ...


class Backend(Protocol):
    """A module that can compile models."""

    NAME: str

    def reasons_against(self, model: Path) -> Sequence[str]:
        """Why this machine can't run the model with this backend; empty where it can."""
        ...

    def compile(self, model: Path, threads: int) -> Any:
        """A function from named inputs to named outputs."""
        ...


class _Compiled:
    def __init__(self, spec: ModelSpec, backend: str, against: Mapping[str, Sequence[str]], run: Any) -> None:
        self.spec, self.backend, self.reasons_against, self._run = spec, backend, against, run

    def infer(self, inputs: Arrays) -> Arrays:
        """Named inputs (n, ...) to named outputs (n, ...)."""
        outputs: Arrays = self._run(inputs)
        return outputs


BACKENDS: tuple[Any, ...] = (backend_openvino,)


def read_spec(name: str, models: Path = MODELS) -> ModelSpec:
    """A model's name to its spec; the weights' hash is checked.

    Raises:
        ModelFolderError: no such model, a field is missing or mistyped, or the weights are not the ones the spec names.
    """
    folder = models / name
    try:
        spec = msgspec.json.decode((folder / "model.json").read_bytes(), type=ModelSpec)
        digest = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    except FileNotFoundError as error:
        known = ", ".join(sorted(p.parent.name for p in models.glob("*/model.onnx"))) or "none"
        missing = Path(str(error.filename)).name
        raise ModelFolderError(f"models/{name}: {missing} is missing; models here: {known}") from None
    except msgspec.MsgspecError as error:
        raise ModelFolderError(f"models/{name}/model.json: {error}") from None
    if digest != spec.sha256:
        raise ModelFolderError(f"models/{name}/model.onnx: its sha256 is not the one in model.json; restore the file")
    return spec


def all_specs(models: Path = MODELS) -> list[ModelSpec]:
    """The specs of every model here that has weights; their hashes are not checked."""
    return [msgspec.json.decode(p.read_bytes(), type=ModelSpec) for p in sorted(models.glob("*/model.json"))]


def load(name: str, *, threads: int = 2, models: Path = MODELS) -> Engine:
    """A model's name to a warm engine.

    Raises:
        ModelFolderError: the folder is wrong, or no backend runs it here; lists each backend's reasons.
    """
    spec, path = read_spec(name, models), models / name / "model.onnx"
    against: dict[str, Sequence[str]] = {}
    for backend in BACKENDS:
        reasons = backend.reasons_against(path)
        if not reasons:
            told = f" (not {_listed(against)})" if against else ""
            logging.getLogger("kernels").info("model %s runs on %s%s", spec.id, backend.NAME, told)
            return _Compiled(spec, backend.NAME, against, backend.compile(path, threads))
        against[backend.NAME] = reasons
    raise ModelFolderError(f"models/{name}: no backend runs it here: {_listed(against)}")


def _listed(against: Mapping[str, Sequence[str]]) -> str:
    return " | ".join(f"{name}: {'; '.join(reasons)}" for name, reasons in against.items())


def accepts(spec: ModelSpec, accepted: str) -> str | None:
    """A model and the accepted licence states (comma-separated) to None, or to why its licence stops it."""
    states = {s.strip() for s in accepted.split(",")}
    if spec.licence in ("free", "share_alike") or spec.licence in states:
        return None
    way_out = f"set STREAMER_ACCEPT_LICENCES={spec.licence} to use it"
    return f"{spec.id} is {spec.licence} (see models/{spec.name}/LICENSE): {way_out}"


def as_float32(values: NDArray[Any]) -> NDArray[np.float32]:
    """Any numeric array to contiguous float32."""
    return np.ascontiguousarray(values, dtype=np.float32)
