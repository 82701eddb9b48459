"""A model's name in, an engine that this deployment may run out; what runs where is told in the worker's reports."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from kernels import engines
from streamer.errors import ModelError, RefusedUseError
from streamer.operator import Context

warned_of: set[str] = set()
"""The models of unsettled licence that this process has warned of: once each."""


Framing = TypeVar("Framing")


def load_framed(
    name: str, context: Context, frame: Callable[[engines.ModelSpec], Framing]
) -> tuple[engines.Engine, Framing]:
    """`load_encoder`, and how its inputs are made by `frame` of `kernels.model_input`.

    Raises:
        ModelError: as `load_encoder`, or it reads something else than this operator senses.
    """
    engine = load_encoder(name, context)
    try:
        return engine, frame(engine.spec)
    except engines.ModelFolderError as error:
        raise ModelError(str(error)) from error


def load_encoder(name: str, context: Context) -> engines.Engine:
    """Load a model and note it for the reports; blocks, so call it in a thread.

    A model of unsettled licence is warned about, and only the demo runs it without its being accepted.

    Raises:
        ModelError: its folder is incomplete or altered, or nothing on this machine runs it.
        RefusedUseError: its licence state is not accepted here.
    """
    try:
        engine = engines.load(name, threads=context.settings.threads, imported=context.settings.models)
    except engines.ModelFolderError as error:
        raise ModelError(str(error)) from error
    unsettled = engine.spec.licence == "unsettled"
    refusal = engines.accepts(engine.spec, context.settings.accept_licences)
    if refusal is not None and not (unsettled and context.settings.context == "demo"):
        raise RefusedUseError(refusal)
    if unsettled and engine.spec.id not in warned_of:
        warned_of.add(engine.spec.id)
        context.log.warning("%s is of unsettled licence: see %s/card.md", engine.spec.id, engine.spec.place)
    accepted = ""
    if engine.spec.licence not in ("free", "share_alike"):
        accepted = ", accepted for the demo" if refusal else ", accepted by STREAMER_ACCEPT_LICENCES"
    context.runs.licences[engine.spec.name] = f"{engine.spec.licence}{accepted}"
    context.runs.models[engine.spec.name] = engine.spec.version
    context.runs.backends[engine.spec.name] = engine.backend
    context.runs.reasons_against.update({k: list(v) for k, v in engine.reasons_against.items()})
    return engine
