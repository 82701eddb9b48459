"""Clocks, durations and the closing rule of one session."""

from collections.abc import Callable

import pytest

from streamer.event_time import MOST_CLOCKS, MOST_REPORTED, ClockOffsets, Duration, ManualClock
from streamer.windowing.closing_rule import ClosingRule, SessionClock

RULE = ClosingRule(sparse=frozenset({"text"}))
HORIZON = 60_000


@pytest.fixture
def clock() -> SessionClock:
    return SessionClock(RULE, HORIZON)


@pytest.mark.parametrize(("text", "ms"), [("4ms", 4), ("2s", 2000), ("10m", 600_000), ("24h", 86_400_000)])
def test_a_duration_is_a_number_with_its_unit(text: str, ms: int) -> None:
    assert Duration.parse(text) == ms
    assert str(Duration.parse(text)) == text or Duration.parse(str(Duration.parse(text))) == ms


@pytest.mark.parametrize("value", ["500", 500, "1.5s", "-1s", "", "s", None, "5 s", "5sec"])
def test_a_duration_without_a_unit_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        Duration.parse(value)


def test_a_manual_clock_never_goes_backwards() -> None:
    clock = ManualClock(100)
    clock.set_ms(50)
    assert clock.now_ms() == 100


def test_only_a_newer_event_time_raises(clock: SessionClock) -> None:
    assert clock.observe("face", 1000, 1050)
    assert not clock.observe("face", 900, 1060)
    assert not clock.observe("face", 1000, 1070)
    assert clock.observe("face", 1001, 1080)


def test_a_modality_is_active_for_idle_after_its_last_raise(clock: SessionClock) -> None:
    clock.observe("face", 1000, 1050)
    clock.observe("face", 900, 1900)  # raises nothing: no activity
    assert clock.active(2049) == {"face"}
    assert clock.active(2050) == frozenset()


def test_a_sparse_modality_is_never_active(clock: SessionClock) -> None:
    clock.observe("text", 1000, 1050)
    assert clock.active(1050) == frozenset()


def test_a_window_waits_for_the_slowest_active_modality(clock: SessionClock) -> None:
    clock.observe("face", 2150, 2200)
    clock.observe("voice", 2000, 2210)
    assert not clock.reached(2000, 2210)
    clock.observe("voice", 2150, 2360)
    assert clock.reached(2000, 2360)


def test_a_modality_that_stops_holds_a_window_no_longer_than_idle_after(clock: SessionClock) -> None:
    clock.observe("voice", 1500, 1550)
    clock.observe("face", 2400, 2450)
    assert clock.closes_by_time_ms(2000, 1550, 2450) == 1550 + 1000


def test_a_silent_session_closes_when_event_time_would_have_got_there(clock: SessionClock) -> None:
    clock.observe("face", 1900, 1950)
    assert clock.closes_by_time_ms(2000, 1950, 1950) == 1950 + 1000  # idle_after is the longer wait
    assert clock.closes_by_time_ms(3500, 1950, 1950) == 1950 + 3500 + 150 - 1900


def test_a_chat_line_alone_does_not_wait_for_idle_after(clock: SessionClock) -> None:
    clock.observe("text", 1900, 1950)
    assert clock.closes_by_time_ms(2000, 1950, 1950) == 1950 + 2000 + 150 - 1900


def test_a_chat_line_does_not_close_a_window_before_the_face_goes_idle(clock: SessionClock) -> None:
    clock.observe("face", 1000, 1050)
    clock.observe("text", 1900, 1900)
    assert clock.closes_by_time_ms(1000, 1050, 1900) == 1050 + 1000


def test_no_window_stays_open_longer_than_max_open(clock: SessionClock) -> None:
    clock.observe("voice", 1000, 10_000)
    clock.observe("face", 9_000, 10_000)
    assert clock.closes_by_time_ms(9_500, 10_000, 10_000) <= 10_000 + RULE.max_open
    for kafka_ms in range(10_000, 20_000, 500):  # a voice that creeps holds the window until max_open
        clock.observe("voice", 1000 + (kafka_ms - 10_000) // 100, kafka_ms)
        clock.observe("face", kafka_ms, kafka_ms)
    assert clock.closes_by_time_ms(9_500, 10_000, 19_500) == 15_000


def test_an_event_time_older_than_the_horizon_no_longer_counts_as_newest(clock: SessionClock) -> None:
    clock.observe("face", 70_000, 66_000)
    assert clock.observe("face", 60_000, 66_000 + HORIZON)
    assert clock.newest_ms("face", 66_000 + HORIZON) == 60_000


def heard(offset_ms: Callable[[int], int], until_ms: int = 30_000, every_ms: int = 500) -> ClockOffsets:
    """The offsets after a session has sent a record every so often whose event time is off by so much."""
    offsets = ClockOffsets()
    for at_ms in range(1_000_000, 1_000_000 + until_ms, every_ms):
        offsets.observe("s", "video_frames", at_ms + offset_ms(at_ms - 1_000_000), at_ms)
    return offsets


def test_the_offset_is_that_of_the_record_that_was_fastest_on_its_way() -> None:
    assert heard(lambda at: -180_000 - (20 if at % 2000 == 0 else 900)).off() == {"s": -180_020}


@pytest.mark.parametrize(
    ("what", "offset_ms"),
    [
        ("a right clock", lambda at: -40),
        ("a slow connection", lambda at: -1900),
        ("an outage that is caught up with", lambda at: min(at - 25_000, -40)),
        ("a clock that is set right", lambda at: -60_000 if at < 15_000 else 0),
    ],
)
def test_what_is_no_steady_offset_is_not_reported(what: str, offset_ms: Callable[[int], int]) -> None:
    assert heard(offset_ms).off() == {}, what


def test_two_records_in_ten_seconds_say_nothing() -> None:
    assert heard(lambda at: -60_000, every_ms=5000).off() == {}
    assert heard(lambda at: -60_000, every_ms=3000).off() == {"s": -60_000}


def test_a_session_that_is_over_is_no_longer_reported() -> None:
    offsets = heard(lambda at: -60_000)
    offsets.observe("another", "video_frames", 1_045_000, 1_045_000)
    assert offsets.off() == {}


def test_of_many_wrong_clocks_the_worst_are_reported_and_memory_stays_bounded() -> None:
    offsets = ClockOffsets()
    for at_ms in range(0, 30_000, 1000):
        for n in range(100):
            offsets.observe(f"s{n}", "chat_messages", at_ms - 10_000 - n, at_ms)
    assert list(offsets.off().values()) == [-10_099 + n for n in range(MOST_REPORTED)]
    for n in range(MOST_CLOCKS + 5):
        offsets.observe(f"n{n}", "chat_messages", 30_000, 30_000)
    assert len(offsets._sessions) == MOST_CLOCKS  # noqa: SLF001 - it has no other use for its number
