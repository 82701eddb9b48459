"""Rank candidates by the platform's score, the person's affect and their feedback, with reasons that sum to the score.

score = base + affect + session, where `base` is the platform's score scaled to [0, 1] within the list, `affect` is in
[0, cap] (so an item passes another only where their bases differ by less than the cap) and `session`, from feedback, is
within +-session_cap. Affect only adds, and the affect guard (kernels/ranking/affect_guard.py) is applied last. The goal
defines which moods match: valence and arousal form the plane of Russell, "A circumplex model of affect", J. Pers. Soc.
Psychol. 39 (1980).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add

import numpy as np
from numpy.typing import NDArray

from kernels.ranking.affect_guard import LOW_EMOTIONS, guard, guard_reference

Floats = NDArray[np.float64]

GOALS: tuple[str, ...] = ("off", "lift", "match", "calm")
SENTINEL_FACTOR = 1000.0
NEVER = -1.0
"""The base of an item that its ranker marks as not to be served."""
POLICIES: Mapping[str, str] = {"affect": "affect@1", "noop": "noop@1", "shuffle": "shuffle@1"}

LIFT_STEP = 1.0
"""lift: a rise in valence of this much matches fully, a smaller one in proportion, none or a fall not at all."""
LIFT_AROUSAL = 0.1
"""lift: the arousal that matches best; 1 away from it halves the match."""
MATCH_REACH = 1.0
"""match: items this far away in the valence-arousal plane, or farther, don't match at all."""
CALM_FULL, CALM_NONE = -0.6, 0.2
"""calm: arousal at or below the first matches fully, at or above the second not at all, linear between."""
CALM_RISE = 0.1
"""calm: valence must be above the person's; the match is full from this much on."""


@dataclass(frozen=True, slots=True)
class Affect:
    """A person's estimated affect: valence and arousal in [-1, 1], emotions (sum to 1), confidence in [0, 1]."""

    valence: float
    arousal: float
    emotions: Mapping[str, float]
    confidence: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """An item to rank: the platform's score (any finite scale), its mood where known, and the platform's rules.

    `pinned_rank` counts from 0. `session` in [-1, 1] is its preference score from the session's feedback.
    """

    item_id: str
    base: float
    valence: float | None = None
    arousal: float | None = None
    emotion: str | None = None
    pinned_rank: int | None = None
    sponsored: bool = False
    session: float = 0.0


@dataclass(frozen=True, slots=True)
class ScoredItem:
    """An item with its score, which is the sum of `reasons`, and its rank in base order, from 0."""

    item_id: str
    score: float
    base_rank: int
    reasons: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Blend:
    """Ranking parameters: policy, goal, and the most that affect and feedback add, as shares of the base range."""

    policy: str = "affect"
    goal: str = "off"
    cap: float = 0.3
    session_cap: float = 0.1


def rank(
    candidates: Sequence[Candidate], affect: Affect | None, blend: Blend, *, seed: str = "", primary: str | None = None
) -> list[ScoredItem]:
    """Rank candidates; returns all of them in their new order.

    Base order is by descending `base`, ties in the order given. Pinned items are at their rank (the next free one if it
    is taken); the others fill the gaps by score, ties in base order. The primary item (the page's subject) can rise but
    never falls below its base rank. Sponsored items get neither affect nor session, nor do those whose base is a
    sentinel (`count_ranked`): their base is -1, below every other item's score.

    Args:
        candidates: without blocked ones, item ids unique.
        affect: None where none is usable.
        blend: policy `affect`, `noop` (base order) or `shuffle` (a random order determined by `seed`).
        seed: the request's id.
        primary: an item id.

    Raises:
        ValueError: an unknown policy or goal.
    """
    _check(blend)
    if not candidates:
        return []
    by_base = sorted(candidates, key=lambda c: -c.base)
    never = np.arange(len(by_base)) >= count_ranked([c.base for c in by_base])
    base = np.full(len(by_base), NEVER)
    base[~never] = min_max_scaled(np.array([c.base for c in by_base], dtype=np.float64)[~never])
    parts: dict[str, Floats]
    if blend.policy == "shuffle":
        parts = {"shuffle": np.array([_draw(seed, c.item_id) for c in by_base])}
    elif blend.policy == "noop":
        parts = {"base": base}
    else:
        free = ~(never | np.array([c.sponsored for c in by_base]))
        session = np.array([c.session for c in by_base], dtype=np.float64)
        parts = {
            "base": base,
            "affect": np.where(free, _affect_part(by_base, affect, blend), 0.0),
            "session": np.where(free, np.clip(session, -1.0, 1.0) * blend.session_cap, 0.0),
        }
    names = list(parts)
    scores = reduce(np.add, parts.values())
    scored = [
        ScoredItem(
            c.item_id, float(scores[i]), i, {n: float(parts[n][i]) for n in names if n == names[0] or parts[n][i]}
        )
        for i, c in enumerate(by_base)
    ]
    return apply_pins(scored, {c.item_id: c.pinned_rank for c in by_base if c.pinned_rank is not None}, primary)


