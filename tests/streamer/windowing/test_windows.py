"""Windows of one partition: what is evidence, what closes when, in which order, and what is forgotten."""

import gc
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.event_time import Duration
from streamer.operator import Window
from streamer.windowing.closing_rule import ClosingRule
from streamer.windowing.evidence import decay
from streamer.windowing.window_spec import WindowSpec
from streamer.windowing.windows import PartitionWindows

SPEC = WindowSpec(rule=ClosingRule(sparse=frozenset({"text"})))
HALF_LIFE = {"face": 1000, "voice": 2000, "text": 6000}


@dataclass(frozen=True)
class Seen:
    """The least an observation needs to have."""

    modality: str
    end_ms: int
    session_id: str = "s"
    source_id: str = "a"
    absent: bool = False
    reason: str = ""
    source_kafka_ms: int = 0

    @property
    def start_ms(self) -> int:
        return self.end_ms


def windows(spec: WindowSpec = SPEC) -> PartitionWindows:
    return PartitionWindows(spec, HALF_LIFE, lambda o: o.reason == "no_consent")


def feed(part: PartitionWindows, log: Sequence[tuple[int, Seen]], first_offset: int = 0) -> list[Window]:
    """(Kafka time, observation) in offset order to the windows that closed."""
    return [w for i, (kafka_ms, o) in enumerate(log) for w in part.apply(first_offset + i, kafka_ms, o).closed]


def finish(part: PartitionWindows, offset: int = 10_000) -> list[Window]:
    """Ticks until nothing is open."""
    closed: list[Window] = []
    while (due := part.next_due_ms()) is not None:
        closed += part.tick(offset, due).closed
    return closed


def test_a_moment_lies_in_size_over_hop_windows() -> None:
    assert list(SPEC.ends_ms(1000)) == [1500, 2000, 2500, 3000]
    assert list(SPEC.ends_ms(999)) == [1000, 1500, 2000, 2500]


def test_a_steady_face_closes_each_window_once_lateness_after_its_end() -> None:
    part = windows()
    closed = feed(part, [(t + 50, Seen("face", t)) for t in range(10_000, 15_000, 100)])
    assert [w.end_ms for w in closed] == list(range(10_500, 15_000, 500))
    assert all(w.closed_at_ms == w.end_ms + 200 + 50 for w in closed)  # the first frame at or past end + 150 ms


def test_the_record_that_triggers_a_window_is_applied_first() -> None:
    part = windows()
    closed = feed(part, [(1050, Seen("face", 1000)), (1700, Seen("face", 1650))])
    assert [(w.end_ms, w.trigger) for w in closed] == [(1500, 1)]


def test_a_window_that_closes_by_time_does_not_see_the_record_that_shows_it() -> None:
    part = windows()
    feed(part, [(1050, Seen("face", 1000))])
    applied = part.apply(1, 9000, Seen("face", 1400))
    first = applied.closed[0]
    assert (first.end_ms, first.closed_at_ms) == (1500, 2050)
    assert [p.offset for p in first.pieces] == [0]


def test_the_last_windows_of_a_silent_session_close_by_ticks() -> None:
    part = windows()
    feed(part, [(1050, Seen("face", 1000))])
    closed = finish(part)
    assert [w.end_ms for w in closed] == [1500, 2000, 2500, 3000]
    assert [w.closed_at_ms for w in closed] == [2050, 2200, 2700, 3200]


def test_a_late_record_is_told_and_still_carried_into_later_windows() -> None:
    part = windows()
    feed(part, [(t + 50, Seen("face", t)) for t in range(10_000, 14_000, 100)])
    applied = part.apply(40, 14_100, Seen("text", 10_100))
    assert applied.refused == "late"
    assert any(p.payload.modality == "text" for w in finish(part) for p in w.pieces)


def test_a_repeat_is_neither_evidence_nor_activity() -> None:
    part = windows()
    feed(part, [(1050, Seen("face", 1000))])
    before = part.next_due_ms()
    assert part.apply(1, 1500, Seen("face", 1000)).refused == "duplicate"
    assert part.next_due_ms() == before
    assert [len(w.pieces) for w in finish(part)] == [1, 1, 1, 1]


def test_a_clock_far_ahead_is_refused_and_changes_no_other_session() -> None:
    part = windows()
    assert part.apply(0, 1000, Seen("face", 7000, session_id="liar")).refused == "clock_skew"
    alone = feed(windows(), [(t + 50, Seen("face", t)) for t in range(1000, 4000, 100)])
    beside = feed(part, [(t + 50, Seen("face", t)) for t in range(1000, 4000, 100)], 1)
    assert [(w.end_ms, w.closed_at_ms) for w in beside] == [(w.end_ms, w.closed_at_ms) for w in alone]


def test_an_event_more_than_max_delay_old_is_never_evidence() -> None:
    part = windows()
    assert part.apply(0, 20_000, Seen("face", 4_999)).refused == "late"
    assert part.next_due_ms() is None


