"""Judge whether a message holds anything that a model of English can read."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from functools import cache
from typing import Any, Literal

from kernels.text.normalise import normalise
from kernels.text.signs import has_known_sign

Unreadable = Literal["nothing_readable", "language"]

_CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_LINK = re.compile(r"(?:https?://|www\.)\S+|\S+@\S+\.\w+|\b[\w-]+(?:\.[\w-]+)*\.(?:com|org|net|io|tv|gg|be)(?:/\S*)?")
_MENTION = re.compile(r"(?<!\w)@[\w.-]+|<[@#][!&]?\w+>")
_MARKUP = re.compile(r"\[(?:PAD|UNK|CLS|SEP|MASK)\]|</?\|?[a-z_]+\|?>|:[a-z0-9_+-]{2,}:", re.IGNORECASE)
"""Special tokens of models, tags, and short codes that stand for pictures."""
_ENOUGH_LETTERS = 8
"""Latin text with fewer is too short for its language to be told."""
_LANGUAGES = (
    "en de fr es pt it nl sv da no nb fi pl cs sk sl hr bs sr hu ro tr vi id ms tl sw et lv lt ca sq af is ga eu gl so "
    "ha yo zu xh rw om ig"
)
"""Those written in Latin letters that are told from English; rarer ones make short lines of English uncertain."""
_SURE, _ENGLISH_AT_MOST = 0.4, 0.06


def unreadable(text: str) -> Unreadable | None:
    """Say why a message can't be read by a model of English; None where it can.

    `nothing_readable`: no words and no sign that means a feeling: blanks, numbers, punctuation, links, names called,
    code, pictures of things. `language`: most letters are of another script; or Latin words are of another language,
    by py3langid. A line of one or two short words is taken for English.
    """
    plain = normalise(text)
    if _is_json(plain):
        return "nothing_readable"
    for noise in (_CODE, _LINK, _MARKUP):
        plain = noise.sub(" ", plain)
    words = _MENTION.sub(" ", plain)
    scripts = Counter(_is_latin(char) for char in words if char.isalpha())
    if scripts[False] > scripts[True] and not has_known_sign(words):
        return "language"
    letters = {char.lower() for char in words if char.isalpha()}
    if len(letters) < 2 and not has_known_sign(words):  # noqa: PLR2004 - "a", "zzz", "a a a"
        return "nothing_readable"
    return "language" if scripts[True] >= _ENOUGH_LETTERS and _is_foreign(words) else None


def _is_latin(char: str) -> bool:
    return char.isascii() or "LATIN" in unicodedata.name(char, "")


def _is_json(text: str) -> bool:
    stripped = text.strip()
    if stripped[:1] + stripped[-1:] not in ("{}", "[]"):
        return False
    try:
        return isinstance(json.loads(stripped), dict | list)
    except (ValueError, RecursionError):
        return False


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages([name for name in _LANGUAGES.split() if name in identifier.labels])
    return identifier


def _is_foreign(words: str) -> bool:
    ranked = dict(_identifier().rank(" ".join(words.split())))
    top = max(ranked, key=ranked.__getitem__)
    return bool(top != "en" and ranked[top] >= _SURE and ranked.get("en", 0.0) <= _ENGLISH_AT_MOST)
