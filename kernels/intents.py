"""Probabilities of the ten session intents in, the wire's map out; a session's interactions in, intents by rule out.

The ten of the wire contract, in this order everywhere. `from_behaviour` reads no text and no affect: what a person
does with the items in front of them, by rules that are written out below.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

INTENTS: tuple[str, ...] = (
    "continue", "change", "more_like_this", "less_like_this", "find_specific", "save_or_share", "calm_down",
    "ask_help", "leave", "none",
)  # fmt: skip
NONE = INTENTS[-1]
DECIMALS = 6
"""Places of a probability on the wire."""


class Act(NamedTuple):
    """One interaction as the rules read it: kind and value as on the wire, `age_ms` before the moment asked about.

    `value` of a dwell is in seconds, of a completion the share that was played (0..1, 1 where not given).
    """

    kind: str
    age_ms: int
    value: float | None = None


class Behaviour(NamedTuple):
    """What the rules count: acts older than `reach_ms` say nothing, others fade by `half_life_ms`.

    A dwell shorter than `glance_s` is a glance, one of `stay_s` or more a stay; `doubt` is the weight that `none`
    holds against all evidence: so many fresh acts of one mind are needed to be as likely as not.
    """

    reach_ms: int = 120_000
    half_life_ms: int = 30_000
    glance_s: float = 3.0
    stay_s: float = 30.0
    complete_from: float = 0.9
    doubt: float = 2.0


BEHAVIOUR = Behaviour()
BEHAVIOUR_RULES = "behaviour_rules@1"
"""The rules' name and version, as a model's; `_SAYS` and `from_behaviour` are what it versions."""

_SAYS: Mapping[str, Mapping[str, float]] = {
    "skip": {"change": 1.0, "less_like_this": 0.5},
    "glance": {"change": 0.5},
    "stay": {"continue": 0.5},
    "complete": {"continue": 0.5, "more_like_this": 0.5},
    "like": {"more_like_this": 1.0},
    "dislike": {"less_like_this": 1.0, "change": 0.5},
}
"""What one fresh act adds to each intent. Impressions, clicks and ratings say nothing: they come with any intent."""


def counts(act: Act, rules: Behaviour = BEHAVIOUR) -> bool:
    """Whether an act says anything of what its person wants, at whatever age."""
    return _read(act, rules) in _SAYS


def from_behaviour(acts: Sequence[Act], rules: Behaviour | None = None) -> dict[str, float]:
    """A session's recent interactions in, the probability of each of the ten intents out (sums to 1).

    Each act adds `_SAYS` of its kind, times 2^(-age / half-life), to its intents; `none` weighs `doubt`; the weights
    are scaled to sum to 1. No act that counts gives `none` 1. Acts with a negative age (the future) are left out. Hand
    set, not fitted: no recorded session with known intents was at hand. The order of `acts` changes nothing.
    """
    rules = rules or BEHAVIOUR
    said: dict[str, list[float]] = {intent: [] for intent in INTENTS}
    said[NONE].append(rules.doubt)
    for act in acts:
        if 0 <= act.age_ms <= rules.reach_ms:
            fresh = 2.0 ** (-act.age_ms / rules.half_life_ms)
            for intent, says in _SAYS.get(_read(act, rules), {}).items():
                said[intent].append(says * fresh)
    weights = {intent: math.fsum(parts) for intent, parts in said.items()}
    total = math.fsum(weights.values())
    return {intent: weight / total for intent, weight in weights.items()}


def _read(act: Act, rules: Behaviour) -> str:
    """An act in, the row of `_SAYS` it stands for out; a dwell between glance and stay stands for none."""
    if act.kind == "dwell" and act.value is not None:
        if act.value < rules.glance_s:
            return "glance"
        return "stay" if act.value >= rules.stay_s else ""
    if act.kind == "complete":
        return "complete" if act.value is None or act.value >= rules.complete_from else ""
    return act.kind


def to_wire(p: Iterable[float]) -> dict[str, float]:
    """Probabilities (10, in the order of `INTENTS`) in, the `intents` map of an observation out: rounded to 1e-6."""
    return {intent: round(float(share), DECIMALS) for intent, share in zip(INTENTS, p, strict=True)}


def mean(readings: Sequence[tuple[Mapping[str, float], float]]) -> dict[str, float] | None:
    """Maps of intents, each with its weight, in; their weighted mean, rounded to 1e-6, out; None where nothing weighs.

    An intent that a map doesn't name counts as 0 in it. Sums run in the order given.
    """
    heavy = [(p, weight) for p, weight in readings if weight > 0]
    total = sum(weight for _, weight in heavy)
    if not total:
        return None
    return {i: round(sum(p.get(i, 0.0) * weight for p, weight in heavy) / total, DECIMALS) for i in INTENTS}


def pool(readings: Sequence[tuple[Mapping[str, float], float]]) -> dict[str, float] | None:
    """Maps of intents of different sources, each with its freshness, in; one map out; None where nothing weighs.

    A linear opinion pool (Stone 1961): each weighs its freshness times what it does not leave to `none`, since saying
    `none` is abstaining, no vote against what another has seen. A single map comes out as it is; where all abstain
    fully, it is their mean. Rounded to 1e-6; sums run in the order given.
    """
    fresh = [(p, weight) for p, weight in readings if weight > 0]
    return mean([(p, weight * (1.0 - p.get(NONE, 0.0))) for p, weight in fresh]) or mean(fresh)


def named(p: Mapping[str, float], least: float) -> str:
    """A map of intents in, the likeliest out; `none` where no other reaches `least` or `none` itself is likeliest."""
    best = max(INTENTS, key=lambda intent: p.get(intent, 0.0))
    return best if best == NONE or p.get(best, 0.0) >= least else NONE
