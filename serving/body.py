"""What a body may hold: the one model that JSON is validated by and that every schema is drawn from."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, FailFast, Field

from serving.ensemble.aggregation import Aggregation

Pixel = Annotated[int, Field(strict=True, ge=0, le=255)]
Row = Annotated[list[Annotated[list[Pixel], FailFast()]], FailFast()]


def _as_if_given(schema: dict[str, Any]) -> None:
    """The schema of a value that is there: None stands for one that is not."""
    del schema["default"]
    schema.update(schema.pop("anyOf")[0])


MAX_WITHDRAWN = 1000  # models in one request


class WithdrawBody(BaseModel):
    """``POST /v1/withdraw``."""

    model_config = ConfigDict(extra="forbid")

    sha256: list[Annotated[str, Field(strict=True, pattern="^[0-9a-fA-F]{64}$")]] = Field(
        min_length=1, max_length=MAX_WITHDRAWN, description="digests of the models, 64 hexadecimal digits each"
    )


class JsonBody(BaseModel):
    """``POST /v1/predict``."""

    model_config = ConfigDict(extra="forbid")

    images: Annotated[list[Annotated[list[Row], FailFast()]], FailFast()] = Field(
        description="uint8 (N, H, W, 3), of the ensemble's size, as integers: 7, not 7.0"
    )
    mode: Aggregation | None = Field(
        default=None,
        description="default: the ensemble's own; where query and body both name one, it must be the same",
        json_schema_extra=_as_if_given,
    )


def body_schema(images: dict[str, Any] | None = None) -> dict[str, Any]:
    """JsonBody's JSON schema, or that of a body with the same fields whose ``images`` come in another form."""
    schema = JsonBody.model_json_schema()
    if images is not None:
        schema["properties"]["images"] = images
    return schema
