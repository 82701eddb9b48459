"""What is replayed: the records that a platform would have published, each at its time since the session's start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """A record to publish: its time since the session's start, its topic, and its payload's fields."""

    at_ms: int
    topic: str
    fields: Mapping[str, Any]
