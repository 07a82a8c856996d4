"""What answers look like: models for the OpenAPI document. Answers themselves are not made of them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

_OPEN = ConfigDict(extra="allow")


class ProblemBody(BaseModel):
    """An error (RFC 9457)."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "urn:sam-composer:problem:point_outside",
                "title": "Unprocessable Entity",
                "status": 422,
                "detail": "point 0 (x=900, y=10) is outside the image, 810 px wide and 1080 px high",
                "code": "point_outside",
                "field": "points",
                "allowed": {"x": [0, 809], "y": [0, 1079]},
                "request_id": "3f2a8c0de5b14f6a9d0c7be2f1a46d58",
            }
        }
    )
    type: str = Field(description="A URN that ends in the code.")
    title: str = Field(description="The status in words.")
    status: int = Field(description="The status of HTTP.")
    detail: str = Field(description="What was wrong, what was expected and what to do. May change.")
    code: str = Field(description="Stable name of this kind of error; see docs/serve.md.")
    request_id: str = Field(description="As in the header `X-Request-Id`, and in the server's log.")
    field: str | None = Field(None, description="The field at fault, such as `requests[0].points`.")
    allowed: Any = Field(None, description="What would have been accepted: a range, or the known names.")


class ImageAbout(BaseModel):
    """The image as it was read."""

    width: int = Field(description="Pixels, after EXIF orientation was applied.")
    height: int = Field(description="Pixels, after EXIF orientation was applied.")
    sha256: str = Field(description="Digest of the pixels, whatever file they came in.")
    file_name: str | None = Field(None, description="Always null here.")


class ModelAbout(BaseModel):
    """What answered."""

    model_config = _OPEN
    preset: str
    weights: str
    weights_sha256: str | None
    device: str
    precision: str


class Annotation(BaseModel):
    """One object, in the form of SA-1B's records, with scores beside it."""

    model_config = _OPEN
    id: int
    segmentation: dict[str, Any] | list[list[float]] = Field(
        description="COCO's compressed run lengths, `{size: [height, width], counts: ...}`; or polygons "
        "`[[x1, y1, x2, y2, ...], ...]` through pixel centres where they were asked for."
    )
    bbox: list[float] = Field(description="x, y, width, height in pixels.")
    area: int = Field(description="Pixels of the mask.")
    predicted_iou: float | None
    stability_score: float | None
    label: str | None
    score: float = Field(description="The score that ranks; `score_kind` says which it is.")
    score_kind: str


class Result(BaseModel):
    """What one request, or one output of a pipeline, found."""

    model_config = _OPEN
    request: dict[str, Any] = Field(description="What was asked, with its defaults.")
    kind: str = Field(description="`instances`, with `annotations`; or `edges`, with `file` and `png`.")
    annotations: list[Annotation] | None = None
    png: str | None = Field(
        None, description="The edge map: a 16-bit grey PNG in base64; 65535 stands for 1."
    )


class Report(BaseModel):
    """The answer, in the form of the report that `sam-composer segment` writes."""

    model_config = _OPEN
    image: ImageAbout
    model: ModelAbout
    results: list[Result] = Field(description="In the order of the requests.")
    timings: dict[str, float] = Field(description="Seconds of each step, waiting among them.")
    encoder_passes: int | None = Field(
        None, description="0: the image was known already. More than 1: parts of it were looked at closer."
    )


class Held(BaseModel):
    """An image that the server holds."""

    id: str = Field(description="For the paths below; the digest of the pixels.")
    width: int
    height: int
    expires: str = Field(description="When it is forgotten unless it is used before: RFC 3339, in UTC.")


class Models(BaseModel):
    """What this server works with."""

    model: ModelAbout = Field(description="What answers here.")
    detectors: list[str] = Field(description="Names that `detector` may have.")
    clips: list[str] = Field(description="Names that `clip` may have.")
    presets: list[dict[str, Any]] = Field(description="All presets that the program knows.")
    limits: dict[str, Any] = Field(description="What is accepted.")


class Adapters(BaseModel):
    """What can be asked."""

    adapters: dict[str, dict[str, Any]] = Field(description="JSON schema of each kind of request.")
    pipelines: list[dict[str, str]] = Field(description="Names and descriptions.")


class Health(BaseModel):
    """A state in one word."""

    status: str
