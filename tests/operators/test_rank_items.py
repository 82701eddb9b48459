"""rank_items without a broker: what moves a list, what must not, and what bad input does."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from operators.payloads import (
    AffectEvent,
    Candidate,
    Consent,
    Control,
    Interaction,
    RankedList,
)
from operators.rank_items import Params, RankItems
from streamer.errors import RefusedUseError
from streamer.event_time import Duration
from streamer.operator import Context
from streamer.payloads import Refusal, decode, encode
from streamer.settings import load_settings
from tests.operators.desk import BASE, NOW, Desk, S, affect, consent, item, request


def act(kind: Any, item_id: str, interaction_id: str = "i1") -> Interaction:
    return Interaction(
        session_id=S, event_time_ms=NOW, interaction_id=interaction_id, user_id="u", item_id=item_id, kind=kind
    )


def order(ranked: RankedList) -> list[str]:
    return [i.item_id for i in ranked.items]


def reasons(ranked: RankedList) -> set[str]:
    return {name for i in ranked.items for name in i.reasons}


LIFTED = ["garden", "parade", "letter", "elegy", "storm", "filler"]


async def test_candidates_are_answered_at_once_with_revision_0_in_base_order() -> None:
    (ranked,) = await Desk().send(request())
    assert (ranked.revision, ranked.cause, ranked.policy) == (0, "request", "affect@1")
    assert order(ranked) == [*BASE, "filler"]
    assert [i.position for i in ranked.items] == [i.base_rank for i in ranked.items] == list(range(6))
    assert ranked.items[0].provenance == {"generator": "g", "ai_generated": True}


async def test_affect_changes_the_order_and_its_reasons_add_up() -> None:
    desk = Desk()
    await desk.send(request())
    (ranked,) = await desk.send(affect(-0.6), after_ms=600)
    assert (ranked.revision, ranked.cause, ranked.request_id) == (1, "affect", "r1")
    assert order(ranked) == LIFTED
    assert (ranked.affect_event_id, ranked.affect_age_ms) == (f"{S}:{NOW}", 600)
    assert all(abs(sum(i.reasons.values()) - i.score) < 1e-9 for i in ranked.items)
    assert decode(encode(ranked), RankedList) == ranked


async def test_affect_known_before_the_request_counts_in_revision_0() -> None:
    (ranked,) = await Desk().send(affect(-0.6), request())
    assert (ranked.revision, order(ranked)) == (0, LIFTED)


@pytest.mark.parametrize("params", [Params(), Params(policy="noop", goal="lift"), Params(goal="lift", cap=0.0)])
async def test_with_goal_off_or_noop_or_cap_0_affect_changes_nothing(params: Params) -> None:
    desk = Desk(params)
    (first,) = await desk.send(request())
    assert await desk.send(affect(-0.6), after_ms=600) == []
    assert reasons(first) == {"base"}


async def test_an_equal_order_is_never_sent_twice() -> None:
    desk = Desk()
    await desk.send(request())
    assert len(await desk.send(affect(-0.6), after_ms=600)) == 1
    assert await desk.send(affect(-0.7, 500), after_ms=600) == []


async def test_revisions_keep_their_distance_and_small_moves_are_not_looked_at() -> None:
    desk = Desk()
    await desk.send(request())
    assert await desk.send(affect(-0.6), after_ms=400) == []
    assert len(await desk.send(affect(-0.6, 500), after_ms=200)) == 1
    desk = Desk(Params(goal="lift", rerank_delta=1.0))
    await desk.send(affect(-0.6), request())
    assert await desk.send(affect(0.3, 500), after_ms=600) == []


async def test_the_newest_window_wins_then_final_over_provisional_then_the_greatest_revision() -> None:
    desk = Desk(Params(goal="lift", min_interval=Duration(0)))
    await desk.send(affect(-0.6, 1000, final=False, revision=5), request())
    assert await desk.send(affect(0.9, 500)) == []  # an older window
    assert await desk.send(affect(0.9, 1000, final=False, revision=4)) == []  # an older revision
    (up,) = await desk.send(affect(0.9, 1000, final=False, revision=6))
    assert order(up)[0] == "elegy"
    (down,) = await desk.send(affect(-0.6, 1000, final=True))
    assert order(down)[0] == "garden"
    assert await desk.send(affect(0.9, 1000, final=False, revision=99)) == []  # after its final


@pytest.mark.parametrize(
    "event",
    [
        affect(-0.6, abstained=True),
        affect(-0.6, confidence=0.1),
        affect(-0.6, end_ms=-20_000),
        affect(None),
        affect(-0.6, emotions=None, expressions={"smiling": 0.0}),
    ],
    ids=["abstained", "unsure", "too old", "no valence", "expressions only"],
)
async def test_an_event_that_does_not_count_leaves_the_base_order(event: AffectEvent) -> None:
    (ranked,) = await Desk().send(event, request())
    assert (order(ranked), reasons(ranked)) == ([*BASE, "filler"], {"base"})
    assert ranked.affect_event_id is None


async def test_when_affect_abstains_the_list_goes_back() -> None:
    desk = Desk()
    await desk.send(affect(-0.6), request())
    (back,) = await desk.send(affect(-0.6, 1000, abstained=True), after_ms=1000)
    assert (back.revision, order(back), back.affect_event_id) == (1, [*BASE, "filler"], None)


@pytest.mark.parametrize("given", [None, consent(ranking=False), consent(expressions_only=True)])
async def test_without_consent_to_affect_ranking_reasons_show_the_base_alone(given: Consent | None) -> None:
    desk = Desk()
    desk.consents[S] = given
    (ranked,) = await desk.send(affect(-0.6), act("like", "parade"), request())
    assert (order(ranked), reasons(ranked)) == ([*BASE, "filler"], {"base"})
    assert desk.context.metrics.totals["no_consent"] == 1
    assert not any(key.endswith("affect") for key in desk.state)


async def test_withdrawn_consent_restores_the_base_order_at_once_and_erases_the_affect() -> None:
    desk = Desk()
    await desk.send(affect(-0.6), request())
    (back,) = desk.table("consents", consent(ranking=False))
    assert (back.session_id, back.revision, order(back), reasons(back)) == (S, 1, [*BASE, "filler"], {"base"})
    assert not any(key.endswith("affect") for key in desk.state)
    assert desk.table("consents", consent(ranking=False)) == []


async def test_the_kill_switch_is_in_force_at_once_for_every_session() -> None:
    desk = Desk()
    desk.consents["session-2"] = consent("session-2")
    await desk.send(affect(-0.6), request(), affect(-0.6, session_id="session-2"), request("r2", "session-2"))
    back = desk.table("controls", Control(event_time_ms=NOW, app="app", ranking_off=True))
    assert {(b.session_id, b.request_id) for b in back} == {(S, "r1"), ("session-2", "r2")}
    assert {b.policy for b in back} == {"noop@1"}
    assert all(order(b) == [*BASE, "filler"] for b in back)
    assert await desk.send(affect(-0.9, 1000), after_ms=1000) == []
    again = desk.table("controls", Control(event_time_ms=NOW, app="app"))
    assert [order(b) for b in again] == [LIFTED, LIFTED]


async def test_a_control_sets_policy_goal_and_cap() -> None:
    desk = Desk(Params())
    await desk.send(affect(-0.6), request())
    (lifted,) = desk.table("controls", Control(event_time_ms=NOW, app="app", goal="lift"))
    assert order(lifted) == LIFTED
    (capped,) = desk.table("controls", Control(event_time_ms=NOW, app="app", goal="lift", cap=-3.0))
    assert order(capped) == [*BASE, "filler"]
    (shuffled,) = desk.table("controls", Control(event_time_ms=NOW, app="app", policy="shuffle"))
    assert shuffled.policy == "shuffle@1"
    assert {i.propensity for i in shuffled.items} == {1 / 6}


async def test_a_newer_request_replaces_the_older_and_an_expired_one_is_not_ranked_again() -> None:
    desk = Desk()
    await desk.send(request("r1"), request("r2"))
    (ranked,) = await desk.send(affect(-0.6), after_ms=600)
    assert (ranked.request_id, ranked.revision) == ("r2", 1)
    await desk.send(request("r3", expires_ms=NOW + 1000))
    assert await desk.send(affect(0.9, 1000), after_ms=1000) == []


async def test_a_request_that_comes_again_continues_its_revisions() -> None:
    desk = Desk()
    await desk.send(request())
    await desk.send(affect(-0.6), after_ms=600)
    (again,) = await desk.send(request())
    assert (again.revision, again.cause) == (2, "request")


async def test_a_like_raises_what_resembles_it_a_little_and_a_repeat_counts_once() -> None:
    desk = Desk(Params(goal="off"))
    (before,) = await desk.send(request("r1"))
    likes = act("like", "garden"), act("like", "garden"), act("impression", "storm", "i2")
    (after,) = await desk.send(*likes, request("r2"))
    gained = {i.item_id: i.reasons.get("session", 0.0) for i in after.items}
    assert gained["garden"] == gained["letter"] == pytest.approx(0.1)  # the same tags, no embeddings
    assert gained["storm"] == 0.0
    assert reasons(before) == {"base"}
    assert desk.context.metrics.totals["duplicate"] == 1
    (disliked,) = await desk.send(act("dislike", "garden", "i3"), act("skip", "garden", "i4"), request("r3"))
    assert {i.item_id: i.reasons.get("session", 0.0) for i in disliked.items}["garden"] < 0


async def test_state_in_the_hosts_table_survives_the_operator() -> None:
    kept: dict[str, bytes] = {}
    await Desk(state=kept).send(request())
    (ranked,) = await Desk(state=kept).send(affect(-0.6), after_ms=600)
    assert (ranked.revision, order(ranked)) == (1, LIFTED)


async def test_forgetting_a_session_leaves_nothing_and_old_ones_are_forgotten_alone() -> None:
    desk = Desk()
    await desk.send(affect(-0.6), act("like", "garden"), request())
    desk.operator.forget(S)
    assert desk.state == {}
    await desk.send(affect(-0.6), request())
    desk.consents["session-2"] = consent("session-2")
    await desk.send(request("r2", "session-2"), after_ms=700_000)
    assert {key.partition("\0")[0] for key in desk.state} == {"session-2"}


async def test_an_unknown_item_keeps_its_base_score_and_is_counted() -> None:
    desk = Desk()
    (ranked,) = await desk.send(affect(-0.6), request())
    filler = next(i for i in ranked.items if i.item_id == "filler")
    assert filler.reasons == {"base": 0.0}
    assert desk.context.metrics.totals["unknown_item"] == 1


async def test_blocked_items_leave_whoever_blocked_them() -> None:
    desk = Desk()
    desk.catalogue["storm"] = msgspec.structs.replace(desk.catalogue["storm"], blocked=True)
    items = [*request().items[1:], Candidate(item_id="elegy", score=10.0, blocked=True)]
    (ranked,) = await desk.send(request(items=items))
    assert order(ranked) == ["letter", "garden", "parade", "filler"]


async def test_an_item_made_mid_session_is_usable_at_once() -> None:
    desk = Desk()
    await desk.send(affect(-0.6), request())
    desk.catalogue["filler"] = item("filler", 0.9, 0.1)
    (ranked,) = await desk.send(request("r2"))
    assert "affect" in next(i for i in ranked.items if i.item_id == "filler").reasons


async def test_pins_and_top_are_kept() -> None:
    items = [*request().items[:4], Candidate(item_id="filler", score=0.0, pinned_rank=1)]
    (ranked,) = await Desk(Params(goal="lift", top=3)).send(affect(-0.6), request(items=items))
    assert order(ranked) == ["garden", "filler", "letter"]


async def test_an_empty_list_gives_an_empty_list() -> None:
    desk = Desk()
    (ranked,) = await desk.send(request(items=[]))
    assert (ranked.revision, ranked.items) == (0, [])
    assert await desk.send(affect(-0.6), after_ms=600) == []


async def test_the_first_of_two_equal_item_ids_is_kept_and_the_other_counted() -> None:
    desk = Desk()
    items = [Candidate(item_id="a", score=1.0), Candidate(item_id="b", score=2.0), Candidate(item_id="a", score=3.0)]
    (ranked,) = await desk.send(request(items=items))
    assert order(ranked) == ["b", "a"]
    assert desk.context.metrics.totals["duplicate"] == 1


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"items": [Candidate(item_id="a", score=float("nan"))]}, "items[0].score is not a finite number"),
        ({"items": [Candidate(item_id="a", score=1.0, pinned_rank=-1)]}, "items[0].pinned_rank is negative"),
        ({"expires_ms": -1}, "expires_ms is negative"),
    ],
)
async def test_a_list_that_cannot_be_ranked_is_refused_and_nothing_else_lost(changes: Any, detail: str) -> None:
    refused, ranked = await Desk().send(request("bad", **changes), request("good"))
    assert isinstance(refused, Refusal)
    assert refused.reason == "undecodable"
    assert detail in refused.detail
    assert ranked.request_id == "good"


@pytest.mark.parametrize(
    ("pins", "order"),
    [
        ({}, ["i0", "i1", "i2"]),
        ({"i5": 100}, ["i0", "i1", "i5"]),
        ({"i5": 4, "i4": 100}, ["i0", "i5", "i4"]),
        ({"i5": 0}, ["i5", "i0", "i1"]),
        ({"i2": 2, "i3": 3, "i4": 4, "i5": 5}, ["i2", "i3", "i4", "i5"]),
    ],
)
async def test_a_pinned_item_is_never_lost_to_top(pins: dict[str, int], order: list[str]) -> None:
    items = [Candidate(item_id=f"i{n}", score=9.0 - n, pinned_rank=pins.get(f"i{n}")) for n in range(6)]
    (ranked,) = await Desk(Params(top=3)).send(request(items=items))
    assert [item.item_id for item in ranked.items] == order
    assert [item.position for item in ranked.items] == list(range(len(order)))


async def test_a_payload_of_another_topic_is_refused() -> None:
    (refused,) = await Desk().send(consent())
    assert isinstance(refused, Refusal)


@pytest.mark.parametrize("context", [None, "advertising", "political", "credit", "nowhere"])
async def test_it_refuses_to_open_where_affect_may_not_rank(context: str | None) -> None:
    operator = RankItems(Params(), Context("rank_items", load_settings(context=context)))
    with pytest.raises(RefusedUseError, match="STREAMER_CONTEXT"):
        await operator.open()


async def test_it_opens_and_closes_in_an_allowed_use() -> None:
    operator = Desk().operator
    await operator.open()
    assert operator.needs_from(S) is None
    await operator.close()
