"""The command ``sisa``: what is not a stage of the pipeline."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from training import stage
from training.erasure.forget_list import read_forget_lists
from training.evaluation.drills import Step, run_drill, run_dvc
from training.evaluation.results import write_results
from training.params import Params, check_params, load_params
from training.partition import locate
from training.paths import HTML_REPORT
from training.poison import plant
from training.sources import Source, open_source
from training.stage import StageError

app = typer.Typer(help="Drills that show what the pipeline forgets.", no_args_is_help=True, add_completion=False)
drill = typer.Typer(help="A deletion from before to after, in workspaces of its own (.drills/).", no_args_is_help=True)
app.add_typer(drill, name="drill")

Name = Annotated[str, typer.Option(help="names the workspace and the result, reports/drills/NAME.json")]
Fresh = Annotated[bool, typer.Option("--fresh", help="start anew instead of going on with what is there")]
IncludeForgotten = Annotated[
    bool, typer.Option("--include-forgotten", help="train also on what is forgotten but still in the source")
]
Seed = Annotated[int | None, typer.Option(help="instead of params.yaml's")]


@drill.command()
def backdoor(
    *,
    found: Annotated[float, typer.Option(min=0, max=1, help="share of the poisoned samples that is found")] = 1.0,
    samples: Annotated[int | None, typer.Option(min=1, help="to poison; default: params.yaml's, or 1%")] = None,
    relabel: Annotated[
        bool | None, typer.Option(help="other classes' pictures relabelled, or the target's own")
    ] = None,
    value: Annotated[int | None, typer.Option(min=0, max=255, help="grey of the trigger")] = None,
    size: Annotated[int | None, typer.Option(min=1, help="pixels a side of the trigger")] = None,
    position: Annotated[str | None, typer.Option(help="random or a corner, as bottom-right")] = None,
    seed: Seed = None,
    name: Name = "backdoor",
    include_forgotten: IncludeForgotten = False,
    fresh: Fresh = False,
) -> None:
    """Plant a backdoor, measure it, forget the poisoned samples that are found, measure again."""
    params = changed(load_params(), seed=seed)
    source = open_for_drill(params, include_forgotten)
    poison = given(params.poison.model_dump(), samples=samples, relabel=relabel)
    poison["trigger"] = given(poison["trigger"], value=value, size=size, position=position)
    poison["samples"] = poison["samples"] or max(1, len(source.train.ids) // 100)
    params = changed(params, poison=poison)
    _, poisoned = plant(source.train, source.classes, params.poison, params.seed)
    ids = [source.train.ids[index] for index in poisoned]
    listed = by_hash(ids, params.seed, "found")[: round(found * len(ids))]
    if not listed:
        raise StageError(f"--found {found}: of {len(ids)} poisoned samples none would be found")
    title = f"Backdoor: {len(ids)} samples poisoned, {len(listed)} of them found and forgotten"
    story = {"drill": "backdoor", "title": title, "found": found}
    finish(name, params, listed, steps=("before", "after"), story=story, fresh=fresh)


@drill.command()
def forget(
    *,
    samples: Annotated[int, typer.Option(min=1, help="random training samples to forget")],
    seed: Seed = None,
    name: Name = "forget",
    include_forgotten: IncludeForgotten = False,
    fresh: Fresh = False,
) -> None:
    """Watch random samples, forget them, and train from scratch what never had them."""
    params = changed(load_params(), seed=seed)
    ids = open_for_drill(params, include_forgotten).train.ids
    if samples >= len(ids):
        raise StageError(f"--samples {samples}: there are {len(ids)} to train on, and some must stay")
    listed = by_hash(ids, params.seed, "forgotten")[:samples]
    story = {"drill": "forget", "title": f"Forgetting {samples} random samples", "samples": samples}
    finish(name, params, listed, steps=("before", "after", "retrained"), story=story, fresh=fresh)


@drill.command()
def results() -> None:
    """Write docs/results/forgetting and backdoor, .md and .svg, from docs/results/drills/*.json."""
    for path in write_results():
        print(path)


def open_for_drill(params: Params, include_forgotten: bool) -> Source:
    """The source of data, of which a drill takes everything.

    Raises StageError when it still has pictures that the project's forget lists name, unless they
    are to be trained on once more.
    """
    source = open_source(params.data)
    found, _ = locate(read_forget_lists(), source)
    if found and params.forget.apply and not include_forgotten:
        instead = "take their pictures out of the source, or " if params.data.source == "imagefolder" else ""
        raise StageError(
            f"the forget lists name {len(found)} samples that are still in the source: a drill would train on them "
            f"again, in .drills/; {instead}allow it with --include-forgotten"
        )
    return source


def given(section: Mapping[str, Any], **options: object) -> dict[str, Any]:
    """A section of the parameters with the options that were given in place of its values."""
    return {**section, **{name: option for name, option in options.items() if option is not None}}


def changed(params: Params, **options: object) -> Params:
    """The parameters with other values, checked as those of params.yaml are; None changes nothing."""
    return check_params(
        given(params.model_dump(mode="json"), **options), "with the options of this command, params.yaml"
    )


def by_hash(ids: Sequence[str], seed: int, purpose: str) -> list[str]:
    """Ids in an order that the seed and the purpose decide."""
    return sorted(ids, key=lambda name: hashlib.sha256(f"{seed}\0drill {purpose}\0{name}".encode()).digest())


def finish(
    name: str,
    params: Params,
    listed: Sequence[str],
    *,
    steps: Sequence[Step],
    story: Mapping[str, Any],
    fresh: bool,
) -> None:
    command = " ".join(["sisa", *(word for word in sys.argv[1:] if word != "--fresh")])
    run_drill(name, params, listed, steps=steps, story={**story, "command": command}, fresh=fresh)
    if HTML_REPORT.is_file():
        run_dvc(Path(), "repro", "--single-item", "report")


def main() -> None:
    stage.guard(app)


if __name__ == "__main__":
    main()
