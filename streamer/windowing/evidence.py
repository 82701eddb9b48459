"""The fields a payload needs to be evidence in a window, and how the weight of evidence decays with age."""

from __future__ import annotations

from typing import Protocol

REACH_HALF_LIVES = 5
"""Evidence older than this many half-lives weighs nothing."""


class Evidence(Protocol):
    """A payload that can be windowed."""

    @property
    def session_id(self) -> str: ...  # noqa: D102
    @property
    def modality(self) -> str: ...  # noqa: D102
    @property
    def source_id(self) -> str: ...  # noqa: D102
    @property
    def start_ms(self) -> int: ...  # noqa: D102
    @property
    def end_ms(self) -> int: ...  # noqa: D102
    @property
    def absent(self) -> bool: ...  # noqa: D102
    @property
    def source_kafka_ms(self) -> int: ...  # noqa: D102


def decay(age_ms: int, half_life_ms: int) -> float:
    """The weight of evidence of an age: 2^(-age / half-life), and exactly 0 beyond 5 half-lives (DESIGN §5)."""
    if half_life_ms <= 0 or age_ms > REACH_HALF_LIVES * half_life_ms:
        return 0.0
    return float(2.0 ** (-age_ms / half_life_ms))
