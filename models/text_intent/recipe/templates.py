"""Generate lines of chat with intent and family from templates.txt: choices drawn with a seed, written as in a chat.

A family is the unit of holding out: a split never separates lines of one family.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from kernels.intents import INTENTS

PATH = Path(__file__).with_name("templates.txt")
PER_FAMILY = 40
_DRAWS = 8
_CHOICE = re.compile(r"\(([^()]*\|[^()]*)\)")
_SLOT = re.compile(r"\{(\w+)\}")
_SHORT = {
    "you": "u", "are": "r", "your": "ur", "please": "plz", "something": "smth", "to": "2", "for": "4", "because": "cuz",
    "the": "da", "tomorrow": "tmrw", "tonight": "2nite", "and": "n", "with": "w", "later": "l8r", "people": "ppl",
    "this": "dis",
}  # fmt: skip
_APOSTROPHES = {
    "dont": "don't", "doesnt": "doesn't", "wont": "won't", "cant": "can't", "isnt": "isn't", "im": "I'm", "ill": "I'll",
    "id": "I'd", "its": "it's", "thats": "that's", "whats": "what's", "wheres": "where's", "whos": "who's", "i": "I",
    "theres": "there's", "lets": "let's", "hows": "how's", "youre": "you're", "shouldnt": "shouldn't",
    "gotta": "got to",
}  # fmt: skip
_ENDS = ("!", "!!", ".", "...", " lol", " haha", " 🙏", " 😂", " 😭", " ❤️", " 👀", " tbh", " omg", " :)", "?")
_BEGINS = ("ok ", "hey ", "hmm ", "so ", "well ", "um ", "oh ", "sorry, ", "dude ", "hi, ", "ugh ", "wait ")


class Line(NamedTuple):
    """A line of chat, its intent, and `intent family` (CLINC and GoEmotions lines: their data set's name)."""

    text: str
    intent: str
    family: str


class Templates(NamedTuple):
    """`slots` by name, and the patterns of each `intent family` in the order of the file."""

    slots: Mapping[str, Sequence[str]]
    families: Mapping[str, Sequence[str]]


def read(path: Path = PATH) -> Templates:
    """Read a file's slots and families.

    Raises:
        ValueError: an intent that is none of the ten, a slot without values, or a line outside every family.
    """
    slots: dict[str, list[str]] = {}
    families: dict[str, list[str]] = {}
    at: list[str] | None = None
    for number, raw in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("@"):
            name, _, values = line[1:].partition(":")
            slots[name] = [value.strip() for value in values.split("|")]
        elif line.startswith("["):
            at = families.setdefault(line.strip("[]"), [])
            if line.strip("[]").split()[0] not in INTENTS:
                raise ValueError(f"{path.name}:{number}: {line} begins with no session intent")
        elif at is None:
            raise ValueError(f"{path.name}:{number}: stands in no family")
        else:
            unknown = set(_SLOT.findall(line)) - slots.keys()
            if unknown:
                raise ValueError(f"{path.name}:{number}: no slot {', '.join(sorted(unknown))}")
            at.append(line)
    return Templates(slots, families)


def expand(pattern: str, slots: Mapping[str, Sequence[str]], draw: random.Random) -> str:
    """Expand a pattern to one of its lines: a choice or a slot at a time, all values equally likely."""
    while (choice := _CHOICE.search(pattern)) is not None:
        pattern = pattern[: choice.start()] + draw.choice(choice[1].split("|")) + pattern[choice.end() :]
    return " ".join(_SLOT.sub(lambda slot: draw.choice(slots[slot[1]]), pattern).split())


def as_chat(text: str, draw: random.Random) -> str:
    """Rewrite a plain line as typed in a chat: apostrophes, short forms, typos, openings, endings."""
    words = text.split(" ")
    if draw.random() < 0.5:  # noqa: PLR2004 - shares of a made-up chat, here and below
        words = [_APOSTROPHES.get(word, word) for word in words]
    elif draw.random() < 0.4:  # noqa: PLR2004
        words = [_SHORT[w] if w in _SHORT and draw.random() < 0.6 else w for w in words]  # noqa: PLR2004
    if draw.random() < 0.15:  # noqa: PLR2004
        at = draw.randrange(len(words))
        words[at] = _mistyped(words[at], draw)
    text = " ".join(words)
    if draw.random() < 0.1:  # noqa: PLR2004
        text = draw.choice(_BEGINS) + text
    if draw.random() < 0.25 and text[-1].isalnum():  # noqa: PLR2004
        text += draw.choice(_ENDS)
    return text


def _mistyped(word: str, draw: random.Random) -> str:
    if len(word) < 4:  # noqa: PLR2004 - a shorter word would be lost
        return word
    at = draw.randrange(1, len(word) - 1)
    swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return draw.choice((word[:at] + word[at + 1 :], swapped, word[:at] + word[at] + word[at:]))


def lines(templates: Templates, *, seed: int = 0, per_family: int = PER_FAMILY) -> list[Line]:
    """Generate up to `per_family` different lines of each family; the same for the same seed."""
    made: list[Line] = []
    for family, patterns in templates.families.items():
        draw = random.Random(f"{seed} {family}")  # noqa: S311 - repeatable, not secret
        found: dict[str, None] = {}
        for at in range(per_family * _DRAWS):
            found[as_chat(expand(patterns[at % len(patterns)], templates.slots, draw), draw)] = None
            if len(found) == per_family:
                break
        made += [Line(text, family.split()[0], family) for text in found]
    return made
