"""What happens to records that wait, by operator and by input: every drop is counted under its reason."""

from __future__ import annotations

from pathlib import Path

from streamer.settings import load_settings
from tests.streamer.runtime.small_world import START, TINY, World, settle
from tests.tiny_operators.payloads import Total


async def test_latest_keeps_each_sessions_newest_and_counts_the_rest_as_busy(tmp_path: Path) -> None:
    world = World(
        tmp_path, TINY.replace("batch: {max: 8}", "batch: {max: 8}\n    queue: {policy: latest, max_age: 500ms}")
    )
    pipeline = await world.start("stumble")
    await world.say("stale")
    world.clock.set_ms(START + 1000)
    for n, text in enumerate(["a", "bb", "ccc"]):
        await world.say(text, at_ms=START + 1000 + n)
    await world.say("dddd", session="t")
    await settle(pipeline)
    totals = pipeline.runners[0].context.metrics.totals
    assert sorted(c.letters for c in world.read("counts")) == [3, 4]
    assert (totals["busy"], totals["stale"]) == (2, 1)


async def test_queue_all_overrides_every_policy(tmp_path: Path) -> None:
    text = TINY.replace("batch: {max: 8}", "batch: {max: 8}\n    queue: {policy: latest, max_age: 500ms}")
    world = World(tmp_path, text, load_settings(queue="all"))
    pipeline = await world.start("stumble")
    await world.say("a")
    world.clock.set_ms(START + 1000)
    await world.say("bb")
    await world.say("ccc", at_ms=START + 1001)
    await settle(pipeline)
    assert [c.letters for c in world.read("counts")] == [1, 2, 3]


TWO_INPUTS = """\
version: 2
app: tiny
partitions: 2
topics:
  words:        {payload: Word, external: in, retention: 60s}
  totals:       {payload: Total, external: in}
  counts:       {payload: Count, external: out}
  dead_letters: {payload: DeadLetter, external: out, key: key}
operators:
  echo_totals:
    reads: [words, totals]
    writes: counts
    queue: {policy: latest}
    queues: {totals: {policy: max_age, max_age: 1s}}
"""


async def test_each_input_has_its_own_queue_policy_and_every_drop_its_reason(tmp_path: Path) -> None:
    world = World(tmp_path, TWO_INPUTS)
    pipeline = await world.start()
    await world.publish(Total(session_id="s", event_time_ms=START, letters=1), "totals")
    world.clock.set_ms(START + 1500)
    for n, text in enumerate(["a", "bb", "ccc"]):
        await world.say(text, at_ms=START + 1500 + n)
        await world.publish(Total(session_id="s", event_time_ms=START + 1500 + n, letters=10 + n), "totals")
    await settle(pipeline)
    totals = pipeline.runners[0].context.metrics.totals
    assert [c.letters for c in world.read("counts")] == [10, 11, 12]
    assert (totals["busy"], totals["stale"], totals["processed"], totals["read"]) == (2, 1, 4, 7)
