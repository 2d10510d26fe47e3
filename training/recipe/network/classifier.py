"""The networks, from uint8 images to logits. Letters: N images, H = W their side, C classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.learning import AnyNetwork, trained_network
from training.recipe.network.resnet9 import resnet9

# Mean and standard deviation by channel, of values in [0, 1].
NORMALISATION = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


class Classifier(nn.Module):
    """(N, H, W, 3) uint8 images to (N, C) logits: normalisation is inside, so it cannot differ anywhere."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, normalisation: str) -> None:
        super().__init__()
        self.backbone = backbone
        for name, values in zip(("mean", "std"), NORMALISATION[normalisation], strict=True):
            self.register_buffer(name, 255 * torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        x = (images.permute(0, 3, 1, 2).float() - self.mean) / self.std
        logits: Tensor = self.backbone(x)
        return logits


def build_network(network: AnyNetwork, classes: int) -> Classifier:
    """An untrained network; its weights come from torch's global generator. Raises TypeError for a frozen one."""
    network = trained_network(network)
    backbone = {"resnet18": resnet18, "resnet9": resnet9}[network.name](classes)
    return Classifier(backbone, network.normalisation)


def resnet18(classes: int) -> nn.Module:
    """torchvision's ResNet-18 with the reference experiment's head of 512 ReLU units and dropout."""
    from torchvision.models import resnet18 as torchvisions  # here, since it takes longer to import than torch itself

    network: nn.Module = torchvisions()
    network.fc = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Dropout(0.5), nn.Linear(512, classes))
    return network
