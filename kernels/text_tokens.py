"""Tokenize texts, in the same way for training, evaluation and the running pipeline."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MAX_CHARACTERS = 4000
"""Longer texts are cut before they are tokenized, so that one huge message cannot hold up a batch."""

_COLOUR_WORDS = frozenset({"BLACK", "WHITE", "HEAVY", "SIGN", "SYMBOL"})
"""Words of a Unicode name that describe the glyph and not its meaning ("HEAVY BLACK HEART")."""
_FIRST_SKIN_TONE, _LAST_SKIN_TONE = "\U0001f3fb", "\U0001f3ff"
_FIRST_PICTURE = "\u2190"
LENGTH_STEP = 8
"""Batches are padded to a multiple of this, so that few widths occur."""
_SPECIAL_TOKENS = 2


class Tokens(NamedTuple):
    """One padded batch of n texts, t tokens wide.

    `input_ids` and `attention_mask` are int64, n x t. `counts` (int64, n) are the numbers of tokens before truncation,
    `truncated` (bool, n) marks truncated texts, and `unknown` (float64, n) is the share of unknown tokens.
    """

    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    counts: NDArray[np.int64]
    truncated: NDArray[np.bool_]
    unknown: NDArray[np.float64]


def spell_out(text: str) -> str:
    """Replace each emoji of a text by its Unicode name.

    The encoder's vocabulary has no emoji: without this a crying face and a laughing one are both `[UNK]`, and in chat
    they are often the full message. Skin tones, joiners and variation selectors are dropped; a character that has no
    name in this Python's Unicode tables is left as it is.
    """
    if text.isascii():
        return text
    out: list[str] = []
    for char in text:
        if char in "\ufe0f\u200d" or _FIRST_SKIN_TONE <= char <= _LAST_SKIN_TONE:
            continue
        if char >= _FIRST_PICTURE and unicodedata.category(char) == "So" and (name := unicodedata.name(char, "")):
            words = [word for word in name.split() if word not in _COLOUR_WORDS]
            out.append(f" {' '.join(words or name.split()).lower()} ")
        else:
            out.append(char)
    return "".join(out)


class TextTokens:
    """A tokenizer from a `tokenizer.json`, which makes padded batches of at most `max_tokens` columns.

    `pad_id` is the padding token's id and `unknown` the unknown token (None for a vocabulary without one). Emoji are
    spelled out, unless `spelled` is False.
    """

    def __init__(
        self, path: Path, *, max_tokens: int, pad_id: int = 0, unknown: str | None = "[UNK]", spelled: bool = True
    ) -> None:
        from tokenizers import Tokenizer  # noqa: PLC0415 - heavy: imported late, only where text is read

        self.max_tokens = max_tokens
        self._tokenizer: Tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._unknown_id = self._tokenizer.token_to_id(unknown) if unknown else None
        self._pad_id, self._spelled = pad_id, spelled

    def encode(self, texts: Sequence[str]) -> Tokens:
        """Encode n texts as one batch; its width is the longest text's, rounded up to 8, at most `max_tokens`.

        A text over the limit keeps its first tokens and its closing `[SEP]`. An empty text is its two special tokens.
        """
        prepared = [spell_out(text[:MAX_CHARACTERS]) if self._spelled else text[:MAX_CHARACTERS] for text in texts]
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch(prepared)]
        counts = np.array([len(row) for row in rows], dtype=np.int64)
        cut = np.array([len(text) > MAX_CHARACTERS for text in texts], dtype=np.bool_)
        longest = min(self.max_tokens, int(counts.max(initial=2)))
        width = min(self.max_tokens, -(-longest // LENGTH_STEP) * LENGTH_STEP)
        ids = np.full((len(rows), width), self._pad_id, dtype=np.int64)
        mask = np.zeros((len(rows), width), dtype=np.int64)
        for at, row in enumerate(rows):
            tokens = row if len(row) <= self.max_tokens else [*row[: self.max_tokens - 1], row[-1]]
            ids[at, : len(tokens)] = tokens
            mask[at, : len(tokens)] = 1
        words = np.maximum(mask.sum(axis=1) - _SPECIAL_TOKENS, 1)
        unspelled = np.zeros(len(rows)) if self._unknown_id is None else (ids == self._unknown_id).sum(axis=1)
        unknown = np.asarray(unspelled / words, dtype=np.float64)
        return Tokens(ids, mask, counts, cut | (counts > self.max_tokens), unknown)
