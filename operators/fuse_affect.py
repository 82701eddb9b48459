"""Windows of observations in, one AffectEvent each out: present modalities weighed, conflict told, or abstained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from kernels import engines, fusion, intents
from kernels.emotions import EMOTIONS
from operators.consent import REVOKING
from operators.payloads import (
    AffectEvent,
    ModalityReading,
    ModalityState,
    Observation,
    VadSource,
)
from streamer.errors import ModelError
from streamer.modality import Modality, Share
from streamer.operator import Context, Piece, Window

DECIMALS = 6
FUSER = "gate@2"


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fuser, the deployment's prior over emotions, and when an estimate is withheld.

    How evidence fades and is weighed is declared with each modality. `prior` is uniform where it isn't given. An
    estimate whose likeliest emotion has less than `abstain_below` is withheld.
    """

    fuser: Literal["gate"] = "gate"
    prior: dict[str, Annotated[float, msgspec.Meta(gt=0, le=1)]] = {}
    abstain_below: Share = 0.2

    def __post_init__(self) -> None:
        unknown = sorted(self.prior.keys() - set(EMOTIONS))
        if unknown:
            raise ValueError(f"prior: no emotion {', '.join(unknown)}; there are {', '.join(EMOTIONS)}")


class FuseAffect:
    """Fuses the observations of one window; a pure function of it but for `emitted_at_ms`."""

    def __init__(self, params: Params, context: Context) -> None:
        self._params, self._context = params, context
        self._prior = {n: params.prior.get(n, 1 / len(EMOTIONS)) for n in EMOTIONS}
        self._priors: dict[str, Mapping[str, float]] = {}
        context.runs.models["fuser"] = FUSER

    async def open(self) -> None:
        """Read the models' training priors, which fusion divides out.

        Raises:
            ModelError: a model.json has a field missing or mistyped.
        """
        try:
            specs = engines.all_specs(imported=self._context.settings.models)
        except engines.ModelFolderError as error:
            raise ModelError(str(error)) from error
        self._priors = {spec.id: spec.prior for spec in specs}

    async def close(self) -> None:
        """Nothing is held."""

    def revokes(self, evidence: Observation) -> bool:
        """An `absent` for want of consent takes back what its modality has said before."""
        return evidence.absent and evidence.reason in REVOKING

    async def fuse(self, due: Sequence[Window]) -> Sequence[AffectEvent]:
        """One event for each window."""
        return [self._event(window) for window in due]

    def _event(self, window: Window) -> AffectEvent:
        pieces = {m: [p for p in window.pieces if p.payload.modality == m] for m in self._context.modalities}
        in_time = sorted(window.pieces, key=_moment)  # in whatever order they came, sums and the newest are the same
        experts: dict[str, fusion.Expert] = {}
        for name, modality in self._context.modalities.items():
            if not modality.evidence or modality.reliability is None:  # whatever emotions its observations name
                continue
            readings = [self._reading(p) for p in in_time if p.payload.modality == name and p.payload.emotions]
            found = fusion.expert(readings, modality.reliability, modality.sharpness)
            if found is not None:
                experts[name] = found
        fused = fusion.fuse(experts, self._prior)
        abstained = fused is None or fused.confidence < self._params.abstain_below
        states: dict[str, ModalityReading] = {
            m: self._state(m, window, pieces[m], fused) for m in self._context.modalities if m in window.newest_ms
        }
        event = AffectEvent(
            session_id=window.session_id,
            event_time_ms=window.end_ms,
            event_id=f"{window.session_id}:{window.end_ms}",
            window_start_ms=window.start_ms,
            window_end_ms=window.end_ms,
            closed_at_ms=window.closed_at_ms,
            revision=window.revision,
            final=window.final,
            abstained=abstained,
            modalities=states,
            models={p.payload.modality: p.payload.model for p in in_time if p.payload.model},
            intents=_intents(in_time, self._context.modalities),
            expressions=_expressions(in_time),
            source_kafka_ms=window.source_kafka_ms,
            emitted_at_ms=self._context.clock.now_ms(),
        )
        return event if fused is None or abstained else _with_estimate(event, fused)

    def _reading(self, piece: Piece) -> fusion.WeightedOutput:
        o: Observation = piece.payload
        vad = None
        if o.vad_source == "measured" and o.valence is not None and o.arousal is not None and o.dominance is not None:
            vad = (o.valence, o.arousal, o.dominance)
        if o.model and o.model not in self._priors:
            self._priors[o.model] = {}
            told = "the training prior of %s is not known here, taken as equal: if it was imported, set STREAMER_MODELS"
            self._context.log.warning(told, o.model)
        return fusion.WeightedOutput(o.emotions or {}, self._priors.get(o.model, {}), piece.weight, o.confidence, vad)

    def _state(
        self, modality: str, window: Window, pieces: Sequence[Piece], fused: fusion.Fused | None
    ) -> ModalityReading:
        newest = pieces[-1].payload if pieces else None
        state: ModalityState = "idle"
        if newest is not None and newest.absent and newest.reason in REVOKING:
            state = "no_consent"
        elif any(not p.payload.absent and p.weight > 0 for p in pieces):
            state = "present"
        elif any(p.inside for p in pieces):
            state = "absent"
        found = fused.experts.get(modality) if fused else None
        return ModalityReading(
            state=state,
            weight=round(fused.weights.get(modality, 0.0), DECIMALS) if fused else 0.0,
            coverage=round(found.coverage, DECIMALS) if found else 0.0,
            confidence=round(found.confidence, DECIMALS) if found else 0.0,
            newest_ms=window.newest_ms.get(modality),
        )


