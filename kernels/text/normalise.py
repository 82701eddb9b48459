"""Make a message readable: what clients and people disguise becomes the letters that they mean."""

from __future__ import annotations

import html
import re
import unicodedata

_KEPT_CONTROLS = "\n\t\r"
_BLANK = dict.fromkeys([0x2800, 0x115F, 0x1160, 0x3164, 0xFFA0, 0x034F, 0x17B4, 0x17B5], "")
"""Characters that show nothing although Unicode calls them letters, symbols or marks."""
_TAGS = re.compile("[\U000e0000-\U000e007f]")
_ENCLOSED = re.compile("[\u2460-\u24ff\U0001f130-\U0001f189]")
"""Letters and digits in circles and squares, which Unicode calls symbols."""
_JOINERS = "\u200d\ufe0f\ufe0e"
_SPACED_OUT = re.compile(r"(?<!\S)(?:[^\W\d_] ){2,}[^\W\d_](?!\S)")


def normalise(text: str) -> str:
    """Return a text without disguise.

    HTML entities are resolved; letters of other alphabets of the same shape class (mathematical, full-width, circled:
    Unicode's NFKC) become plain; characters that show nothing are dropped, but for those that join emoji; so are marks
    piled upon Latin letters that are no letter of a language (struck through, "zalgo"); `w h y` becomes `why`.
    """
    if text.isascii() and "&" not in text and text.isprintable():
        return _close_up(text)
    text = html.unescape(html.unescape(text)) if "&" in text else text
    text = unicodedata.normalize("NFC", _TAGS.sub("", text).translate(_BLANK))
    text = "".join(_plain(char) for char in text)
    return _close_up(_without_piled_marks("".join(char for char in text if _shows(char))))


def _plain(char: str) -> str:
    """The compatible letters or digits of a character; itself where they would be something else."""
    if unicodedata.category(char)[0] not in "LN" and not _ENCLOSED.match(char):
        return char
    plain = unicodedata.normalize("NFKC", char)
    return plain if plain.isalnum() else char


def _shows(char: str) -> bool:
    return char in _KEPT_CONTROLS or char in _JOINERS or unicodedata.category(char) not in ("Cf", "Cc", "Co")


def _without_piled_marks(text: str) -> str:
    """Drop combining marks that are left after composition on a Latin letter, a digit, a space or punctuation."""
    if not any(unicodedata.combining(c) for c in text):
        return text
    out: list[str] = []
    base_is_latin = True
    for char in text:
        if not unicodedata.combining(char):
            base_is_latin = not char.isalpha() or "LATIN" in unicodedata.name(char, "")
        elif base_is_latin:
            continue
        out.append(char)
    return "".join(out)


def _close_up(text: str) -> str:
    return _SPACED_OUT.sub(lambda match: match[0].replace(" ", ""), text)
