"""Intents from behaviour follow their written rules; probabilities fold to the wire and average as they say."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.intents import INTENTS, NONE, Act, Behaviour, from_behaviour, mean, named, to_wire

KINDS = ("impression", "click", "dwell", "like", "dislike", "skip", "complete", "rating")
ACTS = st.builds(
    Act, st.sampled_from(KINDS), st.integers(-5_000, 200_000), st.none() | st.floats(0, 600, allow_nan=False)
)
SHARES = st.dictionaries(st.sampled_from(INTENTS), st.floats(0, 1), max_size=10)


def test_the_ten_intents_are_those_of_the_wire_contract_in_its_order() -> None:
    assert INTENTS == (
        "continue", "change", "more_like_this", "less_like_this", "find_specific", "save_or_share", "calm_down",
        "ask_help", "leave", "none",
    )  # fmt: skip


def test_nothing_done_says_none() -> None:
    assert from_behaviour([]) == {intent: float(intent == NONE) for intent in INTENTS}


@given(st.lists(ACTS, max_size=8))
def test_rules_give_a_distribution_over_the_ten(acts: list[Act]) -> None:
    p = from_behaviour(acts)
    assert tuple(p) == INTENTS
    assert sum(p.values()) == pytest.approx(1.0)
    assert min(p.values()) >= 0


def test_skips_say_change_and_three_of_them_say_it_louder_than_none() -> None:
    one, three = from_behaviour([Act("skip", 0)]), from_behaviour([Act("skip", at) for at in (0, 2_000, 4_000)])
    assert named(one, 0.0) == NONE
    assert named(three, 0.0) == "change"
    assert three["less_like_this"] == pytest.approx(three["change"] / 2)


def test_likes_say_more_and_dislikes_less() -> None:
    assert named(from_behaviour([Act("like", 0)] * 3), 0.0) == "more_like_this"
    assert named(from_behaviour([Act("dislike", 0)] * 3), 0.0) == "less_like_this"


def test_one_fresh_skip_is_a_third_of_what_is_said() -> None:
    p = from_behaviour([Act("skip", 0)])
    assert (p["change"], p["less_like_this"], p[NONE]) == pytest.approx((1 / 3.5, 0.5 / 3.5, 2 / 3.5))


def test_an_act_counts_half_after_its_half_life_and_nothing_out_of_reach_or_from_the_future() -> None:
    rules = Behaviour()
    fresh, old = (from_behaviour([Act("like", age)], rules) for age in (0, rules.half_life_ms))
    odds = [p["more_like_this"] / p[NONE] for p in (fresh, old)]
    assert odds[1] == pytest.approx(odds[0] / 2)
    for age in (rules.reach_ms + 1, -1):
        assert from_behaviour([Act("like", age)], rules)[NONE] == 1.0


@pytest.mark.parametrize(("seconds", "intent"), [(2.9, "change"), (3.0, None), (29.9, None), (30.0, "continue")])
def test_a_short_dwell_is_a_glance_and_a_long_one_a_stay(seconds: float, intent: str | None) -> None:
    p = from_behaviour([Act("dwell", 0, seconds)])
    assert [i for i in INTENTS if i != NONE and p[i] > 0] == ([intent] if intent else [])


def test_half_a_completion_says_nothing() -> None:
    assert from_behaviour([Act("complete", 0, 0.5)])[NONE] == 1.0
    assert from_behaviour([Act("complete", 0)]) == from_behaviour([Act("complete", 0, 1.0)])


def test_what_comes_with_any_intent_says_nothing() -> None:
    acts = [Act("impression", 0), Act("click", 0), Act("rating", 0, 5.0), Act("dwell", 0)]
    assert from_behaviour(acts)[NONE] == 1.0


def test_the_order_of_acts_changes_nothing() -> None:
    acts = [Act("skip", 7), Act("like", 1_234), Act("dwell", 99, 1.0), Act("complete", 5_000)]
    found = {tuple(from_behaviour(order).values()) for order in itertools.permutations(acts)}
    assert len(found) == 1


def test_the_wire_map_names_all_ten_in_order_and_rounds() -> None:
    p = np.full(10, 0.1) + 1e-9
    assert to_wire(p) == dict.fromkeys(INTENTS, 0.1)
    with pytest.raises(ValueError, match="zip"):
        to_wire(p[:9])


@given(st.lists(st.tuples(SHARES, st.just(0.0) | st.floats(1e-6, 2)), max_size=5))
def test_a_mean_lies_between_its_readings(readings: list[tuple[dict[str, float], float]]) -> None:
    found = mean(readings)
    heavy = [p for p, weight in readings if weight > 0]
    if not heavy:
        assert found is None
        return
    assert found is not None
    for intent in INTENTS:
        values = [p.get(intent, 0.0) for p in heavy]
        assert min(values) - 1e-6 <= found[intent] <= max(values) + 1e-6


def test_a_heavier_reading_counts_for_more() -> None:
    found = mean([({"leave": 1.0}, 3.0), ({NONE: 1.0}, 1.0)])
    assert found == dict.fromkeys(INTENTS, 0.0) | {"leave": 0.75, NONE: 0.25}


def test_an_intent_below_the_threshold_is_named_none() -> None:
    assert named({"leave": 0.4, NONE: 0.3}, 0.5) == NONE
    assert named({"leave": 0.6, NONE: 0.3}, 0.5) == "leave"
    assert named({"leave": 0.4, NONE: 0.6}, 0.0) == NONE
