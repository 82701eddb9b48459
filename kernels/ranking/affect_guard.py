"""The affect guard: never promote low-mood items to a person whose mood is low; applied after every policy and model.

The rule: if valence < 0, or sadness + fear + anger > .5, an item whose valence is not at least .1 higher than the
person's, or whose dominant emotion is one of these three, gets no positive contribution from affect.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

LOW_EMOTIONS: tuple[str, ...] = ("sadness", "fear", "anger")
LOW_SHARE = 0.5
RISE = 0.1
"""How much higher an item's valence must be than the person's; `SLACK` allows for rounding."""
SLACK = 1e-9


def is_low(valence: float | None, emotions: Mapping[str, float]) -> bool:
    """Tell from a person's valence in [-1, 1] (None: unknown) and emotions (sum to 1) whether the guard is in force."""
    share = sum(emotions.get(name, 0.0) for name in LOW_EMOTIONS)
    return share > LOW_SHARE or (valence is not None and valence < 0)


def guard(
    contributions: NDArray[np.float64],
    item_valence: NDArray[np.float64],
    item_low: NDArray[np.bool_],
    *,
    valence: float | None,
    emotions: Mapping[str, float],
) -> NDArray[np.float64]:
    """Set the contributions that the rule forbids to 0; negative ones are left.

    Args:
        contributions: n, what a policy or model adds to each item's score for affect.
        item_valence: n in [-1, 1], NaN where an item's mood is unknown (then it doesn't count as higher).
        item_low: n, whether an item's dominant emotion is one of `LOW_EMOTIONS`.
        valence: the person's, None where unknown (then no item counts as higher).
        emotions: the person's.
    """
    if not is_low(valence, emotions):
        return contributions
    now = np.nan if valence is None else valence
    allowed = (item_valence - now >= RISE - SLACK) & ~item_low  # a comparison with NaN is false
    return np.where((contributions > 0) & ~allowed, 0.0, contributions)


def guard_reference(
    contributions: list[float],
    item_valence: list[float | None],
    item_emotion: list[str | None],
    *,
    valence: float | None,
    emotions: Mapping[str, float],
) -> list[float]:
    """Compute the same as `guard` item by item: the reference that `guard` is tested against."""
    guarded = []
    for contribution, rises_to, emotion in zip(contributions, item_valence, item_emotion, strict=True):
        higher = rises_to is not None and valence is not None and rises_to - valence >= RISE - SLACK
        forbidden = is_low(valence, emotions) and (not higher or emotion in LOW_EMOTIONS)
        guarded.append(0.0 if forbidden and contribution > 0 else contribution)
    return guarded
