"""A list that no affect has moved says why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from operators.payloads import AffectEvent, RankedList
from operators.rank_items import Params
from streamer.event_time import Duration
from tests.operators.desk import Desk, affect, request


@pytest.mark.parametrize(
    ("why", "params", "sent"),
    [
        ("off", Params(), affect(-0.6)),
        ("no_event", Params(goal="lift"), None),
        ("abstained", Params(goal="lift"), affect(None)),
        ("stale", Params(goal="lift", max_affect_age=Duration(0)), affect(-0.6)),
        ("unsure", Params(goal="lift"), affect(-0.6, confidence=0.1)),
        (None, Params(goal="lift"), affect(-0.6)),
    ],
)
async def test_a_list_says_why_no_affect_counted(why: str | None, params: Params, sent: AffectEvent | None) -> None:
    desk = Desk(params)
    await desk.send(*([sent] if sent else []))
    (ranked,) = await desk.send(request(), after_ms=100)
    assert ranked.without_affect == why
    desk.consents.clear()
    (unconsented,) = await desk.send(request(), after_ms=100)
    assert unconsented.without_affect == ("off" if why == "off" else "no_consent")


async def test_a_list_that_came_on_another_partition_than_its_keys_says_so_where_it_finds_no_affect() -> None:
    desk = Desk()
    for affect_there, why in ((False, "foreign_partition"), (True, None)):
        await desk.send(*([affect(-0.6)] if affect_there else []))
        (out,) = await desk.operator.process([replace(desk.record(request()), foreign=True)])
        assert isinstance(out.payload, RankedList)
        assert out.payload.without_affect == why
