"""The settings of hopping windows, as topology.yaml gives them under `window`."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamer.event_time import Duration
from streamer.windowing.closing_rule import ClosingRule


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """Half-open windows [end - size, end) whose ends are multiples of `hop`, and when they close.

    Args:
        size: length of a window.
        hop: distance between two windows' ends; divides `size`.
        rule: when a window closes.
        provisional: the topic for estimates of windows that are still open; None writes none.
        max_skew: a record whose event time is further ahead of the partition's Kafka time is refused (`clock_skew`).
        max_delay: a record whose event time is further behind it is refused (`late`).
        horizon: how long records are remembered, by Kafka time; longer than all of the above and five half-lives.
    """

    size: Duration = Duration(2000)
    hop: Duration = Duration(500)
    rule: ClosingRule = field(default_factory=ClosingRule)
    provisional: str | None = None
    max_skew: Duration = Duration(5000)
    max_delay: Duration = Duration(15_000)
    horizon: Duration = Duration(60_000)

    def ends_ms(self, event_time_ms: int) -> range:
        """The ends of the windows that contain an event time, earliest first."""
        first = (event_time_ms // self.hop + 1) * self.hop
        return range(first, first + self.size, self.hop)
