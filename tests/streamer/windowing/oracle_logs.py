"""Logs to try the time rules with: observations of many sessions in, with delays, repeats, silences and wrong clocks.

Rules are drawn small (a window of 0.4 s, a horizon of 3 s), so that a log of 60 records crosses every border there is.
`HYPOTHESIS_PROFILE=deep` tries ten times as many.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

from hypothesis import settings
from hypothesis import strategies as st

from operators.payloads import Observation
from streamer.event_time import Duration
from streamer.operator import Window
from streamer.windowing.closing_rule import ClosingRule
from streamer.windowing.window_spec import WindowSpec
from tests.streamer.windowing.oracle import Entry, Final, Rules

START_MS = 1_000_000
SESSIONS = ("a", "b", "c", "d")
MODEL = "face_affect@1"
FLOW_MS = 100


def examples(number: int) -> settings:
    """How many logs a test tries; ten times as many with HYPOTHESIS_PROFILE=deep. No log has a deadline."""
    deep = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
    return settings(max_examples=number * (10 if deep else 1), deadline=None)


@dataclass(frozen=True)
class Step:
    """Records to append: the first `gap_ms` after the step before; readings `flow` times, each 100 ms, as of a camera.

    They are of events `lag_ms` ago, and stamped `slip_ms` wrong. A `repeat` says again what was said `back` records
    before; a `withdrawal` takes back its modality.
    """

    gap_ms: int
    session: int = 0
    modality: str = "face"
    lag_ms: int = 20
    source: str = "x"
    kind: Literal["reading", "absent", "withdrawal", "repeat", "tick"] = "reading"
    back: int = 1
    flow: int = 1
    slip_ms: int = 0


rules = st.builds(
    lambda size, idle, delay, skew, text, extra: Rules(
        size=size,
        hop=200,
        lateness=50,
        idle_after=idle,
        max_open=800,
        sparse=frozenset({"text", "behaviour"}),
        max_skew=skew,
        max_delay=delay,
        horizon=5 * max(300, text) + size + 800 + delay + skew + extra,
        half_life_ms={"face": 100, "voice": 300, "behaviour": 200, **({"text": text} if text else {})},
    ),
    size=st.sampled_from([400, 800]),
    idle=st.sampled_from([300, 150]),
    delay=st.sampled_from([1500, 500]),
    skew=st.sampled_from([300, 1000]),
    text=st.sampled_from([400, 0]),
    extra=st.sampled_from([0, 700]),
)

_gaps = st.one_of(st.sampled_from([50, 0, 1, 20, 100, 150, 300]), st.sampled_from([400, 1000, 2500, 6000]))
_far = [-280, -310, -990, -1010, 480, 510, 900, 1490, 1510]  # on both sides of where a clock or a delay is refused
_lags = st.one_of(st.sampled_from([20, 0, 50, 60, 100, 150, -100]), st.integers(0, 300), st.sampled_from([20, *_far]))
_kinds: st.SearchStrategy[Any] = st.sampled_from(
    ["reading"] * 9 + ["absent", "withdrawal", "repeat", "repeat", "tick"],
)
steps = st.lists(
    st.builds(
        Step,
        gap_ms=_gaps,
        session=st.integers(0, 2),
        modality=st.sampled_from(["face", "voice", "text", "behaviour"]),
        lag_ms=_lags,
        source=st.sampled_from(["x", "y"]),
        kind=_kinds,
        back=st.integers(1, 12),
        flow=st.one_of(st.just(1), st.integers(1, 20)),
        slip_ms=st.sampled_from([0, 0, 0, 0, -40, -300, 200]),
    ),
    min_size=1,
    max_size=20,
)
_wrong = st.sampled_from([40, -100, 200, 900, -1400, 5000])
clocks_ms = st.one_of(
    st.just((0,) * len(SESSIONS)),
    st.builds(
        lambda one, wrong: tuple(wrong if n == one else 0 for n in range(len(SESSIONS))), st.integers(0, 2), _wrong
    ),
)
"""By how much each session's clock is wrong: of one at most, lags are wrong enough."""


def observation(step: Step, at_ms: int, number: int) -> Observation:
    """What a step says at an event time; `number` makes it tell itself from all others."""
    absent = step.kind in ("absent", "withdrawal")
    share = (number * 37 % 89 + 1) / 100
    return Observation(
        session_id=SESSIONS[step.session],
        event_time_ms=at_ms,
        modality=step.modality,
        source_id=step.source,
        start_ms=at_ms,
        end_ms=at_ms,
        absent=absent,
        reason="no_consent" if step.kind == "withdrawal" else "no_face" if absent else None,
        emotions=None if absent else {"happiness": share, "sadness": 1 - share},
        intents={"leave": share, "none": 1 - share} if step.modality in ("text", "behaviour") and not absent else None,
        confidence=0.0 if absent else 0.4 + number % 7 / 20,
        model="" if absent else MODEL,
        source_kafka_ms=at_ms + 5,
    )


def said(script: Sequence[Step], clocks_ms: Sequence[int] = (0,) * len(SESSIONS)) -> list[tuple[int, Any]]:
    """A script to (moment of appending, observation or None for a tick); steps go on side by side, moments slip."""
    begins = accumulate((step.gap_ms for step in script), initial=START_MS)
    turns = [
        (begin + step.gap_ms + FLOW_MS * turn, n, step)
        for n, (begin, step) in enumerate(zip(begins, script, strict=False))
        for turn in range(step.flow if step.kind in ("reading", "absent") else 1)
    ]
    found = list[tuple[int, Any]]()
    for at_ms, _, step in sorted(turns, key=lambda turn: turn[:2]):
        earlier = [o for _, o in found if o is not None]
        if step.kind == "tick":
            told = None
        elif step.kind == "repeat" and earlier:
            told = earlier[-min(step.back, len(earlier))]
        else:
            told = observation(step, at_ms - step.lag_ms + clocks_ms[step.session], len(found))
        found.append((at_ms + step.slip_ms, told))
    return found


def as_log(messages: Sequence[tuple[int, Any]]) -> list[Entry]:
    """(LogAppendTime, observation or None) to a log; every fifth offset is missing, as after a transaction."""
    return [Entry(i + i // 4, stamp_ms, payload) for i, (stamp_ms, payload) in enumerate(messages)]


def spec_of(rules: Rules) -> WindowSpec:
    """The oracle's numbers as the windows under test take them."""
    closing = ClosingRule(Duration(rules.lateness), Duration(rules.idle_after), Duration(rules.max_open), rules.sparse)
    size, hop, skew = Duration(rules.size), Duration(rules.hop), Duration(rules.max_skew)
    return WindowSpec(size, hop, closing, None, skew, Duration(rules.max_delay), Duration(rules.horizon))


def as_final(window: Window) -> Final:
    """A window that was closed as the oracle tells of it."""
    assert window.closed_at_ms is not None
    evidence = tuple((p.offset, p.weight, p.inside) for p in window.pieces)
    newest: Mapping[str, int] = dict(window.newest_ms)
    return Final(
        window.trigger, window.closed_at_ms, window.session_id, window.start_ms, window.end_ms, evidence,
        window.active, newest,
    )  # fmt: skip
