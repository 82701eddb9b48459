"""The voice network in PyTorch: logits and a 128-wide embedding from masked log-mel and pitch frames.

Convolutions over time with dilation, then mean, deviation and attentive pooling over frames (x-vectors, Snyder et al.,
ICASSP 2018; attentive pooling, Okabe et al., Interspeech 2018, eq. 3-5).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kernels.voice.log_mel import BANDS
from kernels.voice.speech import FEATURES

EMBEDDING = 128


class Block(nn.Module):  # type: ignore[misc]  # torch is not typed here
    """Convolution, normalisation, ReLU; frames outside the mask stay zero."""

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int = 1, stride: int = 1) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.convolution = nn.Conv1d(inputs, outputs, kernel, stride=stride, padding=padding, dilation=dilation)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map x (n, inputs, frames) to (n, outputs, frames / stride); the mask is (n, 1, frames / stride)."""
        return torch.relu(self.norm(self.convolution(x))) * mask


class Voice(nn.Module):  # type: ignore[misc]  # torch is not typed here
    """Classify pieces of speech; each band's mean over the piece is subtracted, since microphones differ in it."""

    def __init__(
        self, classes: int = 4, width: int = 64, dilations: Sequence[int] = (2, 3), dropout: float = 0.3
    ) -> None:
        super().__init__()
        self.first = Block(FEATURES, width, 5, stride=2)
        self.rest = nn.ModuleList([Block(width, width, 3, dilation) for dilation in dilations])
        self.widen = nn.Conv1d(width, 2 * width, 1)
        self.attend = nn.Conv1d(2 * width, 1, 1)
        self.norm = nn.BatchNorm1d(6 * width)
        self.embed = nn.Linear(6 * width, EMBEDDING)
        self.decide = nn.Linear(EMBEDDING, classes)
        self.drop_bands, self.drop = nn.Dropout1d(0.1), nn.Dropout(dropout)

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Map features (n, frames, 67) and mask (n, frames) to logits (n, classes) and embedding (n, 128)."""
        x, m = features.transpose(1, 2), mask[:, None]
        mel, rest = x.split([BANDS, FEATURES - BANDS], dim=1)
        mel = (mel - (mel * m).sum(2, keepdim=True) / m.sum(2, keepdim=True)) * m
        half = m[:, :, ::2]
        x = self.drop_bands(self.first(torch.cat([mel, rest], dim=1), half))
        for block in self.rest:
            x = x + block(x, half)
        x = torch.relu(self.widen(x))
        count = half.sum(2)
        mean = (x * half).sum(2) / count
        deviation = torch.sqrt(((x - mean[:, :, None]) ** 2 * half).sum(2) / count + 1e-5)
        weight = torch.softmax(self.attend(torch.tanh(x)) + (half - 1) * 30.0, dim=2)
        pooled = torch.cat([mean, deviation, (x * weight).sum(2)], dim=1)
        embedding = torch.relu(self.embed(self.drop(self.norm(pooled))))
        return self.decide(self.drop(embedding)), embedding


class Together(nn.Module):  # type: ignore[misc]  # torch is not typed here
    """Networks of several seeds as one: the mean of their logits, and the first one's embedding."""

    def __init__(self, members: Sequence[Voice]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """As `Voice`."""
        outputs = [member(features, mask) for member in self.members]
        return torch.stack([logits for logits, _ in outputs]).mean(0), outputs[0][1]
