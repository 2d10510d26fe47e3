"""The weights a shard's training starts from: random, torchvision's ImageNet weights, or a file."""

from __future__ import annotations

from pathlib import Path

from training.errors import TrainingError
from training.files import sha256_file
from training.params import Network


def initial_weights_file(root: Path, network: Network) -> Path | None:
    """The file to start from, relative to ``root``, downloaded when it is torchvision's; None for random weights.

    Raises TrainingError when it is not there and cannot be fetched.
    """
    if network.weights == "none":
        return None
    if network.weights == "imagenet":
        return _imagenet_file()
    path = root / network.weights
    if not path.is_file():
        raise TrainingError(f"network.weights: {path} is not a file; put a state dict there, or use none or imagenet")
    return path


def initial_weights_digest(root: Path, network: Network) -> str:
    """Hex SHA-256 of the file to start from; ``none`` for random weights."""
    path = initial_weights_file(root, network)
    return "none" if path is None else sha256_file(path)


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
