"""Windows against the oracle: any log, read from anywhere, gives exactly the finals that the rules derive from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.windowing.windows import PartitionWindows
from tests.streamer.windowing.oracle import Entry, Final, Rules, finals_of, reading_of
from tests.streamer.windowing.oracle_logs import (
    SESSIONS,
    START_MS,
    Step,
    as_final,
    as_log,
    clocks_ms,
    examples,
    observation,
    rules,
    said,
    spec_of,
    steps,
)

pytestmark = pytest.mark.timeout(600)  # a failing log takes up to five minutes to shrink
THE_END = (START_MS + 1_000_000, None)  # a tick by which every window is closed
logs = st.builds(lambda script, clocks: as_log(said(script, clocks)), steps, clocks_ms)


def read(log: Sequence[Entry], rules: Rules) -> tuple[list[Final], dict[int, str]]:
    """A log, by the windows under test, to its finals and refusals."""
    windows = PartitionWindows(spec_of(rules), rules.half_life_ms, rules.revokes)
    finals: list[Final] = []
    refused: dict[int, str] = {}
    for entry in log:
        if entry.payload is None:
            applied = windows.tick(entry.offset, entry.stamp_ms)
        else:
            applied = windows.apply(entry.offset, entry.stamp_ms, entry.payload)
        finals += [as_final(window) for window in applied.closed]
        if applied.refused is not None:
            refused[entry.offset] = applied.refused
    return finals, refused


def kafka_times(log: Sequence[Entry]) -> list[int]:
    return [max(e.stamp_ms for e in log[: i + 1]) for i in range(len(log))]


def facts(finals: Sequence[Final], *, of: Callable[[int], Any], session: str | None = None) -> list[Any]:
    """What of finals must not depend on who else is in the log; evidence by what `of` makes of its offset."""
    return sorted(
        (f.session_id, f.window_end_ms, f.closed_at_ms, sorted((of(o), w, own) for o, w, own in f.evidence),
         sorted(f.newest_ms.items()), sorted(f.active))
        for f in finals
        if session in (None, f.session_id)
    )  # fmt: skip


@examples(250)
@given(logs, rules)
def test_any_log_gives_exactly_the_finals_and_refusals_of_the_oracle(log: list[Entry], rules: Rules) -> None:
    expected = reading_of(log, rules)
    finals, refused = read(log, rules)
    assert finals == expected.finals
    assert refused == expected.refused


@examples(150)
@given(logs, rules, st.data())
def test_read_again_from_two_horizons_before_any_record_nothing_after_it_changes(
    log: list[Entry], rules: Rules, data: st.DataObject
) -> None:
    last = data.draw(st.integers(0, len(log) - 1), label="T is the offset of this entry")
    times, written_to = kafka_times(log), log[last].offset
    start = next(i for i, kafka_ms in enumerate(times) if kafka_ms > times[last] - 2 * rules.horizon)
    expected = reading_of(log, rules)
    finals, refused = read(log[start:], rules)
    assert [f for f in finals if f.trigger > written_to] == [f for f in expected.finals if f.trigger > written_to]
    late = {o: why for o, why in expected.refused.items() if o > written_to}
    assert {o: why for o, why in refused.items() if o > written_to} == late


@examples(100)
@given(steps, clocks_ms, rules, st.sampled_from([-100_000, -1400, 900, 100_000]))
def test_one_sessions_clock_changes_no_other_sessions_finals(
    script: list[Step], clocks: tuple[int, ...], rules: Rules, wrong_ms: int
) -> None:
    log = as_log(said(script, clocks))
    off = as_log(said(script, (clocks[0] + wrong_ms, *clocks[1:])))
    finals, lied = read(log, rules)[0], read(off, rules)[0]
    for session in SESSIONS[1:]:
        assert facts(lied, of=int, session=session) == facts(finals, of=int, session=session)


@examples(100)
@given(steps, clocks_ms, rules, st.lists(st.tuples(st.integers(0, 59), st.integers(1, 59)), min_size=1, max_size=5))
def test_repeats_anywhere_within_the_horizon_change_no_final(
    script: list[Step], clocks: tuple[int, ...], rules: Rules, where: list[tuple[int, int]]
) -> None:
    """A repeated withdrawal is no mere repeat: it takes back once more (docs/event_time.md)."""
    plain = [*said(script, clocks), THE_END]
    noisy = list(plain)
    for first, later in where:
        i = min(first, len(plain) - 1)
        at_ms, o = plain[i]
        j = noisy.index(plain[i])
        k = min(j + later, len(noisy))
        before_ms = noisy[k - 1][0]
        if o is not None and not rules.revokes(o) and max(m for m, _ in noisy[:k]) < at_ms + rules.horizon:
            noisy.insert(k, (before_ms, o))
    expected = facts_by_payload(as_log(plain), rules)
    assert facts_by_payload(as_log(noisy), rules) == expected


def facts_by_payload(log: Sequence[Entry], rules: Rules) -> list[Any]:
    payloads = {e.offset: e.payload for e in log}
    return facts(read(log, rules)[0], of=lambda offset: str(payloads[offset]))


@examples(40)
@given(steps, clocks_ms, rules, st.integers(0, 9))
def test_reordering_that_keeps_raises_instants_and_sides_changes_no_final(
    script: list[Step], clocks: tuple[int, ...], rules: Rules, first: int
) -> None:
    """Two neighbours change places, and with them Kafka times: all that a Kafka time decides must stay (`verdicts`).

    A withdrawal is not moved: what came before it is what it takes back. Who was active at the instant may change with
    the moment of a raise; no event tells of it.
    """
    plain = [*said(script, clocks), THE_END]
    log = as_log(plain)
    told, expected = verdicts(log, rules), of_events(log, rules)
    for at in range(first, len(plain) - 1, 10):
        (_, one), (_, other) = plain[at : at + 2]
        if one is None or other is None or one == other or rules.revokes(one) or rules.revokes(other):
            continue
        moved = as_log(swapped(plain, at))
        if verdicts(moved, rules) == told:
            assert of_events(moved, rules) == expected


def swapped(messages: Sequence[tuple[int, Any]], at: int) -> list[tuple[int, Any]]:
    """Messages whose payloads at `at` and behind it have changed places; stamps stay."""
    (early_ms, one), (late_ms, other) = messages[at : at + 2]
    return [*messages[:at], (early_ms, other), (late_ms, one), *messages[at + 2 :]]


def of_events(log: Sequence[Entry], rules: Rules) -> list[Any]:
    return [fact[:-1] for fact in facts_by_payload(log, rules)]


def verdicts(log: Sequence[Entry], rules: Rules) -> dict[str, Any]:
    """What Kafka times decide of a log, each by payloads.

    Which records are refused, which are evidence (`late` may be either), which raise; every closing instant; and of
    each final its trigger, whether that is on its own near side, and on the near side which records the horizon holds.
    """
    reading = reading_of(log, rules)
    words = {e.offset: str(e.payload) for e in log if e.payload is not None}
    times = {e.offset: kafka_ms for e, kafka_ms in zip(log, kafka_times(log), strict=True)}
    windows = {(f.session_id, f.window_end_ms): f for f in reading.finals}
    before = {key: [o for o in words if o < f.trigger] for key, f in windows.items()}
    since_ms = {key: f.closed_at_ms - rules.horizon for key, f in windows.items()}
    return {
        "refused": sorted((words[o], why) for o, why in reading.refused.items()),
        "evidence": sorted(words[o] for o in reading.heard),
        "raising": sorted(words[o] for o in reading.raising),
        "instants": {key: f.closed_at_ms for key, f in windows.items()},
        "triggers": {key: words.get(f.trigger) for key, f in windows.items()},
        "completed": reading.completed,
        "sides": {key: sorted(words[o] for o in offsets) for key, offsets in before.items()},
        "horizon": {key: sorted(words[o] for o in before[key] if times[o] > ms) for key, ms in since_ms.items()},
    }


# The oracle itself, against a still slower reading of the rules: millisecond by millisecond, all of it by definition.

short = st.lists(
    st.builds(
        Step,
        gap_ms=st.sampled_from([0, 1, 50, 100, 150, 300]),
        modality=st.sampled_from(["face", "voice", "text"]),
        lag_ms=st.one_of(st.sampled_from([20, 0, 100]), st.integers(-300, 500)),
        source=st.sampled_from(["x", "y"]),
        kind=st.sampled_from(["reading", "reading", "reading", "tick"]),
    ),
    min_size=1,
    max_size=12,
)


@examples(60)
@given(short, rules)
def test_the_oracle_agrees_with_a_walk_through_every_millisecond(script: list[Step], rules: Rules) -> None:
    log = as_log(said(script))
    refused = {o for o, why in reading_of(log, rules).refused.items() if why in ("duplicate", "clock_skew")}
    expected = {(f.window_end_ms, f.trigger, f.closed_at_ms) for f in finals_of(log, rules)}
    ends = {n for e in log if e.payload is not None for n in range(e.payload.end_ms - 1000, e.payload.end_ms + 1000)}
    found = {(end, *closed) for end in ends if end % rules.hop == 0 and (closed := walked(log, end, refused, rules))}
    assert found == expected


def walked(log: Sequence[Entry], end: int, refused: set[int], rules: Rules) -> tuple[int, int] | None:
    """A window's (trigger, closing instant), None where it doesn't exist or isn't closed."""
    times = kafka_times(log)
    heard = [
        (i, times[i], e.payload)
        for i, e in enumerate(log)
        if e.payload is not None and e.offset not in refused and e.payload.end_ms >= times[i] - rules.max_delay
    ]
    inside = [(i, t) for i, t, o in heard if end - rules.size <= o.end_ms < end]
    if not inside:
        return None
    first, first_ms = inside[0]

    def raises(i: int, t: int, o: Any) -> bool:
        earlier = [p for j, u, p in heard if j < i and u > t - rules.horizon and p.modality == o.modality]
        return all(o.end_ms > p.end_ms for p in earlier)

    raising = [(i, t, o) for i, t, o in heard if raises(i, t, o)]

    def closes(at_ms: int, applied: int) -> tuple[bool, bool]:
        """Whether the window closes at a Kafka time with the records up to an index applied; by an active modality."""
        known = [(t, o) for i, t, o in raising if i <= applied]
        active = {o.modality for t, o in known if at_ms - rules.idle_after < t <= at_ms} - rules.sparse
        newest = {
            m: max(o.end_ms for i, t, o in heard if i <= applied and o.modality == m and t > at_ms - rules.horizon)
            for m in active
        }
        by_activity = bool(active) and all(n >= end + rules.lateness for n in newest.values())
        kafka_ms, last = known[-1]
        wait = 0 if last.modality in rules.sparse else rules.idle_after
        alone = not active and at_ms >= kafka_ms + max(wait, end + rules.lateness - last.end_ms)
        return by_activity or alone or at_ms >= first_ms + rules.max_open, by_activity

    for index in range(first, len(log)):
        if any(i == index for i, _, _ in heard) and closes(times[index], index)[1]:
            return log[index].offset, times[index]
        if index + 1 < len(log):
            for at_ms in range(times[index], times[index + 1] + 1):
                if closes(at_ms, index)[0]:
                    return log[index + 1].offset, at_ms
    return None


