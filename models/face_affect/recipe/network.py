"""The face network in PyTorch: logits and a 256-wide embedding of grey faces; 40 M multiply-adds for one side.

A residual network (He et al. 2016, basic blocks) at 24, 12 and 6 pixels. The picture is folded to 4 x 24 x 24 first, so
that no layer works at full size; a shortcut that shrinks averages before its convolution (He et al. 2019, fig. 2).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SIZE = 48
EMBEDDING = 256
_FLAT = 4.0
"""A picture whose grey values vary less than this (standard deviation) isn't stretched any further."""


def convolution(inputs: int, outputs: int, *, size: int = 3, stride: int = 1) -> nn.Sequential:
    """A convolution that keeps its picture's size (over the stride), and batch normalisation."""
    layer = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs))


class Block(nn.Module):  # type: ignore[misc,unused-ignore]  # torch is untyped where it is not installed
    """Two 3 x 3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = convolution(inputs, outputs, stride=stride)
        self.second = convolution(outputs, outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1:
            self.shortcut = nn.Sequential(nn.AvgPool2d(stride), convolution(inputs, outputs, size=1))

    def forward(self, x: Tensor) -> Tensor:
        """Map features (n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        y: Tensor = self.second(torch.relu(self.first(x)))
        return torch.relu(y + self.shortcut(x))


class FaceNet(nn.Module):  # type: ignore[misc,unused-ignore]  # torch is untyped where it is not installed
    """Map grey faces (n x 1 x 48 x 48, 0..255) to logits (n x 7, in the order of `SEVEN`) and embedding (n x 256)."""

    def __init__(self, classes: int = 7, widths: tuple[int, int, int] = (32, 64, 160), dropout: float = 0.2) -> None:
        super().__init__()
        small, middle, wide = widths
        self.features = nn.Sequential(
            nn.PixelUnshuffle(2),
            convolution(4, small),
            nn.ReLU(),
            Block(small, middle, 2),
            Block(middle, middle, 1),
            Block(middle, wide, 2),
            Block(wide, wide, 1),
            convolution(wide, EMBEDDING, size=1),
            nn.ReLU(),
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(EMBEDDING, classes)

    def forward(self, faces: Tensor) -> tuple[Tensor, Tensor]:
        """As the class describes; light and contrast are normalised here, so that every runtime does it alike."""
        centred = faces - faces.mean((2, 3), keepdim=True)
        deviation = centred.square().mean((2, 3), keepdim=True).sqrt()
        embedding = self.features(centred / deviation.clamp(min=_FLAT)).mean((2, 3))
        return self.head(self.dropout(embedding)), embedding


class BothSides(nn.Module):  # type: ignore[misc,unused-ignore]  # torch is untyped where it is not installed
    """A `FaceNet` on each face as it is and mirrored, averaged: the network that is exported.

    Both sides are one batch, so the weights are read from memory once.
    """

    def __init__(self, net: FaceNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, faces: Tensor) -> tuple[Tensor, Tensor]:
        """As `FaceNet`."""
        logits, embedding = self.net(torch.cat([faces, faces.flip(3)]))
        return logits.unflatten(0, (2, -1)).mean(0), embedding.unflatten(0, (2, -1)).mean(0)
