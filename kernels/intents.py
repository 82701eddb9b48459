"""The ten session intents: their probabilities from a person's feedback by rule, their averages and their wire format.

The ten are those of the wire contract, in this order everywhere. `from_feedback` uses no text and no affect, only what
a person does with the items, by the rules below.
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
"""Decimals of a probability on the wire."""


class Feedback(NamedTuple):
    """One interaction with an item: `kind` and `value` as on the wire, and how long ago it was.

    `value` of a dwell is in seconds; of a completion it is the share that was played (0..1, 1 where not given).
    """

    kind: str
    age_ms: int
    value: float | None = None


class FeedbackRules(NamedTuple):
    """Parameters of the rules: feedback older than `reach_ms` is ignored, newer decays by `half_life_ms`.

    A dwell shorter than `glance_s` is a glance, one of `stay_s` or more a stay. A completion counts from a share of
    `complete_from` on. `doubt` is the weight of `none`: so many fresh interactions of weight 1 make their intent as
    likely as `none`.
    """

    reach_ms: int = 120_000
    half_life_ms: int = 30_000
    glance_s: float = 3.0
    stay_s: float = 30.0
    complete_from: float = 0.9
    doubt: float = 2.0


DEFAULT_RULES = FeedbackRules()
FEEDBACK_RULES_ID = "behaviour_rules@1"
"""The rules' name and version, in place of a model's; a change of `_WEIGHTS` or `from_feedback` needs a new version."""

_WEIGHTS: Mapping[str, Mapping[str, float]] = {
    "skip": {"change": 1.0, "less_like_this": 0.5},
    "glance": {"change": 0.5},
    "stay": {"continue": 0.5},
    "complete": {"continue": 0.5, "more_like_this": 0.5},
    "like": {"more_like_this": 1.0},
    "dislike": {"less_like_this": 1.0, "change": 0.5},
}
"""What one fresh interaction adds to each intent. Impressions, clicks and ratings add nothing: any intent has them."""


def is_informative(feedback: Feedback, rules: FeedbackRules = DEFAULT_RULES) -> bool:
    """Tell whether an interaction adds to any intent while it is fresh."""
    return _row_of(feedback, rules) in _WEIGHTS


def from_feedback(feedback: Sequence[Feedback], rules: FeedbackRules = DEFAULT_RULES) -> dict[str, float]:
    """Estimate the probability of each of the ten intents (sums to 1) from a session's recent interactions.

    Each interaction adds the `_WEIGHTS` of its kind, times 2^(-age / half-life), to its intents; `none` has the weight
    `doubt`; weights are scaled to sum to 1. Without any interaction that counts, `none` has probability 1. A negative
    age (the future) is left out. The order of `feedback` changes nothing. Weights are set by hand, not fitted: there
    was no recorded session with known intents.
    """
    parts: dict[str, list[float]] = {intent: [] for intent in INTENTS}
    parts[NONE].append(rules.doubt)
    for one in feedback:
        if 0 <= one.age_ms <= rules.reach_ms:
            fresh = 2.0 ** (-one.age_ms / rules.half_life_ms)
            for intent, weight in _WEIGHTS.get(_row_of(one, rules), {}).items():
                parts[intent].append(weight * fresh)
    weights = {intent: math.fsum(added) for intent, added in parts.items()}
    total = math.fsum(weights.values())
    return {intent: weight / total for intent, weight in weights.items()}


def _row_of(feedback: Feedback, rules: FeedbackRules) -> str:
    """Return the row of `_WEIGHTS` for an interaction; a dwell between glance and stay has none."""
    if feedback.kind == "dwell" and feedback.value is not None:
        if feedback.value < rules.glance_s:
            return "glance"
        return "stay" if feedback.value >= rules.stay_s else ""
    if feedback.kind == "complete":
        return "complete" if feedback.value is None or feedback.value >= rules.complete_from else ""
    return feedback.kind


def to_wire(p: Iterable[float]) -> dict[str, float]:
    """Convert probabilities (10, in the order of `INTENTS`) to an observation's `intents` map, rounded to 1e-6."""
    return {intent: round(float(share), DECIMALS) for intent, share in zip(INTENTS, p, strict=True)}


def mean(weighted: Sequence[tuple[Mapping[str, float], float]]) -> dict[str, float] | None:
    """Average maps of intents by their weights, rounded to 1e-6; None where no weight is positive.

    An intent that is missing from a map counts as 0. Sums run in the order given.
    """
    positive = [(p, weight) for p, weight in weighted if weight > 0]
    total = sum(weight for _, weight in positive)
    if not total:
        return None
    return {i: round(sum(p.get(i, 0.0) * weight for p, weight in positive) / total, DECIMALS) for i in INTENTS}


def pool(weighted: Sequence[tuple[Mapping[str, float], float]]) -> dict[str, float] | None:
    """Pool maps of intents of different sources, each with its freshness; None where none is fresh.

    This is a linear opinion pool (Stone 1961). Each map weighs its freshness times 1 - p(none): `none` is an
    abstention, not a vote against the other sources. A single map is returned unchanged; where all abstain fully, the
    result is their mean. Rounded to 1e-6; sums run in the order given.
    """
    fresh = [(p, weight) for p, weight in weighted if weight > 0]
    return mean([(p, weight * (1.0 - p.get(NONE, 0.0))) for p, weight in fresh]) or mean(fresh)


def likeliest(p: Mapping[str, float], least: float) -> str:
    """Return the likeliest intent; `none` where no other reaches `least` or `none` itself is likeliest."""
    best = max(INTENTS, key=lambda intent: p.get(intent, 0.0))
    return best if best == NONE or p.get(best, 0.0) >= least else NONE
