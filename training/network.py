"""The networks, from uint8 pictures to logits.

The syntax tree of this file is part of every model's key: changing code here retrains all shards.
Letters: N pictures, H = W their side, C classes.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

# ImageNet's, for every network and data set: statistics of the training set would carry traces of
# forgotten samples into models that never saw them.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class Classifier(nn.Module):
    """(N, H, W, 3) uint8 pictures to (N, C) logits: normalisation is inside, so it cannot differ anywhere."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer("mean", 255 * torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        x = (images.permute(0, 3, 1, 2).float() - self.mean) / self.std
        logits: Tensor = self.backbone(x)
        return logits


def build_network(name: str, classes: int) -> Classifier:
    """An untrained network; its weights come from torch's global generator."""
    return Classifier({"resnet18": _resnet18, "resnet9": _resnet9}[name](classes))


def _resnet18(classes: int) -> nn.Module:
    """torchvision's ResNet-18 with the reference experiment's head of 512 ReLU units and dropout."""
    from torchvision.models import resnet18  # here, since it takes longer to import than torch itself

    network: nn.Module = resnet18()
    network.fc = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Dropout(0.5), nn.Linear(512, classes))
    return network


def _resnet9(classes: int) -> nn.Module:
    """A small residual network for 32×32 pictures from scratch, after David Page's for DAWNBench."""
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
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


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