# What the rules say in words, one log each: these stand where a shrunk example once stood.

PLAIN = Rules(sparse=frozenset({"text"}), half_life_ms={"face": 1000, "voice": 2000, "text": 6000})


def one(modality: Any, at_ms: int, **changes: Any) -> Any:
    return observation(Step(0, modality=modality, **changes), at_ms, 1)


def test_a_modality_that_fell_silent_is_told_of_for_a_horizon_from_wherever_the_log_is_read() -> None:
    times = range(100_000, 220_000, 250)
    log = [Entry(0, 100_050, one("face", 100_000))]
    log += [Entry(1 + i, t + 50, one("voice", t)) for i, t in enumerate(times)]
    told = [f.window_end_ms for f in read(log, PLAIN)[0] if "face" in f.newest_ms]
    assert told[-1] == 160_000 - 500  # the one that closes at 159,800; at 160,300 it is out of the horizon
    assert told == [f.window_end_ms for f in finals_of(log, PLAIN) if "face" in f.newest_ms]


def test_evidence_exactly_as_old_as_its_reach_counts_however_late_its_window_closes() -> None:
    """A voice 14 s behind opens the window and creeps on, so that it is open when its end is max_delay ago."""
    creeping = [(119_000, 104_900), (119_500, 104_950), (120_100, 105_140)]
    log = [Entry(0, 100_050, one("face", 100_000))]
    log += [Entry(1 + i, kafka_ms, one("voice", at_ms)) for i, (kafka_ms, at_ms) in enumerate(creeping)]
    log.append(Entry(4, 130_000))
    finals, _ = read(log, PLAIN)
    assert finals == finals_of(log, PLAIN)
    late = next(f for f in finals if f.window_end_ms == 105_000)
    assert (late.closed_at_ms, late.evidence[0]) == (121_100, (0, 2.0**-5, False))


