"""Tokenize texts, in the same way for training, evaluation and the running pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.text.normalise import normalise
from kernels.text.signs import signs_as_words

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MAX_CHARACTERS = 4000
"""Longer texts are cut before they are tokenized, so that one huge message cannot hold up a batch."""

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


class TextTokens:
    """A tokenizer from a `tokenizer.json`, which makes padded batches of at most `max_tokens` columns.

    `pad_id` is the padding token's id and `unknown` the unknown token (None for a vocabulary without one). Texts are
    normalised first; emoji and emoticons become words, unless `spelled` is False. What a person writes is never taken
    for a special token.
    """

    def __init__(
        self, path: Path, *, max_tokens: int, pad_id: int = 0, unknown: str | None = "[UNK]", spelled: bool = True
    ) -> None:
        from tokenizers import Tokenizer  # noqa: PLC0415 - heavy: imported late, only where text is read

        self.max_tokens = max_tokens
        self._tokenizer: Tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True  # "[SEP]" typed by a person is six characters
        self._unknown_id = self._tokenizer.token_to_id(unknown) if unknown else None
        self._pad_id, self._spelled = pad_id, spelled

    def encode(self, texts: Sequence[str]) -> Tokens:
        """Encode n texts as one batch; its width is the longest text's, rounded up to 8, at most `max_tokens`.

        A text over the limit keeps its first tokens and its closing `[SEP]`. An empty text is its two special tokens.
        """
        prepared = [normalise(text[:MAX_CHARACTERS]) for text in texts]
        if self._spelled:
            prepared = [signs_as_words(text) for text in prepared]
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
