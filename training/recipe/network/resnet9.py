"""ResNet-9: a small residual network for images of 32 × 32 from scratch, after David Page's for DAWNBench.

It starts like an identity, as in Jordan, "94% on CIFAR-10 in 3.29 seconds" (2024), section 3.3: each convolution but
the first hands its inputs on. Small shards learn faster from there.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn.init import dirac_


def resnet9(classes: int) -> nn.Module:
    """(N, 3, H, W) normalised to (N, ``classes``) logits."""
    features = nn.Sequential(
        _conv(3, 16),
        _conv(16, 32),
        nn.MaxPool2d(2),
        Residual(32),
        _conv(32, 64),
        nn.MaxPool2d(2),
        _conv(64, 128),
        nn.MaxPool2d(2),
        Residual(128),
        GlobalMax(),
    )
    head = nn.Linear(128, classes, bias=False)
    return nn.Sequential(OrderedDict(features=features, fc=head, scale=Scale(0.125)))


def _conv(inputs: int, outputs: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    if inputs > 3:
        dirac_(convolution.weight.data[:inputs])  # what is beyond these stays random
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """x + conv(conv(x)), (N, channels, H, W) to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(_conv(channels, channels), _conv(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.convs(x)
        return y


class GlobalMax(nn.Module):
    """(N, channels, H, W) to (N, channels). ``amax``: AdaptiveMaxPool2d has no deterministic backward on CUDA."""

    def forward(self, x: Tensor) -> Tensor:
        return x.amax(dim=(2, 3))


class Scale(nn.Module):
    """Multiply logits by a constant, so that their softmax starts soft."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor
