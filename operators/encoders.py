"""Load models that this deployment may run, and note them for the worker's reports."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from kernels import engines
from streamer.errors import ModelError, RefusedUseError
from streamer.operator import Context

warned_of: set[str] = set()
"""Ids of the models of unsettled licence that this process has warned of, once each."""

Input = TypeVar("Input")


def load_with_input(
    name: str, context: Context, input_of: Callable[[engines.ModelSpec], Input]
) -> tuple[engines.Engine, Input]:
    """Load a model and its input format, which `input_of` (a function of `kernels.model_input`) reads from its spec.

    Raises:
        ModelError: as `load_encoder`, or the model is of another modality than `input_of`.
        RefusedUseError: as `load_encoder`.
    """
    engine = load_encoder(name, context)
    try:
        return engine, input_of(engine.spec)
    except engines.ModelFolderError as error:
        raise ModelError(str(error)) from error


def load_encoder(name: str, context: Context) -> engines.Engine:
    """Load a model and note its version, backend and licence state for the reports. It blocks: call it in a thread.

    A model of unsettled licence is logged as a warning; it runs only in the demo or where that state is accepted.

    Raises:
        ModelError: the model folder is incomplete or altered, or no backend can run it here.
        RefusedUseError: the licence state is not accepted here.
    """
    try:
        engine = engines.load(name, threads=context.settings.threads, imported=context.settings.models)
    except engines.ModelFolderError as error:
        raise ModelError(str(error)) from error
    unsettled = engine.spec.licence == "unsettled"
    refusal = engines.licence_refusal(engine.spec, context.settings.accept_licences)
    if refusal is not None and not (unsettled and context.settings.context == "demo"):
        raise RefusedUseError(refusal)
    if unsettled and engine.spec.id not in warned_of:
        warned_of.add(engine.spec.id)
        context.log.warning("%s is of unsettled licence: see %s/card.md", engine.spec.id, engine.spec.display_path)
    accepted = ""
    if engine.spec.licence not in ("free", "share_alike"):
        accepted = ", accepted for the demo" if refusal else ", accepted by STREAMER_ACCEPT_LICENCES"
    context.runs.licences[engine.spec.name] = f"{engine.spec.licence}{accepted}"
    context.runs.models[engine.spec.name] = engine.spec.version
    context.runs.backends[engine.spec.name] = engine.backend
    context.runs.reasons_against.update({k: list(v) for k, v in engine.reasons_against.items()})
    return engine
