"""Read CLINC150: questions with their classes, and the session intents that these map to."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Literal, NamedTuple

from kernels.intents import NONE

Part = Literal["train", "val", "test"]
OUT_OF_SCOPE = "oos"

TO_INTENT: dict[str, str] = {
    "next_song": "change",
    "play_music": "find_specific",
    "update_playlist": "save_or_share",
    "whisper_mode": "calm_down",
    "what_can_i_ask_you": "ask_help",
    "goodbye": "leave",
}
"""CLINC classes that are a session intent; other classes and out-of-scope are `none`, but for those of `UNCLEAR`."""

QUIETER = re.compile(r"\b(down|lower|reduce|decrease|quiet\w*|soft\w*|slow\w*|less)\b")
"""Of `change_volume` and `change_speed`, the lines that ask for less: calm_down."""
LOUDER = re.compile(r"\b(up|raise|increase|louder|higher|bump\w*|fast\w*|quick\w*|more)\b")
"""Of the same classes, the lines that ask for more and not for less: `none`. The rest is left out."""
_SLIDERS = ("change_volume", "change_speed")
_AWAY = re.compile(r"\b(off|out|normal|leave|stop|exit|don'?t|end|quit)\b")
"""Lines of `whisper_mode` that may ask to end it: left out."""

UNCLEAR = frozenset({
    "cancel", "repeat", "reset_settings", "sync_device", "change_language", "change_accent", "share_location", "recipe",
    "account_blocked", "pin_change", "meal_suggestion", "find_phone", "shopping_list_update", "smart_home",
})  # fmt: skip
"""Ambiguous classes in a chat on a platform: used neither as an intent nor as `none` in training."""


class Question(NamedTuple):
    """A text and its CLINC class (`oos`: out of scope)."""

    text: str
    label: str


def read(data: Path, part: Part) -> list[Question]:
    """Read an official split of `data_full`: in-scope questions in file order, then out-of-scope ones."""
    splits = json.loads((data / "clinc150" / "data" / "data_full.json").read_text(encoding="utf-8"))
    return [Question(text, label) for text, label in [*splits[part], *splits[f"oos_{part}"]]]


def intent_of(question: Question) -> str | None:
    """Map a question to its session intent, or to None if it is left out."""
    text, label = question
    if label in UNCLEAR:
        return None
    if label in _SLIDERS:
        if QUIETER.search(text):
            return "calm_down"
        return NONE if LOUDER.search(text) else None
    if label == "whisper_mode" and _AWAY.search(text):
        return None
    return TO_INTENT.get(label, NONE)
