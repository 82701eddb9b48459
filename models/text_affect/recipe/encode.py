"""Run the shipped encoder on texts as the pipeline does, for recipes and evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.engines import MODELS, Engine, load
from kernels.text.tokens import TextTokens

MODEL = "text_affect"
MAX_TOKENS = 64
_BATCH = 32


class Encoder:
    """The model folder's ONNX and tokenizer, as `sense_text` runs them."""

    def __init__(self, *, threads: int = 2, models: Path = MODELS, max_tokens: int = MAX_TOKENS) -> None:
        self.engine: Engine = load(MODEL, threads=threads, models=models)
        self.tokens = TextTokens(models / MODEL / "tokenizer.json", max_tokens=max_tokens)

    def outputs(self, texts: Sequence[str]) -> Mapping[str, NDArray[Any]]:
        """Compute every output of the model (n x ...) for n texts, in their order; batches are sorted by length."""
        order = np.argsort([len(text) for text in texts], kind="stable")
        parts: list[Mapping[str, NDArray[Any]]] = []
        for start in range(0, len(order), _BATCH):
            tokens = self.tokens.encode([texts[int(at)] for at in order[start : start + _BATCH]])
            parts.append(self.engine.infer({"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask}))
        back = np.argsort(order, kind="stable")
        return {name: np.concatenate([part[name] for part in parts])[back] for name in parts[0]}
