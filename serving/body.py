"""What a body may hold: the one model that JSON is validated by and that every schema is drawn from."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, FailFast, Field
from pydantic.json_schema import SkipJsonSchema

from serving.ensemble.aggregation import Aggregation

Pixel = Annotated[int, Field(strict=True, ge=0, le=255)]
Row = Annotated[list[Annotated[list[Pixel], FailFast()]], FailFast()]


def _without_default(schema: dict[str, Any]) -> None:
    """None stands for a mode that is not given; it is not one that could be."""
    schema.pop("default")


class JsonBody(BaseModel):
    """``POST /v1/predict``."""

    model_config = ConfigDict(extra="forbid")

    images: Annotated[list[Annotated[list[Row], FailFast()]], FailFast()] = Field(
        description="uint8 (N, H, W, 3), of the ensemble's size"
    )
    mode: Aggregation | SkipJsonSchema[None] = Field(
        default=None, description="default: the ensemble's own", json_schema_extra=_without_default
    )


def body_schema(images: dict[str, Any] | None = None) -> dict[str, Any]:
    """JsonBody's JSON schema, or that of a body with the same fields whose ``images`` come in another form."""
    schema = JsonBody.model_json_schema()
    if images is not None:
        schema["properties"]["images"] = images
    return schema
