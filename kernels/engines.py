"""Model name in, a warm engine on the best backend of this machine out, or every backend's reasons why not.

A model is a folder `models/<name>/` with `model.onnx` and `model.json`; imported ones lie where callers say. Backends
are asked in order; the first whose `reasons_against` is empty is taken, and the choice and every refusal are logged
once.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from kernels import backend_openvino

MODELS = Path(__file__).resolve().parent.parent / "models"

Licence = Literal["free", "share_alike", "unsettled", "non_commercial"]
Arrays = Mapping[str, NDArray[Any]]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class ModelFolderError(ValueError):
    """A model folder is incomplete or altered, or no backend takes it; says which and what to do."""


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A model's `model.json`: what it predicts and what its numbers need to become probabilities.

    `prior` is the label distribution of the training set (fusion divides it out); `temperature` divides logits. The
    logits are those of `labels`, unless `classes` is there: then it names what they are of, in their order, and the
    label that each counts towards (None: it has no counterpart), or with which probability it is said of what shows
    each label. `input` says how inputs are made: see `kernels/model_input.py`. `where` is the folder it was read from
    and stands in no file.
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
    classes: Mapping[str, str | dict[str, Share] | None] = {}
    where: str = ""

    @property
    def id(self) -> str:
        """`name@version`, as observations carry it."""
        return f"{self.name}@{self.version}"

    @property
    def folder(self) -> Path:
        """Where the model lives."""
        return Path(self.where) if self.where else MODELS / self.name

    @property
    def place(self) -> str:
        """That folder for people: `models/<name>` of a shipped one, an imported one's path."""
        return f"models/{self.name}" if self.folder.parent == MODELS else str(self.folder)


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


def read_spec(name: str, models: Path = MODELS, imported: Path | None = None) -> ModelSpec:
    """A model's name to its spec, from `models` or else from `imported`; the weights' hash is checked.

    Raises:
        ModelFolderError: no such model, or two; a field is missing or mistyped, or the weights are not those that the
            spec names.
    """
    places = [models, *([imported] if imported else [])]
    rooms = [place / name for place in places if (place / name).is_dir()]
    holding = [room for room in rooms if (room / "model.json").exists()]
    if len(holding) > 1:
        raise ModelFolderError(f"models/{name} and {holding[1]} have one name: import the second by another")
    folder = [*holding, *rooms, models / name][0]
    told = f"models/{name}" if folder.parent == models else str(folder)
    try:
        spec = _decode(folder / "model.json")
        digest = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    except FileNotFoundError as error:
        known = ", ".join(sorted(p.parent.name for place in places for p in place.glob("*/model.onnx"))) or "none"
        missing = Path(str(error.filename)).name
        beside = "" if imported else " (STREAMER_MODELS names the folder of imported ones)"
        if (folder / "train.py").exists():
            beside += f"; {told}/card.md says how to make it"
        raise ModelFolderError(f"{told}: {missing} is missing; models here: {known}{beside}") from None
    if digest != spec.sha256:
        raise ModelFolderError(f"{told}/model.onnx: its sha256 is not the one in model.json; restore the file")
    if spec.name != name:
        raise ModelFolderError(f"{told}/model.json: its name is {spec.name}: a model is named as its folder")
    return spec


def all_specs(models: Path = MODELS, imported: Path | None = None) -> list[ModelSpec]:
    """The specs of every model here, imported ones last; the hashes of their weights are not checked.

    Raises:
        ModelFolderError: a model.json has a field missing or mistyped.
    """
    places = [models, *([imported] if imported else [])]
    return [_decode(path) for place in places for path in sorted(place.glob("*/model.json"))]


def load(name: str, *, threads: int = 2, models: Path = MODELS, imported: Path | None = None) -> Engine:
    """A model's name to a warm engine.

    Raises:
        ModelFolderError: the folder is wrong, or no backend runs it here; lists each backend's reasons.
    """
    spec = read_spec(name, models, imported)
    path = spec.folder / "model.onnx"
    against: dict[str, Sequence[str]] = {}
    for backend in BACKENDS:
        reasons = backend.reasons_against(path)
        if not reasons:
            told = f" (not {_listed(against)})" if against else ""
            logging.getLogger("kernels").info("model %s runs on %s%s", spec.id, backend.NAME, told)
            return _Compiled(spec, backend.NAME, against, backend.compile(path, threads))
        against[backend.NAME] = reasons
    raise ModelFolderError(f"models/{name}: no backend runs it here: {_listed(against)}")


def _decode(path: Path) -> ModelSpec:
    try:
        spec = msgspec.json.decode(path.read_bytes(), type=ModelSpec)
    except msgspec.MsgspecError as error:
        raise ModelFolderError(f"models/{path.parent.name}/model.json: {error}") from None
    named = {label for to in spec.classes.values() for label in (to if isinstance(to, dict) else [to])}
    if unknown := sorted(named - {None, *spec.labels}, key=str):
        told = f"classes name {', '.join(map(str, unknown))}; its labels are {', '.join(spec.labels)}"
        raise ModelFolderError(f"models/{path.parent.name}/model.json: {told}")
    return msgspec.structs.replace(spec, where=str(path.parent))


def _listed(against: Mapping[str, Sequence[str]]) -> str:
    return " | ".join(f"{name}: {'; '.join(reasons)}" for name, reasons in against.items())


def accepts(spec: ModelSpec, accepted: str) -> str | None:
    """A model and the accepted licence states (comma-separated) to None, or to why its licence stops it."""
    states = {s.strip() for s in accepted.split(",")}
    if spec.licence in ("free", "share_alike") or spec.licence in states:
        return None
    way_out = f"set STREAMER_ACCEPT_LICENCES={spec.licence} to use it"
    return f"{spec.id} is {spec.licence} (see {spec.place}/card.md): {way_out}"


def as_float32(values: NDArray[Any]) -> NDArray[np.float32]:
    """Any numeric array to contiguous float32."""
    return np.ascontiguousarray(values, dtype=np.float32)
