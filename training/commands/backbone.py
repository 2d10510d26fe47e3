"""`sisa backbone`: make a frozen backbone, or see what one is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training.commands.command import guarded, project

backbone = typer.Typer(help="Frozen backbones: networks that never saw your pictures.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="efficientnet-lite0, torchvision/NAME or timm/NAME", show_default=False)]


@backbone.command(epilog="Examples: sisa backbone make efficientnet-lite0 | sisa backbone make torchvision/resnet50")
@guarded
def make(
    name: Name,
    size: Annotated[int | None, typer.Option(help="side that images are resized to")] = None,
    weights: Annotated[Path | None, typer.Option(help="a state dict, in place of the published weights")] = None,
    output: Annotated[Path | None, typer.Option(help="default: models/initial/NAME.onnx")] = None,
) -> None:
    """Write a pretrained network without its classifier as an ONNX file.

    Its weights come from a package, are downloaded, or are read from a file.
    """
    from training.backbone.make import make_backbone

    path = output or project().root / "models/initial" / f"{name.replace('/', '-')}.onnx"
    made = make_backbone(name, path, size, weights)
    print(f"licence of the weights: {made.licence}")
    tell(path)
    print(f"in params.yaml:\n\nnetwork:\n  name: frozen\n  backbone: models/initial/{path.name}")
    print("\ntraining:\n  method: ridge\n  l2: 0.5\n  threads: 2")


@backbone.command()
@guarded
def show(
    file: Annotated[Path, typer.Argument(help="an ONNX file", show_default=False)],
) -> None:
    """Say what a backbone is, or why a file is not one."""
    tell(file)


def tell(path: Path) -> None:
    from training.backbone.check import describe

    found = describe(path)
    takes = "images of any size" if found.side is None else f"images of {found.side} × {found.side} (data.image_size)"
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, takes {takes}, gives {found.features} features")
    print(f"sha256 {found.sha256}")
    for key, value in sorted(found.notes.items()):
        print(f"{key}: {value}")
