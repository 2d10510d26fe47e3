"""`sisa where`: which shard and slice a sample is in."""

from __future__ import annotations

from typing import Annotated

import typer

from training.commands.command import Json, guarded, print_json, project

where = typer.Typer()


@where.command(
    "where",
    epilog="Exit status: 0 found; 1 nothing is known of it. Examples: sisa where 123 | sisa where subject:ann | "
    "sisa where ~/picture.jpg --json",
)
@guarded
def show_where(
    sample: Annotated[str, typer.Argument(help="an id, subject:NAME, or a picture's path", show_default=False)],
    *,
    as_json: Json = False,
) -> None:
    """Which shard and slice a sample is in, what forgetting it would cost, and whether it answers now.

    A picture is found by its pixels, whatever its name. What only looks alike
    is named as well, also in the test split.
    """
    from rich.console import Console
    from rich.table import Column, Table

    from training.forgetting.where import total, where

    places = where(project(), sample)
    if as_json:
        print_json({"places": [place.model_dump() for place in places], "sample_epochs": total(places)})
        return
    table = Table(
        Column("sample", overflow="fold"),
        "by",
        "shard",
        "slice",
        "retrain",
        "of all",
        "answers",
        "forgotten",
    )
    for place in places:
        table.add_row(
            place.sample,
            place.found,
            "–" if place.shard is None else str(place.shard),
            "–" if place.slice is None else str(place.slice),
            "–" if place.cost is None else f"{place.cost.slices} slices",
            "–" if place.cost is None else f"{place.cost.share:.1%}",
            "yes" if place.answers else "no",
            "yes" if place.forgotten else "no",
        )
    Console().print(table)
    if len(places) > 1 and total(places):
        print(f"all in one batch: {total(places):,} sample-epochs")
