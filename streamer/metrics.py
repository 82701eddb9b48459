"""Counts and latency histograms of one operator, which worker reports publish.

Their names are closed lists: `Reason` says why a record was dropped or refused, `Count` adds what else is counted,
`Stage` is what is timed, in milliseconds.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from streamer.event_time import ClockOffsets

Reason = Literal[
    "busy",  # queue policy `latest`: a newer record of the session was waiting
    "stale",  # queue policy `max_age`: older than it by Kafka time
    "late",  # every window it belongs to is closed, or more than max_delay behind its own Kafka time
    "duplicate",  # an identity seen before
    "clock_unit",  # a time in seconds, microseconds or nanoseconds where milliseconds are due
    "clock_skew",  # event time more than max_skew ahead of its own Kafka time
    "no_consent",  # not granted, or withdrawn
    "before_consent",  # granted, but captured before that: late, or a clock that runs behind
    "switched_off",  # the deployer's kill switch
    "minor",  # the person is a minor
    "age_not_said",  # nobody has said that the person is of age, which face and voice need
    "bystander",  # somebody else: another speaker, or more than one usable face
    "undecodable",  # the value is not what the topic promises
    "unknown_version",  # a higher payload major than this build reads
    "too_large",  # more items or bytes than can be kept and ranked
    "unknown_modality",  # a consent grants one that this topology does not declare: left aside
    "unknown_item",  # a candidate that the catalogue does not know
    "no_face",  # none was found in the picture
    "no_speech",  # none was found in the sound
    "noise",  # what seemed to be speech isn't: clicks, hiss, a hum
    "music",  # the same, of something that has a pitch: music, a tone, a siren
    "language",  # a text in a language that the model can't read
    "nothing_readable",  # a text without words or signs: blanks, numbers, links, code
    "gone",  # recovery had to read it again, and Kafka no longer had it
    "failed",  # the operator raised, retries included
    "foreign_partition",  # the key's murmur2 partition is another one: joins break
]
Count = Reason | Literal["read", "processed", "written", "dead_lettered", "finals", "provisionals", "ticks", "withheld"]
Stage = Literal["wait", "process", "produce", "decode", "detect", "encode", "fuse", "rank", "end_to_end"]

_EDGES_MS = tuple(round(0.05 * 1.25**i, 4) for i in range(64))  # 0.05 ms to 63 s, 25 % wide: p95 within 12 %


class Histogram:
    """Quantiles of durations in milliseconds, from fixed buckets, each 25 % wider than the last: constant memory."""

    def __init__(self) -> None:
        self._buckets = [0] * (len(_EDGES_MS) + 1)
        self.count = 0
        self.max_ms = 0.0

    def add(self, value_ms: float) -> None:
        """Add one duration; a negative one (the clocks of two machines differ) counts as 0."""
        self._buckets[bisect.bisect_left(_EDGES_MS, value_ms)] += 1
        self.count += 1
        self.max_ms = max(self.max_ms, value_ms)

    def quantile(self, q: float) -> float:
        """The upper edge in ms of the bucket that holds quantile `q` in (0, 1]; 0.0 when nothing was counted."""
        rank, seen = q * self.count, 0
        for edge, n in zip((*_EDGES_MS, self.max_ms), self._buckets, strict=True):
            seen += n
            if n and seen >= rank:
                return min(edge, self.max_ms)
        return 0.0

    def summary(self) -> dict[str, float]:
        """Count, p50, p95, p99 and maximum."""
        quantiles = {f"p{round(q * 100)}": self.quantile(q) for q in (0.5, 0.95, 0.99)}
        return {"count": float(self.count), **quantiles, "max": self.max_ms}


class Metrics:
    """One operator's counts and histograms since the last `drain`, and what it learned of its sessions' clocks."""

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._stages: dict[str, Histogram] = {}
        self.clocks = ClockOffsets()

    def count(self, name: Count, n: int = 1) -> None:
        """Count `n` of a named thing."""
        self._counts[name] += n
        self.totals[name] += n

    def time(self, stage: Stage, values_ms: Sequence[float]) -> None:
        """Add durations in milliseconds to a stage's histogram."""
        histogram = self._stages.setdefault(stage, Histogram())
        for value in values_ms:
            histogram.add(value)

    def drain(self) -> tuple[dict[str, int], dict[str, dict[str, float]]]:
        """Counts and histogram summaries since the last call; starts new ones."""
        counts, stages = dict(self._counts), {name: h.summary() for name, h in self._stages.items()}
        self._counts, self._stages = Counter(), {}
        return counts, stages