def apply_pins(scored: Sequence[ScoredItem], pins: Mapping[str, int], primary: str | None) -> list[ScoredItem]:
    """Order scored items, given in base order, by score under the pins and the primary item's lowest rank."""
    order = sorted(scored, key=lambda p: -p.score)
    slots: list[ScoredItem | None] = [None] * len(order)
    wanted = sorted(((pins[p.item_id], p.base_rank, p) for p in order if p.item_id in pins), key=lambda w: w[:2])
    for rank_, _, item in wanted:
        rest = [i for i in range(len(slots)) if slots[i] is None]
        slots[next((i for i in rest if i >= rank_), rest[-1])] = item
    movable = [p for p in order if p.item_id not in pins]
    floor = next((p for p in movable if p.item_id == primary), None)
    if floor is not None:
        free = [i for i, slot in enumerate(slots) if slot is None]
        lowest = max((at for at, i in enumerate(free) if i <= floor.base_rank), default=0)
        at = min(movable.index(floor), lowest)
        movable.remove(floor)
        movable.insert(at, floor)
    rest_of = iter(movable)
    return [next(rest_of) if slot is None else slot for slot in slots]


def count_ranked(descending: Sequence[float]) -> int:
    """Count the scores, given in descending order, that are no sentinels.

    Rankers mark what must not be served by a score like -1e9 or -3.4e38: one that lies further below the next higher
    score than `SENTINEL_FACTOR` times the greatest magnitude of all higher ones. Were it part of the range, all others
    would be scaled to 1.
    """
    n = len(descending)
    while n > 1:
        lowest = descending[n - 1]
        above = next((i for i in range(n - 1, 0, -1) if descending[i - 1] > lowest), 0)
        greatest = max((abs(descending[0]), abs(descending[above - 1]))) if above else 0.0
        if greatest == 0.0 or not descending[above - 1] - lowest > SENTINEL_FACTOR * greatest:
            break
        n = above
    return n


def min_max_scaled(base: Floats) -> Floats:
    """Scale scores (n, any finite scale) to [0, 1] within the list; .5 each where all are equal."""
    half = base / 2  # a range beyond float64 would overflow
    low, high = half.min(), half.max()
    if high == low:
        return np.full_like(base, 0.5)
    return np.asarray((half - low) / (high - low), dtype=np.float64)


def goal_match(goal: str, affect: Affect, valence: Floats, arousal: Floats) -> Floats:
    """Compute how well the moods of n items (NaN: unknown, no match) match the goal now, in [0, 1].

    Raises:
        ValueError: an unknown goal.
    """
    if goal == "lift":
        rise = np.clip((valence - affect.valence) / LIFT_STEP, 0.0, 1.0)
        match = rise * np.clip(1.0 - 0.5 * np.abs(arousal - LIFT_AROUSAL), 0.0, 1.0)
    elif goal == "match":
        dv, da = valence - affect.valence, arousal - affect.arousal
        match = np.clip(1.0 - np.sqrt(dv * dv + da * da) / MATCH_REACH, 0.0, 1.0)
    elif goal == "calm":
        quiet = np.clip((CALM_NONE - arousal) / (CALM_NONE - CALM_FULL), 0.0, 1.0)
        match = quiet * np.clip((valence - affect.valence) / CALM_RISE, 0.0, 1.0)
    elif goal == "off":
        match = np.zeros_like(valence)
    else:
        raise ValueError(f"goal {goal!r} is unknown: use one of {', '.join(GOALS)}")
    return np.where(np.isnan(match), 0.0, match)


