"""The voice network in PyTorch: masked log-mel and pitch frames in, four logits and a 128-wide embedding out.

Convolutions over time with dilation, then mean, deviation and attentive pooling over frames (x-vectors, Snyder et al.,
ICASSP 2018; attentive pooling, Okabe et al., Interspeech 2018, eq. 3-5).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kernels.log_mel import BANDS
from kernels.speech import FEATURES

WIDTH = 64
EMBEDDING = 128
CLASSES = 4


class Block(nn.Module):  # type: ignore[misc]  # torch is not typed here
    """Convolution, normalisation, ReLU; what lies outside the mask stays zero."""

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int = 1, stride: int = 1) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.convolution = nn.Conv1d(inputs, outputs, kernel, stride=stride, padding=padding, dilation=dilation)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(n, inputs, frames) and the mask of the output (n, 1, frames / stride) to (n, outputs, frames / stride)."""
        return torch.relu(self.norm(self.convolution(x))) * mask


class Voice(nn.Module):  # type: ignore[misc]  # torch is not typed here
    """One piece of speech to one answer; each band's mean over the piece is taken off it: microphones differ there."""

    def __init__(self, dropout: float = 0.3) -> None:
        super().__init__()
        self.first = Block(FEATURES, WIDTH, 5, stride=2)
        self.second = Block(WIDTH, WIDTH, 3, 2)
        self.third = Block(WIDTH, WIDTH, 3, 3)
        self.widen = nn.Conv1d(WIDTH, 2 * WIDTH, 1)
        self.attend = nn.Conv1d(2 * WIDTH, 1, 1)
        self.norm = nn.BatchNorm1d(6 * WIDTH)
        self.embed = nn.Linear(6 * WIDTH, EMBEDDING)
        self.decide = nn.Linear(EMBEDDING, CLASSES)
        self.drop_bands, self.drop = nn.Dropout1d(0.1), nn.Dropout(dropout)

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Features (n, frames, 67) and mask (n, frames) to logits (n, 4) and embedding (n, 128); frames is even."""
        x, m = features.transpose(1, 2), mask[:, None]
        mel, rest = x.split([BANDS, FEATURES - BANDS], dim=1)
        mel = (mel - (mel * m).sum(2, keepdim=True) / m.sum(2, keepdim=True)) * m
        half = m[:, :, ::2]
        x = self.drop_bands(self.first(torch.cat([mel, rest], dim=1), half))
        x = x + self.second(x, half)
        x = x + self.third(x, half)
        x = torch.relu(self.widen(x))
        count = half.sum(2)
        mean = (x * half).sum(2) / count
        deviation = torch.sqrt(((x - mean[:, :, None]) ** 2 * half).sum(2) / count + 1e-5)
        weight = torch.softmax(self.attend(torch.tanh(x)) + (half - 1) * 30.0, dim=2)
        pooled = torch.cat([mean, deviation, (x * weight).sum(2)], dim=1)
        embedding = torch.relu(self.embed(self.drop(self.norm(pooled))))
        return self.decide(self.drop(embedding)), embedding