def _with_estimate(event: AffectEvent, fused: fusion.Fused) -> AffectEvent:
    valence, arousal, dominance = (round(v, DECIMALS) for v in fused.vad)
    source: VadSource = "measured" if fused.vad_measured else "derived"
    return msgspec.structs.replace(
        event,
        emotions={n: round(p, DECIMALS) for n, p in fused.emotions.items()},
        supported=fused.supported,
        valence=valence,
        arousal=arousal,
        dominance=dominance,
        vad_source=source,
        compounds=[(a, b, round(p, DECIMALS)) for a, b, p in fusion.compounds(fused.emotions)],
        confidence=round(fused.confidence, DECIMALS),
        conflict=round(fused.conflict, DECIMALS),
        calibration=FUSER,
    )


def _moment(piece: Piece) -> tuple[int, int, str, str]:
    """Event time, then what tells observations of one event time apart."""
    o: Observation = piece.payload
    return o.end_ms, o.start_ms, o.modality, o.source_id


def _intents(pieces: Sequence[Piece], modalities: Mapping[str, Modality]) -> dict[str, float] | None:
    """The probabilities of the session's intents, from messages and feedback; None where no observation states any.

    Modalities that are evidence of emotions (messages) are averaged by weight. One that isn't (feedback on items)
    counts all earlier feedback in its newest observation, so that one alone is used. Both kinds are pooled. Intents are
    not withheld where emotions are: `none` is how they abstain.
    """
    stated = [(p.payload.modality, p.payload.intents, p.weight) for p in pieces if p.payload.intents and p.weight > 0]
    averaged = [(p, weight) for name, p, weight in stated if modalities[name].evidence]
    newest = {name: (p, weight) for name, p, weight in stated if not modalities[name].evidence}
    mean = intents.mean(averaged)
    asked = [] if mean is None else [(mean, max(weight for _, weight in averaged))]
    return intents.pool([*asked, *newest.values()])


def _expressions(pieces: Sequence[Piece]) -> dict[str, float] | None:
    """The newest value of each named expression; None where nobody runs in `expressions_only`."""
    newest: dict[str, float] = {}
    for piece in pieces:
        if piece.payload.mode == "expressions_only" and piece.payload.expressions:
            newest.update({k: round(v, DECIMALS) for k, v in piece.payload.expressions.items()})
    return newest or None
