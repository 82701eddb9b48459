"""A final of the oracle in, the AffectEvent that `fuse_affect` must write out; what fuses is the kernel itself.

`affect_event(final, {e.offset: e.payload for e in log}, {s.id: s.prior for s in engines.all_specs()})`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kernels import fusion
from kernels.emotions import EMOTIONS
from kernels.intents import INTENTS
from operators.payloads import AffectEvent, ModalityReading, Observation
from streamer.modality import Modality
from tests.streamer.windowing.oracle import Final, takes_back


def affect_event(
    final: Final,
    payloads: Mapping[int, Observation],
    priors: Mapping[str, Mapping[str, float]],
    modalities: Mapping[str, Modality],
    *,
    prior: Mapping[str, float] | None = None,
    abstain_below: float = 0.2,
) -> AffectEvent:
    """A final to the AffectEvent that `fuse_affect` must write, with `emitted_at_ms` 0.

    Args:
        final: from `finals_of`.
        payloads: the log's observations by offset.
        priors: each model's training prior by its id, `{s.id: s.prior for s in engines.all_specs()}`.
        modalities: those that the topology declares, by name.
        prior: the deployment's, uniform for an emotion that it lacks.
        abstain_below: an estimate whose likeliest emotion has less is withheld.
    """
    used = [(payloads[offset], weight, own) for offset, weight, own in final.evidence]
    weighed = sorted(used, key=lambda one: (one[0].end_ms, one[0].start_ms, one[0].modality, one[0].source_id))
    experts: dict[str, fusion.Expert] = {}
    for name, modality in modalities.items():
        if not modality.evidence or modality.reliability is None:
            continue
        readings = [_reading(o, w, priors) for o, w, _ in weighed if o.modality == name and o.emotions]
        expert = fusion.expert(readings, modality.reliability, modality.sharpness)
        if expert is not None:
            experts[name] = expert
    fused = fusion.fuse(experts, {n: (prior or {}).get(n, 1 / len(EMOTIONS)) for n in EMOTIONS})
    states: dict[str, ModalityReading] = {
        m: _state(m, final, used, fused) for m in modalities if m in final.newest_ms
    }
    expressions = {
        name: round(value, 6)
        for o, _, _ in weighed
        if o.mode == "expressions_only"
        for name, value in (o.expressions or {}).items()
    }
    fields: dict[str, Any] = {}
    abstained = fused is None or fused.confidence < abstain_below
    if fused is not None and not abstained:
        fields = {
            **dict(zip(("valence", "arousal", "dominance"), (round(v, 6) for v in fused.vad), strict=True)),
            "emotions": {name: round(p, 6) for name, p in fused.emotions.items()},
            "supported": fused.supported,
            "vad_source": "measured" if fused.vad_measured else "derived",
            "compounds": [(a, b, round(p, 6)) for a, b, p in fusion.compounds(fused.emotions)],
            "confidence": round(fused.confidence, 6),
            "conflict": round(fused.conflict, 6),
            "calibration": "gate@2",
        }
    return AffectEvent(
        session_id=final.session_id,
        event_time_ms=final.window_end_ms,
        event_id=f"{final.session_id}:{final.window_end_ms}",
        window_start_ms=final.window_start_ms,
        window_end_ms=final.window_end_ms,
        closed_at_ms=final.closed_at_ms,
        revision=0,
        final=True,
        abstained=abstained,
        modalities=states,
        models={o.modality: o.model for o, _, _ in weighed if o.model},
        intents=_intents(weighed),
        expressions=expressions or None,
        source_kafka_ms=max([0, *(o.source_kafka_ms for o, _, _ in used)]),
        emitted_at_ms=0,
        **fields,
    )


def _intents(weighed: Sequence[tuple[Observation, float, bool]]) -> dict[str, float] | None:
    """Words on average, the newest of what is done; of the two each as fresh as it is, less what it leaves to none."""
    told = [(o.modality == "behaviour", o.intents, weight) for o, weight, _ in weighed if o.intents and weight > 0]
    words, acts = ([(p, w) for of_acts, p, w in told if of_acts == which] for which in (False, True))
    sides = [(_mean(words), max(w for _, w in words))] if words else []
    sides += acts[-1:]
    sure = [(p, w * (1 - p["none"])) for p, w in sides]
    return _mean(sure if any(w for _, w in sure) else sides) if sides else None


def _mean(told: Sequence[tuple[Mapping[str, float], float]]) -> dict[str, float]:
    total = sum(weight for _, weight in told)
    return {i: round(sum(p.get(i, 0.0) * w for p, w in told) / total, 6) for i in INTENTS}


def _reading(o: Observation, weight: float, priors: Mapping[str, Mapping[str, float]]) -> fusion.WeightedOutput:
    vad = None
    if o.vad_source == "measured" and None not in (o.valence, o.arousal, o.dominance):
        vad = (o.valence or 0.0, o.arousal or 0.0, o.dominance or 0.0)
    return fusion.WeightedOutput(o.emotions or {}, priors.get(o.model, {}), weight, o.confidence, vad)


def _state(
    modality: str, final: Final, used: Sequence[tuple[Observation, float, bool]], fused: fusion.Fused | None
) -> ModalityReading:
    own = [(o, weight, inside) for o, weight, inside in used if o.modality == modality]
    expert = fused.experts.get(modality) if fused else None
    return ModalityReading(
        state="no_consent"
        if own and takes_back(own[-1][0])
        else "present"
        if any(weight > 0 and not o.absent for o, weight, _ in own)
        else "absent"
        if any(inside for _, _, inside in own)
        else "idle",
        weight=round(fused.weights.get(modality, 0.0), 6) if fused else 0.0,
        coverage=round(expert.coverage, 6) if expert else 0.0,
        confidence=round(expert.confidence, 6) if expert else 0.0,
        newest_ms=final.newest_ms[modality],
    )