def test_what_was_taken_back_is_not_told_of_though_it_had_faded_and_the_withdrawal_came_too_late() -> None:
    log = [Entry(0, 100_050, one("face", 100_000))]
    log += [Entry(1 + i, t + 50, one("voice", t)) for i, t in enumerate(range(100_000, 140_000, 250))]
    log.insert(121, Entry(1000, 130_060, one("face", 100_100, kind="withdrawal")))
    log = [replace(entry, offset=i) for i, entry in enumerate(log)]
    finals, refused = read(log, PLAIN)
    assert finals == finals_of(log, PLAIN)
    assert refused == {121: "late"}
    assert {f.trigger < 121 for f in finals if "face" in f.newest_ms} == {True}


def test_a_window_that_was_closed_is_never_opened_again() -> None:
    log = [Entry(i, t + 50, one("face", t)) for i, t in enumerate(range(100_000, 120_000, 250))]
    log += [Entry(80, 120_040, one("face", 105_100, source="y")), Entry(81, 200_000)]
    finals, refused = read(log, PLAIN)
    assert (finals, refused) == (finals_of(log, PLAIN), {80: "late"})
    assert len({f.window_end_ms for f in finals}) == len(finals)


@pytest.mark.parametrize(("later_ms", "why"), [(59_999, "duplicate"), (60_000, None)])
def test_a_repeat_is_one_within_the_horizon_its_start_excluded(later_ms: int, why: str | None) -> None:
    ahead = one("face", 160_000)
    log = [Entry(0, 100_000, ahead), Entry(1, 159_500, one("voice", 159_500)), Entry(2, 100_000 + later_ms, ahead)]
    assert read(log, PLAIN)[1] == {0: "clock_skew"} | ({2: why} if why else {})


