"""Scoring and its guard: the vectorised path against the plain one, caps, goals, pins, and what is never allowed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.emotions import EMOTIONS
from kernels.ranking.affect_guard import LOW_EMOTIONS, guard, guard_reference, is_low
from kernels.ranking.scoring import (
    GOALS,
    NEVER,
    POLICIES,
    Affect,
    Blend,
    Candidate,
    ScoredItem,
    count_ranked,
    goal_match,
    rank,
    rank_reference,
)

unit = st.floats(-1, 1, allow_nan=False)
scores = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, 1.0, 1e308, -1e308])


@st.composite
def lists(draw: st.DrawFn) -> list[Candidate]:
    n = draw(st.integers(0, 12))
    return [
        Candidate(
            item_id=f"item-{i}",
            base=draw(scores),
            valence=(mood := draw(st.none() | unit)),
            arousal=None if mood is None else draw(unit),
            emotion=draw(st.none() | st.sampled_from(EMOTIONS)),
            pinned_rank=draw(st.none() | st.integers(0, 20)),
            sponsored=draw(st.booleans()),
            session=draw(unit),
        )
        for i in range(n)
    ]


@st.composite
def affects(draw: st.DrawFn) -> Affect:
    raw = [draw(st.floats(0.001, 1)) for _ in EMOTIONS]
    emotions = {name: p / sum(raw) for name, p in zip(EMOTIONS, raw, strict=True)}
    return Affect(draw(unit), draw(unit), emotions, draw(st.floats(0, 1)))


@st.composite
def blends(draw: st.DrawFn) -> Blend:
    caps = st.floats(0, 1)
    return Blend(draw(st.sampled_from(list(POLICIES))), draw(st.sampled_from(GOALS)), draw(caps), draw(caps))


def ids(placed: Sequence[ScoredItem]) -> list[str]:
    return [p.item_id for p in placed]


def feeling(valence: float, arousal: float = 0.0, **emotions: float) -> Affect:
    return Affect(valence, arousal, emotions or {"neutral": 1.0}, 1.0)


@given(lists(), st.none() | affects(), blends(), st.sampled_from([None, "item-0", "item-3"]))
def test_the_vectorised_ranking_equals_the_plain_one(
    candidates: list[Candidate], affect: Affect | None, blend: Blend, primary: str | None
) -> None:
    fast = rank(candidates, affect, blend, seed="r", primary=primary)
    plain = rank_reference(candidates, affect, blend, seed="r", primary=primary)
    assert [(p.item_id, p.score, p.base_rank) for p in fast] == [(p.item_id, p.score, p.base_rank) for p in plain]
    assert [p.reasons for p in fast] == [p.reasons for p in plain]


@given(lists(), affects(), blends())
def test_every_item_is_placed_once_and_its_reasons_add_up_to_its_score(
    candidates: list[Candidate], affect: Affect, blend: Blend
) -> None:
    placed = rank(candidates, affect, blend, seed="r")
    assert sorted(ids(placed)) == sorted(c.item_id for c in candidates)
    assert all(abs(sum(p.reasons.values()) - p.score) <= 1e-9 for p in placed)
    assert sorted(p.base_rank for p in placed) == list(range(len(candidates)))


@given(lists(), affects(), blends())
def test_affect_carries_no_item_past_another_whose_base_is_more_than_the_cap_ahead(
    candidates: list[Candidate], affect: Affect, blend: Blend
) -> None:
    free = [dataclasses.replace(c, pinned_rank=None, session=0.0) for c in candidates]
    placed = rank(free, affect, dataclasses.replace(blend, policy="affect"))
    for i, above in enumerate(placed):
        assert 0 <= above.reasons.get("affect", 0.0) <= blend.cap
        assert all(below.reasons["base"] - above.reasons["base"] <= blend.cap + 1e-12 for below in placed[i + 1 :])


@given(lists(), affects(), blends())
def test_the_guard_holds_whatever_the_goal(candidates: list[Candidate], affect: Affect, blend: Blend) -> None:
    by_id = {c.item_id: c for c in candidates}
    share = sum(affect.emotions[e] for e in LOW_EMOTIONS)
    for placed in rank(candidates, affect, blend):
        item = by_id[placed.item_id]
        if placed.reasons.get("affect", 0.0) > 0 and (affect.valence < 0 or share > 0.5):
            assert item.valence is not None
            assert item.valence - affect.valence >= 0.1 - 1e-9
            assert item.emotion not in LOW_EMOTIONS


@given(
    st.lists(st.tuples(unit, st.none() | unit, st.none() | st.sampled_from(EMOTIONS)), max_size=8),
    st.none() | unit,
    affects(),
)
def test_the_vectorised_guard_equals_the_plain_one(
    items: list[tuple[float, float | None, str | None]], valence: float | None, affect: Affect
) -> None:
    fast = guard(
        np.array([i[0] for i in items], dtype=np.float64),
        np.array([np.nan if i[1] is None else i[1] for i in items], dtype=np.float64),
        np.array([i[2] in LOW_EMOTIONS for i in items], dtype=np.bool_),
        valence=valence,
        emotions=affect.emotions,
    )
    columns = [i[0] for i in items], [i[1] for i in items], [i[2] for i in items]
    assert fast.tolist() == guard_reference(*columns, valence=valence, emotions=affect.emotions)


def test_the_guard_is_in_force_below_zero_valence_or_above_half_of_low_emotions() -> None:
    assert is_low(-0.01, {})
    assert not is_low(0.0, {"sadness": 0.5})
    assert is_low(0.4, {"sadness": 0.2, "fear": 0.2, "anger": 0.2})
    assert is_low(None, {"anger": 0.6})


def test_a_negative_contribution_passes_the_guard() -> None:
    out = guard(np.array([-0.2]), np.array([-1.0]), np.array([True]), valence=-0.5, emotions={})
    assert out.tolist() == [-0.2]


def test_a_gloomy_item_gains_nothing_for_a_person_who_is_low_even_under_match() -> None:
    items = [Candidate("sunny", 1.0, 0.8, 0.2), Candidate("gloomy", 0.9, -0.5, -0.2, "sadness")]
    placed = rank(items, feeling(-0.5, -0.2, sadness=0.9, neutral=0.1), Blend(goal="match"))
    assert ids(placed) == ["sunny", "gloomy"]
    assert "affect" not in placed[1].reasons


def test_a_tense_item_gains_for_a_person_who_is_well_and_wants_a_match() -> None:
    items = [Candidate("calm", 1.0, 0.3, -0.8), Candidate("tense", 0.9, 0.1, 0.7, "fear"), Candidate("flat", 0.0)]
    assert ids(rank(items, feeling(0.1, 0.7), Blend(goal="match"))) == ["tense", "calm", "flat"]


def test_lift_prefers_higher_valence_and_moderate_arousal() -> None:
    valence, arousal = np.array([-0.6, -0.4, 0.0, 0.0, np.nan]), np.array([0.1, 0.1, 0.1, 1.0, 0.1])
    match = goal_match("lift", feeling(-0.5), valence, arousal)
    assert match.tolist() == pytest.approx([0.0, 0.1, 0.5, 0.275, 0.0])


def test_calm_prefers_low_arousal_and_never_lower_valence() -> None:
    valence, arousal = np.array([0.3, 0.3, 0.1, 0.25]), np.array([-0.7, 0.3, -0.7, -0.7])
    assert goal_match("calm", feeling(0.2), valence, arousal).tolist() == pytest.approx([1.0, 0.0, 0.0, 0.5])


def test_goal_off_is_the_base_order() -> None:
    items = [Candidate(str(i), float(-i), valence=i / 10, arousal=0.0) for i in range(8)]
    placed = rank(items, feeling(-0.9), Blend(goal="off"))
    assert ids(placed) == [str(i) for i in range(8)]
    assert all(set(p.reasons) == {"base"} for p in placed)


def test_low_confidence_moves_less() -> None:
    items = [Candidate("a", 1.0, 0.0, 0.1), Candidate("b", 0.0, 0.9, 0.1)]
    sure, unsure = (
        rank(items, dataclasses.replace(feeling(-0.5), confidence=c), Blend(goal="lift"))[-1].reasons["affect"]
        for c in (1.0, 0.4)
    )
    assert unsure == pytest.approx(0.4 * sure)


def test_shuffle_depends_on_the_request_alone() -> None:
    items = [Candidate(str(i), float(i)) for i in range(30)]
    blend = Blend(policy="shuffle", goal="lift")
    first = ids(rank(items, None, blend, seed="a"))
    assert first == ids(rank(items[::-1], feeling(0.9), blend, seed="a"))
    assert first != ids(rank(items, None, blend, seed="b"))


def test_noop_is_the_platforms_order() -> None:
    items = [Candidate(str(i), float(i), 0.9, 0.1, session=1.0) for i in range(5)]
    assert ids(rank(items, feeling(-0.9), Blend(policy="noop", goal="lift"))) == ["4", "3", "2", "1", "0"]


def test_a_sponsored_item_gets_neither_affect_nor_session() -> None:
    items = [Candidate("a", 1.0), Candidate("ad", 0.9, 0.9, 0.1, sponsored=True, session=1.0)]
    assert rank(items, feeling(-0.9), Blend(goal="lift"))[1].reasons == {"base": 0.0}


def test_pinned_items_stand_at_their_rank_and_two_for_one_place_stand_next_to_each_other() -> None:
    items = [Candidate(c, float(-i)) for i, c in enumerate("abcdef")]
    pins = {"e": 0, "f": 0, "a": 99}
    pinned = [dataclasses.replace(c, pinned_rank=pins.get(c.item_id)) for c in items]
    assert ids(rank(pinned, None, Blend())) == ["e", "f", "b", "c", "d", "a"]


def test_the_primary_item_may_rise_but_never_falls_below_its_base_rank() -> None:
    items = [Candidate("p", 1.0, -0.5, 0.0), Candidate("q", 0.95, 0.9, 0.1), Candidate("r", 0.0, 0.0, 0.0)]
    assert ids(rank(items, feeling(-0.5), Blend(goal="lift"))) == ["q", "p", "r"]
    assert ids(rank(items, feeling(-0.5), Blend(goal="lift"), primary="p")) == ["p", "q", "r"]
    assert ids(rank(items, feeling(-0.5), Blend(goal="lift"), primary="q")) == ["q", "p", "r"]


def test_equal_scores_keep_the_order_given() -> None:
    assert ids(rank([Candidate(c, 3.0) for c in "zyx"], None, Blend())) == ["z", "y", "x"]


def test_an_empty_list_stays_empty() -> None:
    assert rank([], feeling(-1), Blend(goal="lift")) == []


@pytest.mark.parametrize("blend", [Blend(policy="best"), Blend(goal="sell")])
def test_an_unknown_policy_or_goal_is_named(blend: Blend) -> None:
    with pytest.raises(ValueError, match="is unknown: use one of"):
        rank([], None, blend)


@pytest.mark.parametrize("sentinel", [-1e9, -3.4e38, -1e308, -99_999.0])
@pytest.mark.parametrize("marked", [1, 4, 9])
def test_a_sentinel_is_last_whatever_affect_and_flattens_nothing(sentinel: float, marked: int) -> None:
    scores_ = [0.9, 0.8, 0.7, 0.6, 0.5]
    usual = [Candidate(f"i{n}", base, valence=-0.5, arousal=0.1) for n, base in enumerate(scores_)]
    happy = [Candidate(f"never{n}", sentinel, valence=0.9, arousal=0.3) for n in range(marked)]
    blend = Blend("affect", "lift", 0.5, 0.2)
    alone, beside = (rank(each, feeling(-0.8), blend) for each in (usual, [*usual, *happy]))
    assert [(p.item_id, p.score) for p in beside[: len(usual)]] == [(p.item_id, p.score) for p in alone]
    assert {p.reasons["base"] for p in beside[len(usual) :]} == {NEVER}
    assert all(set(p.reasons) == {"base"} for p in beside[len(usual) :])


USUAL = [[5.0, 1.0, -4.0], [0.9, 0.9 - 1e-9, 0.1], [1e6, 3.0, 2.0, 0.0], [0.0, 0.0, -1.0], [-3.0, -8.0, -2000.0], [7.0]]


@pytest.mark.parametrize("usual", USUAL)
def test_a_low_score_is_no_sentinel(usual: list[float]) -> None:
    assert count_ranked(usual) == len(usual)


def test_sentinels_of_two_kinds_are_both_seen() -> None:
    assert count_ranked([2.0, 1.0, -1e9, -1e9, -3.4e38]) == 2
    assert count_ranked([-1e9, -1e9]) == 2
    assert count_ranked([]) == 0
