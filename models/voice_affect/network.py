"""The voice network in PyTorch: masked log-mel and pitch frames in, four logits and a 128-wide embedding out.

Four small members look at one piece in different ways and their logits are averaged; the embedding is theirs side by
side (4 x 32). Each: convolutions over time with dilation, then mean, deviation and attentive pooling over frames
(x-vector, Snyder et al., ICASSP 2018; attentive pooling, Okabe et al., Interspeech 2018, eq. 3-5).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from kernels.log_mel import BANDS
from kernels.speech import FEATURES

View = Literal["level", "shape", "picture"]
MEMBERS: tuple[View, ...] = ("level", "shape", "picture", "shape")
WIDTH = 48
EMBEDDING = 32
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


class Picture(nn.Module):  # type: ignore[misc]  # torch is not typed here
    """Two-dimensional convolutions over (band, frame): patterns may lie higher or lower. Halves the frames."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, channels, 5, stride=2, padding=2)
        self.first_norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, 2 * channels, 3, stride=(2, 1), padding=1)
        self.second_norm = nn.BatchNorm2d(2 * channels)
        self.width = 2 * channels * BANDS // 4

    def forward(self, mel: Tensor, mask: Tensor) -> Tensor:
        """(n, 64, frames) and the halved mask (n, 1, frames / 2) to (n, width, frames / 2)."""
        x = torch.relu(self.first_norm(self.first(mel[:, None]))) * mask[:, None]
        x = torch.relu(self.second_norm(self.second(x))) * mask[:, None]
        return x.flatten(1, 2)


class Member(nn.Module):  # type: ignore[misc]  # torch is not typed here
    """One way to look: `level` keeps each band's level, `shape` takes its mean off each band, `picture` is 2-D."""

    def __init__(self, view: View, dropout: float) -> None:
        super().__init__()
        self.view = view
        self.picture = Picture() if view == "picture" else None
        inputs = FEATURES if self.picture is None else self.picture.width + FEATURES - BANDS
        self.first = Block(inputs, WIDTH, 5, stride=2) if self.picture is None else Block(inputs, WIDTH, 3)
        self.second = Block(WIDTH, WIDTH, 3, 2)
        self.third = Block(WIDTH, WIDTH, 3, 3)
        self.widen = nn.Conv1d(WIDTH, 2 * WIDTH, 1)
        self.attend = nn.Conv1d(2 * WIDTH, 1, 1)
        self.norm = nn.BatchNorm1d(6 * WIDTH)
        self.embed = nn.Linear(6 * WIDTH, EMBEDDING)
        self.decide = nn.Linear(EMBEDDING, CLASSES)
        self.drop_bands, self.drop = nn.Dropout1d(0.1), nn.Dropout(dropout)

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Features (n, frames, 67) and mask (n, frames) to logits (n, 4) and embedding (n, 32); frames is even."""
        x, m = features.transpose(1, 2), mask[:, None]
        mel, rest = x[:, :BANDS], x[:, BANDS:]
        if self.view == "shape":
            mel = (mel - (mel * m).sum(2, keepdim=True) / m.sum(2, keepdim=True)) * m
        half = m[:, :, ::2]
        if self.picture is not None:
            mel, rest = self.picture(mel, half), rest[:, :, ::2]
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


class Voices(nn.Module):  # type: ignore[misc]  # torch is not typed here
    """The members together: mean of their logits, embeddings side by side."""

    def __init__(self, members: list[Member]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Features (n, 300, 67) and mask (n, 300) to logits (n, 4) and embedding (n, 128)."""
        found = [member(features, mask) for member in self.members]
        return torch.stack([logits for logits, _ in found]).mean(0), torch.cat([e for _, e in found], dim=1)