@pytest.mark.parametrize(("at_ms", "why"), [(105_000, None), (105_001, "clock_skew"), (85_000, None), (84_999, "late")])
def test_exactly_max_skew_ahead_and_max_delay_behind_are_still_in_order(at_ms: int, why: str | None) -> None:
    log = [Entry(0, 100_000, one("face", at_ms))]
    assert read(log, PLAIN)[1] == reading_of(log, PLAIN).refused == ({0: why} if why else {})


def test_a_repeat_of_a_record_that_was_refused_is_a_repeat_too() -> None:
    ahead = one("face", 106_000)
    log = [Entry(0, 100_000, ahead), Entry(1, 102_000, ahead)]
    assert read(log, PLAIN) == ([], {0: "clock_skew", 1: "duplicate"})


LINES = [(100_000, one("text", 85_080)), (100_000, one("face", 100_000))]
TOO_OLD = [(100_050, one("text", 85_060, source="y")), (100_100, one("face", 100_050)), (100_150, one("face", 100_100))]
FORGOTTEN = [(100_050, one("text", 100_000)), (100_100, one("face", 100_050)), (100_150, one("face", 102_500))]
MINUTE_ON = [(160_070, one("face", 160_000)), (160_075, one("face", 163_000))]
TAKEN_BACK = [(100_000, one("face", 99_000)), (100_050, one("voice", 101_900))]
WITHDRAWN = [(101_000, one("face", 101_900, kind="withdrawal"))]


@pytest.mark.parametrize(
    ("messages", "at", "verdict"),
    [(LINES + TOO_OLD, 2, "evidence"), (FORGOTTEN + MINUTE_ON, 0, "horizon"), (TAKEN_BACK + WITHDRAWN, 0, "completed")],
)
def test_a_neighbours_kafka_time_alone_can_change_a_final(messages: list[Any], at: int, verdict: str) -> None:
    """Carried over max_delay it is `late`, as before, but no evidence; at the horizon's start it is named or not.

    Where another modality falls silent as a withdrawal comes, the withdrawal closes the window or time did just before.
    """
    messages = [*messages, (200_000, None)]
    log, moved = as_log(messages), as_log(swapped(messages, at))
    told, else_told = verdicts(log, PLAIN), verdicts(moved, PLAIN)
    assert {name for name in told if told[name] != else_told[name]} == {verdict}
    assert of_events(log, PLAIN) != of_events(moved, PLAIN)
    assert (read(log, PLAIN)[0], read(moved, PLAIN)[0]) == (finals_of(log, PLAIN), finals_of(moved, PLAIN))


def test_windows_of_one_trigger_leave_in_order_whether_time_or_a_record_closed_them() -> None:
    mute = observation(Step(0, session=1), 100_000, 1)
    log = [Entry(0, 100_000, mute)]
    log += [Entry(1 + i, t, one("face", t)) for i, t in enumerate(range(100_000, 101_500, 100))]
    finals, _ = read(log, PLAIN)
    assert finals == finals_of(log, PLAIN)
    keys = [(f.trigger, f.closed_at_ms, f.session_id, f.window_end_ms) for f in finals]
    assert keys == sorted(keys)
