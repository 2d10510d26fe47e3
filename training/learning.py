"""The sections ``network`` and ``training`` of params.yaml: what a shard's model is, and how it is trained.

There are two kinds of networks. One is trained as a whole, by SGD. The other is a head on a frozen public backbone,
which never saw the user's samples: in closed form by ridge regression, or by SGD as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from training.section import Count, Number, Section

INITIAL_WEIGHTS_FOLDER = Path("models/initial")  # DVC looks at it


class Network(Section):
    """A network that is trained as a whole, where its weights start, and how its input is normalised.

    ``weights``: ``none`` (from scratch), ``imagenet`` (torchvision's) or ``models/initial/NAME``, a
    state dict. ``normalisation``: ``imagenet``, its mean and standard deviation by channel, or
    ``half``, .5 for all of them, as the reference experiment does. Never the data's own: statistics
    of the training set would carry traces of forgotten samples into models that never saw them.
    ``test_time_flip``: an answer is the mean of those to the picture and to its mirror image. It takes twice as long
    and shapes no weights: no shard is trained for it.
    """

    name: Literal["resnet18", "resnet9"]
    weights: str = Field(min_length=1)
    normalisation: Literal["imagenet", "half"]
    test_time_flip: bool = False

    @model_validator(mode="after")
    def _weights_are_tracked_and_of_this_network(self) -> Network:
        # DVC looks at this folder: other weights under the same name must retrain everything.
        if self.weights not in ("none", "imagenet") and Path(self.weights).parent != INITIAL_WEIGHTS_FOLDER:
            raise ValueError(f"weights must be none, imagenet or {INITIAL_WEIGHTS_FOLDER}/NAME, found {self.weights!r}")
        if self.weights == "imagenet" and self.name != "resnet18":
            raise ValueError(f"weights: imagenet exist for resnet18, not for {self.name}; use none or a path")
        return self


class FrozenNetwork(Section):
    """A linear head on the features of a network that stays as it is: ``backbone``, ``models/initial/NAME.onnx``."""

    name: Literal["frozen"]
    backbone: str

    @field_validator("backbone")
    @classmethod
    def _backbone_is_tracked(cls, backbone: str) -> str:
        path = Path(backbone)
        if path.parent != INITIAL_WEIGHTS_FOLDER or path.suffix != ".onnx":
            raise ValueError(f"expected {INITIAL_WEIGHTS_FOLDER}/NAME.onnx (`sisa backbone make` writes one)")
        return backbone


class Sgd(Section):
    """What shapes the weights of a shard that is trained by SGD, beside its samples and the network.

    ``threads``: of the CPU. How many add up a sum changes its last bit, so they are part of what
    shapes the weights; on a GPU they change nothing but the key.
    """

    method: Literal["sgd"] = "sgd"
    epochs_per_slice: Count = Field(ge=1, le=10_000)
    batch_size: Count = Field(ge=2, le=65_536)
    learning_rate: Number = Field(gt=0)
    momentum: Number = Field(ge=0, lt=1)
    nesterov: bool
    weight_decay: Number = Field(ge=0)
    schedule: Literal["constant", "one-cycle"]
    label_smoothing: Number = Field(ge=0, lt=1)
    augmentation: Literal["none", "flip-crop"]
    precision: Literal["fp32", "bf16"]
    threads: Count = Field(ge=1, le=1024)

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Sgd:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov: true needs a momentum above 0, got 0")
        return self


class Ridge(Section):
    """A head in closed form. ``l2``: the penalty, as a share of the mean square of a (centred) feature, times samples.

    ``threads``: of the CPU, as for SGD.
    """

    epochs_per_slice: ClassVar[int] = 1  # it looks at each sample once

    method: Literal["ridge"]
    l2: Number = Field(gt=0)
    threads: Count = Field(ge=1, le=1024)


def _kind_of_network(network: Any) -> str:
    name = network.get("name") if isinstance(network, dict) else getattr(network, "name", None)
    return "frozen" if name == "frozen" else "trained"


def _method(training: Any) -> str:
    method = training.get("method") if isinstance(training, dict) else getattr(training, "method", None)
    return "ridge" if method == "ridge" else "sgd"


AnyNetwork = Annotated[
    Annotated[Network, Tag("trained")] | Annotated[FrozenNetwork, Tag("frozen")], Discriminator(_kind_of_network)
]
Training = Annotated[Annotated[Sgd, Tag("sgd")] | Annotated[Ridge, Tag("ridge")], Discriminator(_method)]


def by_sgd(training: Training) -> Sgd:
    """``training``, which is known to be by SGD. Raises TypeError where it is not."""
    if not isinstance(training, Sgd):
        raise TypeError(f"training.method is {training.method}, expected sgd")
    return training


def trained_network(network: AnyNetwork) -> Network:
    """``network``, which is known to be trained as a whole. Raises TypeError where it is not."""
    if not isinstance(network, Network):
        raise TypeError(f"network.name is {network.name}, expected a network that is trained as a whole")
    return network


def check_together(network: AnyNetwork, training: Training, image_size: int) -> None:
    """Raise ValueError unless such a network can be trained in this way on images of ``image_size``."""
    if isinstance(training, Ridge):
        if not isinstance(network, FrozenNetwork):
            raise ValueError(
                "training.method: ridge fits a head to the features of a frozen backbone; expected network.name "
                f"frozen, found {network.name}"
            )
    elif isinstance(network, FrozenNetwork):
        if training.augmentation != "none":
            raise ValueError(
                f"training.augmentation: {training.augmentation} changes pictures, but the features of a frozen "
                "backbone are computed once; use none"
            )
    # oneDNN 3.13's gradient of a strided convolution on 1 × 1 maps is uninitialised memory (docs/decisions.md).
    elif (network.name, training.precision) == ("resnet18", "bf16") and image_size < 32:
        raise ValueError(
            f"training.precision: bf16 with resnet18 does not repeat its bits on images below 32 × 32, found "
            f"data.image_size {image_size}; use fp32, or larger images"
        )