def rank_reference(
    candidates: Sequence[Candidate], affect: Affect | None, blend: Blend, *, seed: str = "", primary: str | None = None
) -> list[ScoredItem]:
    """Compute the same as `rank` with plain loops: the reference that `rank` is tested against."""
    _check(blend)
    by_base = sorted(candidates, key=lambda c: -c.base)
    ranked = count_ranked([c.base for c in by_base])
    low = min((c.base / 2 for c in by_base[:ranked]), default=0.0)
    high = max((c.base / 2 for c in by_base[:ranked]), default=0.0)
    affect_parts = [_affect_reference(c, affect, blend) for c in by_base]
    if affect is not None:
        moods = [c.valence for c in by_base], [c.emotion for c in by_base]
        affect_parts = guard_reference(affect_parts, *moods, valence=affect.valence, emotions=affect.emotions)
    scored = []
    for i, c in enumerate(by_base):
        base = 0.5 if high == low else (c.base / 2 - low) / (high - low)
        if i >= ranked:
            base = NEVER
        if blend.policy == "shuffle":
            reasons = {"shuffle": _draw(seed, c.item_id)}
        else:
            reasons = {"base": base}
            if blend.policy == "affect" and not c.sponsored and i < ranked:
                session = min(max(c.session, -1.0), 1.0) * blend.session_cap
                reasons |= {name: part for name, part in (("affect", affect_parts[i]), ("session", session)) if part}
        scored.append(ScoredItem(c.item_id, reduce(add, reasons.values()), i, reasons))
    pins = {c.item_id: c.pinned_rank for c in by_base if c.pinned_rank is not None}
    return apply_pins(scored, pins, primary)


def _affect_reference(c: Candidate, affect: Affect | None, blend: Blend) -> float:
    if affect is None or c.valence is None or c.arousal is None:
        return 0.0

    def within(x: float) -> float:
        return min(max(x, 0.0), 1.0)

    rise = c.valence - affect.valence
    distance = math.sqrt(rise * rise + (c.arousal - affect.arousal) * (c.arousal - affect.arousal))
    quiet = within((CALM_NONE - c.arousal) / (CALM_NONE - CALM_FULL))
    by_goal: dict[str, Callable[[], float]] = {
        "off": lambda: 0.0,
        "lift": lambda: within(rise / LIFT_STEP) * within(1.0 - 0.5 * abs((c.arousal or 0.0) - LIFT_AROUSAL)),
        "match": lambda: within(1.0 - distance / MATCH_REACH),
        "calm": lambda: quiet * within(rise / CALM_RISE),
    }
    return blend.cap * within(affect.confidence) * by_goal[blend.goal]()


def _affect_part(candidates: Sequence[Candidate], affect: Affect | None, blend: Blend) -> Floats:
    if affect is None:
        return np.zeros(len(candidates))
    valence = np.array([np.nan if c.valence is None else c.valence for c in candidates], dtype=np.float64)
    arousal = np.array([np.nan if c.arousal is None else c.arousal for c in candidates], dtype=np.float64)
    low = np.array([c.emotion in LOW_EMOTIONS for c in candidates])
    confidence = min(max(affect.confidence, 0.0), 1.0)
    part = blend.cap * confidence * goal_match(blend.goal, affect, valence, arousal)
    return guard(part, valence, low, valence=affect.valence, emotions=affect.emotions)


def _draw(seed: str, item_id: str) -> float:
    """Draw a number in [0, 1) determined by request and item: the same on every machine and on replay."""
    digest = hashlib.blake2b(f"{len(seed)}:{seed}:{item_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _check(blend: Blend) -> None:
    if blend.policy not in POLICIES:
        raise ValueError(f"policy {blend.policy!r} is unknown: use one of {', '.join(POLICIES)}")
    if blend.goal not in GOALS:
        raise ValueError(f"goal {blend.goal!r} is unknown: use one of {', '.join(GOALS)}")
