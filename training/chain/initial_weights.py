"""What a shard's training starts from: random weights, torchvision's ImageNet weights, a file, or a frozen backbone."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from training.errors import TrainingError
from training.files import sha256_file
from training.learning import AnyNetwork, FrozenNetwork


def initial_weights_file(root: Path, network: AnyNetwork) -> Path | None:
    """The file to start from, below ``root`` or downloaded when it is torchvision's; None for random weights.

    Raises TrainingError when it is not there and cannot be fetched.
    """
    if isinstance(network, FrozenNetwork):
        return backbone_file(root, network)
    if network.weights == "none":
        return None
    if network.weights == "imagenet":
        return _imagenet_file()
    path = root / network.weights
    if not path.is_file():
        raise TrainingError(f"network.weights: {path} is not a file; put a state dict there, or use none or imagenet")
    return path


def backbone_file(root: Path, network: FrozenNetwork) -> Path:
    """Raises TrainingError when it is not there."""
    path = root / network.backbone
    if not path.is_file():
        raise TrainingError(
            f"network.backbone: {path} is not a file; `sisa backbone make` writes one (docs/backbones.md)"
        )
    return path


def initial_weights_digest(root: Path, network: AnyNetwork) -> str:
    """Hex SHA-256 of the file to start from; ``none`` for random weights."""
    path = initial_weights_file(root, network)
    return "none" if path is None else _digest(path, path.stat().st_mtime_ns, path.stat().st_size)


@cache
def _digest(path: Path, _mtime_ns: int, _size: int) -> str:
    """Read once a process for all shards, unless it is replaced meanwhile."""
    return sha256_file(path)


def _imagenet_file() -> Path:
    import torch
    from torchvision.models import ResNet18_Weights

    url: str = ResNet18_Weights.IMAGENET1K_V1.url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), hash_prefix=path.stem.rsplit("-", 1)[1])
        except (OSError, RuntimeError) as error:
            raise TrainingError(
                f"network.weights: imagenet could not be downloaded ({error}); put {path.name} at {path}, "
                "or give its path as network.weights"
            ) from error
    return path
