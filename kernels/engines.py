"""Read model folders, and load a model by name on the first backend that can run it on this machine.

A model is a folder `models/<name>/` with `model.onnx` and `model.json`; callers name the folder of imported models.
Backends are tried in order: the first whose `reasons_against` is empty is taken. The choice and the reasons against the
others are logged once.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import msgspec
from numpy.typing import NDArray

from kernels import backend_openvino

MODELS = Path(__file__).resolve().parent.parent / "models"
"""The shipped models of a checkout; of an installed package the speech detector alone: others are imported."""

Licence = Literal["free", "share_alike", "unsettled", "non_commercial"]
Arrays = Mapping[str, NDArray[Any]]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class ModelFolderError(ValueError):
    """A model folder is incomplete or altered, or no backend can run it; the message names it and what to do."""


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A model's `model.json`: its labels, and how its logits become probabilities.

    `prior` is the label distribution of the training set (fusion divides it out); `temperature` divides logits. There
    is one logit for each of `labels`, unless `classes` is given. Then there is one for each class, in that order, and
    each class maps to one label, to None (no counterpart), or to p(class | label) for several labels. `input` describes
    how inputs are made: see `kernels/model_input.py`. `loaded_from` is the folder it was read from; no file contains
    it.
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
    loaded_from: str = ""

    @property
    def id(self) -> str:
        """`name@version`, as in observations."""
        return f"{self.name}@{self.version}"

    @property
    def folder(self) -> Path:
        """The model's folder."""
        return Path(self.loaded_from) if self.loaded_from else MODELS / self.name

    @property
    def display_path(self) -> str:
        """The folder as messages print it: `models/<name>` for a shipped model, the path of an imported one."""
        return f"models/{self.name}" if self.folder.parent == MODELS else str(self.folder)


class Engine(Protocol):
    """A compiled model: thread-safe, batched along the first axis."""

    @property
    def spec(self) -> ModelSpec:
        """The model's `model.json`."""
        ...

    @property
    def backend(self) -> str:
        """The name of the backend that runs it."""
        ...

    @property
    def reasons_against(self) -> Mapping[str, Sequence[str]]:
        """By name, why each backend tried before it can't run the model."""
        ...

    def infer(self, inputs: Arrays) -> Arrays:
        """Run the model on named inputs (n, ...) and return its named outputs (n, ...)."""
        ...


class _Compiled:
    def __init__(self, spec: ModelSpec, backend: str, rejected: Mapping[str, Sequence[str]], run: Any) -> None:
        self.spec, self.backend, self.reasons_against, self._run = spec, backend, rejected, run

    def infer(self, inputs: Arrays) -> Arrays:
        """Run the model on named inputs (n, ...) and return its named outputs (n, ...)."""
        outputs: Arrays = self._run(inputs)
        return outputs


BACKENDS: tuple[Any, ...] = (backend_openvino,)
"""Modules with `NAME`, `reasons_against` and `compile`, in the order in which they are tried."""


def read_spec(name: str, models: Path = MODELS, imported: Path | None = None) -> ModelSpec:
    """Read a model's spec from `models` or else from `imported`, and check the hash of its weights.

    Raises:
        ModelFolderError: no such model, or two of that name; a field is missing or mistyped; the weights' hash is not
            the one in the spec.
    """
    roots = [models, *([imported] if imported else [])]
    folders = [root / name for root in roots if (root / name).is_dir()]
    complete = [folder for folder in folders if (folder / "model.json").exists()]
    if len(complete) > 1:
        raise ModelFolderError(f"models/{name} and {complete[1]} have one name: import the second by another")
    folder = [*complete, *folders, models / name][0]
    shown_as = f"models/{name}" if folder.parent == models else str(folder)
    try:
        spec = _decode(folder / "model.json")
        digest = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    except FileNotFoundError as error:
        available = ", ".join(sorted(p.parent.name for root in roots for p in root.glob("*/model.onnx"))) or "none"
        missing = Path(str(error.filename)).name
        hint = "" if imported else " (STREAMER_MODELS names the folder of imported ones)"
        if (folder / "train.py").exists():
            hint += f"; {shown_as}/card.md says how to make it"
        raise ModelFolderError(f"{shown_as}: {missing} is missing; models here: {available}{hint}") from None
    if digest != spec.sha256:
        raise ModelFolderError(f"{shown_as}/model.onnx: its sha256 is not the one in model.json; restore the file")
    if spec.name != name:
        raise ModelFolderError(f"{shown_as}/model.json: its name is {spec.name}: a model is named as its folder")
    return spec


def all_specs(models: Path = MODELS, imported: Path | None = None) -> list[ModelSpec]:
    """Read the specs of all models, imported ones last, without checking the hashes of their weights.

    Raises:
        ModelFolderError: a model.json has a field missing or mistyped.
    """
    roots = [models, *([imported] if imported else [])]
    return [_decode(path) for root in roots for path in sorted(root.glob("*/model.json"))]


def load(name: str, *, threads: int = 2, models: Path = MODELS, imported: Path | None = None) -> Engine:
    """Compile a model on the first backend that can run it.

    Raises:
        ModelFolderError: as `read_spec`, or no backend can run it here; lists each backend's reasons.
    """
    spec = read_spec(name, models, imported)
    path = spec.folder / "model.onnx"
    rejected: dict[str, Sequence[str]] = {}
    for backend in BACKENDS:
        reasons = backend.reasons_against(path)
        if not reasons:
            others = f" (not {_join_reasons(rejected)})" if rejected else ""
            logging.getLogger("kernels").info("model %s runs on %s%s", spec.id, backend.NAME, others)
            return _Compiled(spec, backend.NAME, rejected, backend.compile(path, threads))
        rejected[backend.NAME] = reasons
    raise ModelFolderError(f"models/{name}: no backend runs it here: {_join_reasons(rejected)}")


def _decode(path: Path) -> ModelSpec:
    try:
        spec = msgspec.json.decode(path.read_bytes(), type=ModelSpec)
    except msgspec.MsgspecError as error:
        raise ModelFolderError(f"models/{path.parent.name}/model.json: {error}") from None
    targets = {label for to in spec.classes.values() for label in (to if isinstance(to, dict) else [to])}
    if unknown := sorted(targets - {None, *spec.labels}, key=str):
        problem = f"classes name {', '.join(map(str, unknown))}; its labels are {', '.join(spec.labels)}"
        raise ModelFolderError(f"models/{path.parent.name}/model.json: {problem}")
    return msgspec.structs.replace(spec, loaded_from=str(path.parent))


def _join_reasons(rejected: Mapping[str, Sequence[str]]) -> str:
    return " | ".join(f"{name}: {'; '.join(reasons)}" for name, reasons in rejected.items())


def licence_refusal(spec: ModelSpec, accepted: str) -> str | None:
    """Return why a model's licence state is not among the accepted ones (comma-separated), or None if it may run."""
    states = {s.strip() for s in accepted.split(",")}
    if spec.licence in ("free", "share_alike") or spec.licence in states:
        return None
    way_out = f"set STREAMER_ACCEPT_LICENCES={spec.licence} to use it"
    return f"{spec.id} is {spec.licence} (see {spec.display_path}/card.md): {way_out}"
