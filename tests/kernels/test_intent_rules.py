"""Intents from feedback follow their rules; probabilities are rounded, averaged and pooled as documented."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.intents import INTENTS, NONE, Feedback, FeedbackRules, from_feedback, likeliest, mean, to_wire

KINDS = ("impression", "click", "dwell", "like", "dislike", "skip", "complete", "rating")
FEEDBACK = st.builds(
    Feedback, st.sampled_from(KINDS), st.integers(-5_000, 200_000), st.none() | st.floats(0, 600, allow_nan=False)
)
SHARES = st.dictionaries(st.sampled_from(INTENTS), st.floats(0, 1), max_size=10)


def test_the_ten_intents_are_those_of_the_wire_contract_in_its_order() -> None:
    assert INTENTS == (
        "continue", "change", "more_like_this", "less_like_this", "find_specific", "save_or_share", "calm_down",
        "ask_help", "leave", "none",
    )  # fmt: skip


def test_without_feedback_the_intent_is_none() -> None:
    assert from_feedback([]) == {intent: float(intent == NONE) for intent in INTENTS}


@given(st.lists(FEEDBACK, max_size=8))
def test_rules_give_a_distribution_over_the_ten(feedback: list[Feedback]) -> None:
    p = from_feedback(feedback)
    assert tuple(p) == INTENTS
    assert sum(p.values()) == pytest.approx(1.0)
    assert min(p.values()) >= 0


def test_skips_mean_change_and_three_of_them_outweigh_none() -> None:
    one, three = from_feedback([Feedback("skip", 0)]), from_feedback([Feedback("skip", at) for at in (0, 2_000, 4_000)])
    assert likeliest(one, 0.0) == NONE
    assert likeliest(three, 0.0) == "change"
    assert three["less_like_this"] == pytest.approx(three["change"] / 2)


def test_likes_mean_more_and_dislikes_less() -> None:
    assert likeliest(from_feedback([Feedback("like", 0)] * 3), 0.0) == "more_like_this"
    assert likeliest(from_feedback([Feedback("dislike", 0)] * 3), 0.0) == "less_like_this"


def test_one_fresh_skip_weighs_against_the_doubt() -> None:
    p = from_feedback([Feedback("skip", 0)])
    assert (p["change"], p["less_like_this"], p[NONE]) == pytest.approx((1 / 3.5, 0.5 / 3.5, 2 / 3.5))


def test_feedback_counts_half_after_its_half_life_and_nothing_out_of_reach_or_from_the_future() -> None:
    rules = FeedbackRules()
    fresh, old = (from_feedback([Feedback("like", age)], rules) for age in (0, rules.half_life_ms))
    odds = [p["more_like_this"] / p[NONE] for p in (fresh, old)]
    assert odds[1] == pytest.approx(odds[0] / 2)
    for age in (rules.reach_ms + 1, -1):
        assert from_feedback([Feedback("like", age)], rules)[NONE] == 1.0


@pytest.mark.parametrize(("seconds", "intent"), [(2.9, "change"), (3.0, None), (29.9, None), (30.0, "continue")])
def test_a_short_dwell_is_a_glance_and_a_long_one_a_stay(seconds: float, intent: str | None) -> None:
    p = from_feedback([Feedback("dwell", 0, seconds)])
    assert [i for i in INTENTS if i != NONE and p[i] > 0] == ([intent] if intent else [])


def test_half_a_completion_is_ignored() -> None:
    assert from_feedback([Feedback("complete", 0, 0.5)])[NONE] == 1.0
    assert from_feedback([Feedback("complete", 0)]) == from_feedback([Feedback("complete", 0, 1.0)])


def test_what_comes_with_any_intent_is_ignored() -> None:
    feedback = [Feedback("impression", 0), Feedback("click", 0), Feedback("rating", 0, 5.0), Feedback("dwell", 0)]
    assert from_feedback(feedback)[NONE] == 1.0


def test_the_order_of_feedback_changes_nothing() -> None:
    feedback = [Feedback("skip", 7), Feedback("like", 1_234), Feedback("dwell", 99, 1.0), Feedback("complete", 5_000)]
    found = {tuple(from_feedback(order).values()) for order in itertools.permutations(feedback)}
    assert len(found) == 1


def test_the_wire_map_names_all_ten_in_order_and_rounds() -> None:
    p = np.full(10, 0.1) + 1e-9
    assert to_wire(p) == dict.fromkeys(INTENTS, 0.1)
    with pytest.raises(ValueError, match="zip"):
        to_wire(p[:9])


@given(st.lists(st.tuples(SHARES, st.just(0.0) | st.floats(1e-6, 2)), max_size=5))
def test_a_mean_lies_between_its_inputs(weighted: list[tuple[dict[str, float], float]]) -> None:
    found = mean(weighted)
    positive = [p for p, weight in weighted if weight > 0]
    if not positive:
        assert found is None
        return
    assert found is not None
    for intent in INTENTS:
        values = [p.get(intent, 0.0) for p in positive]
        assert min(values) - 1e-6 <= found[intent] <= max(values) + 1e-6


def test_a_heavier_map_counts_for_more() -> None:
    found = mean([({"leave": 1.0}, 3.0), ({NONE: 1.0}, 1.0)])
    assert found == dict.fromkeys(INTENTS, 0.0) | {"leave": 0.75, NONE: 0.25}


def test_an_intent_below_the_threshold_gives_none() -> None:
    assert likeliest({"leave": 0.4, NONE: 0.3}, 0.5) == NONE
    assert likeliest({"leave": 0.6, NONE: 0.3}, 0.5) == "leave"
    assert likeliest({"leave": 0.4, NONE: 0.6}, 0.0) == NONE
