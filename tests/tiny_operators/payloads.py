"""The structs the tiny operators speak."""

from __future__ import annotations

from streamer.payloads import Keyed, SessionKeyed


class Word(SessionKeyed, frozen=True, kw_only=True):
    """A word somebody typed; not to be kept for long."""

    LONGEST_RETENTION_MS = 60_000

    text: str


class Count(SessionKeyed, frozen=True, kw_only=True):
    """How many letters a word has, as evidence of one modality."""

    modality: str = "keys"
    source_id: str = "keyboard"
    start_ms: int
    end_ms: int
    absent: bool = False
    source_kafka_ms: int = 0
    letters: int


class Total(SessionKeyed, frozen=True, kw_only=True):
    """The letters of one window."""

    letters: int


class Setting(Keyed, frozen=True, kw_only=True):
    """A value by its name, the same for every session."""

    name: str
    value: str