def test_evidence_reaches_five_half_lives_forward_and_never_back() -> None:
    assert decay(1000, 1000) == 0.5
    assert decay(5000, 1000) > 0
    assert decay(5001, 1000) == 0
    part = windows()
    closed = feed(part, [(t + 50, Seen("face", t, source_id=str(t))) for t in range(10_000, 20_000, 100)])
    for window in closed:
        times = [p.payload.end_ms for p in window.pieces]
        assert all(window.end_ms - 5000 <= t < window.end_ms for t in times)


def test_withdrawn_consent_takes_back_what_its_modality_has_said() -> None:
    part = windows()
    log = [(t + 50, Seen("face", t)) for t in range(1000, 1400, 100)]
    log += [
        (1450, Seen("voice", 1250)),
        (1460, Seen("face", 1400, source_id="consent", absent=True, reason="no_consent")),
    ]
    feed(part, log)
    for window in finish(part):
        faces = [p.payload for p in window.pieces if p.payload.modality == "face"]
        assert [f.absent for f in faces] == [True]
        assert any(p.payload.modality == "voice" for p in window.pieces)


def test_a_window_tells_of_a_withdrawal_though_it_closes_after_the_next_word_of_it() -> None:
    part = windows()
    log = [(t + 50, Seen("face", t, absent=True, reason="no_consent")) for t in range(1000, 4000, 250)]
    closed = [*feed(part, log), *finish(part)]
    assert all([p.payload.absent for p in window.pieces if p.inside] for window in closed)


def test_windows_of_several_sessions_close_in_order_of_instant_session_and_end() -> None:
    part = windows()
    feed(part, [(1050, Seen("face", 1000, session_id=s)) for s in ("b", "a")])
    closed = part.tick(2, 60_000).closed
    keys = [(w.closed_at_ms, w.session_id, w.end_ms) for w in closed]
    assert keys == sorted(keys)
    assert len(keys) == 8


def test_a_provisional_is_of_the_earliest_open_window_that_holds_the_newest_evidence() -> None:
    part = windows()
    feed(part, [(1050, Seen("face", 1000)), (1250, Seen("face", 1200))])
    window = part.provisional("s")
    assert window is not None
    assert (window.end_ms, window.final, window.closed_at_ms, window.revision) == (1500, False, None, 1)


def test_a_hundred_thousand_sessions_that_came_and_went_leave_nothing_behind() -> None:
    part, alive = windows(replace(SPEC, size=Duration(500))), list[int]()
    for n in range(100_000):
        now_ms = 100_000 + n * 20
        part.apply(n, now_ms, Seen("face", now_ms - 50, session_id=f"s{n}"))
        if n % 20_000 == 19_999:
            gc.collect()
            alive.append(len(gc.get_objects()))
    within_two_horizons = 2 * SPEC.horizon // 20
    assert len(part) <= within_two_horizons
    assert max(alive) < alive[0] * 1.05  # flat from the first two horizons on
    part.tick(10**6, now_ms + SPEC.horizon)
    part.tick(10**6 + 1, now_ms + 2 * SPEC.horizon + 1)
    assert (len(part), part.next_due_ms()) == (0, None)


def test_a_session_that_only_ever_says_what_is_refused_is_forgotten_too() -> None:
    part = windows()
    for n in range(1000):
        assert part.apply(n, 100_000 + n, Seen("face", 10**9, session_id=f"liar{n}", source_id=str(n))).refused
    part.tick(1000, 101_000 + SPEC.horizon)
    assert len(part) == 0


records = st.tuples(
    st.sampled_from(["face", "voice", "text"]),
    st.integers(0, 8_000),  # event time
    st.integers(0, 2_500),  # delay
    st.sampled_from(["x", "y"]),
)


@given(st.lists(records, min_size=1, max_size=60))
def test_every_window_with_a_record_closes_exactly_once_and_in_time(raw: list[tuple[str, int, int, str]]) -> None:
    log = sorted((100_000 + t + d, n, Seen(m, 100_000 + t, s, str(n))) for n, (m, t, d, s) in enumerate(raw))
    part = windows()
    expected: set[tuple[str, int]] = set()
    closed: list[Window] = []
    for offset, (kafka_ms, _, o) in enumerate(log):
        applied = part.apply(offset, kafka_ms, o)
        closed += applied.closed
        if applied.refused is None:
            expected |= {(o.session_id, e) for e in SPEC.ends_ms(o.end_ms)}
    closed += finish(part)
    keys = [(w.session_id, w.end_ms) for w in closed]
    assert len(keys) == len(set(keys))
    assert set(keys) == expected
    assert all(w.closed_at_ms is not None for w in closed)


@pytest.mark.parametrize("seed", range(3))
def test_reading_the_log_again_gives_the_same_windows(seed: int) -> None:
    log = [(100_000 + t * 90 + seed, Seen(("face", "voice")[t % 2], 100_000 + t * 85)) for t in range(200)]
    assert feed(windows(), log) == feed(windows(), log)
