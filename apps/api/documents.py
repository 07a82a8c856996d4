"""The parts of the OpenAPI document that types cannot tell: bodies, answers, errors, examples."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from apps.api.problems import MEDIA_TYPE as PROBLEM
from apps.api.schemas import ProblemBody, Report
from composer.pipeline_files import pipeline_names
from composer.request_models import request_schemas

REF = "#/components/schemas/"
EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "a click": [{"kind": "points", "points": [[130, 560]]}],
    "two clicks on one object, the second off it": [
        {"kind": "points", "points": [[130, 560], [300, 500]], "labels": [1, 0]}
    ],
    "two boxes, an object each": [{"kind": "boxes", "boxes": [[10, 226, 810, 756], [48, 398, 245, 903]]}],
    "what words name": [{"kind": "text", "phrases": ["person", "bus"]}],
    "several requests, one encoder pass": [
        {"kind": "points", "points": [[130, 560]]},
        {"kind": "edges"},
        {"kind": "proposals", "limit": 100},
    ],
}
_WHAT = {
    400: "The body is empty, or is no form or JSON.",
    401: "No bearer token, or a wrong one.",
    404: "No such image is held.",
    406: "`Accept` names no form that the answer can have.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    415: "Neither a form nor JSON; or no JPEG, PNG or WebP.",
    422: "A field is missing, unknown or out of its range; the image is damaged, too large or animated.",
    429: "The client's quota is used up; see `Retry-After`.",
    500: "A bug, or a fault of the machine.",
    503: "The queue is full, memory ran out, or the server is loading or shutting down; see `Retry-After`.",
    504: "The answer was not ready in time.",
}
ANSWER: dict[str, Any] = {
    "model": Report,
    "description": "What was found.",
    "content": {
        "application/zip": {
            "schema": {"type": "string", "format": "binary", "description": "Report, masks, edges, overlay."}
        },
        "image/png": {"schema": {"type": "string", "format": "binary", "description": "The overlay."}},
    },
}
DESCRIPTION = """
Segment images by clicks, boxes, words, a detector, or everything. Coordinates are pixels of the image as it
is displayed (EXIF orientation applied), counted from its top left corner.

Errors are `application/problem+json` with a stable `code`, the `field` at fault, what is `allowed`, and a
`request_id`.
"""
TAGS = [
    {"name": "segment", "description": "An image and what is asked about it, in one request."},
    {"name": "images", "description": "Send an image once, ask about it many times."},
    {"name": "catalogue", "description": "What answers here, and what can be asked."},
    {"name": "health", "description": "For whoever watches the server."},
]


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Responses of these statuses."""
    schema = {"$ref": f"{REF}{ProblemBody.__name__}"}
    return {
        status: {"description": _WHAT[status], "content": {PROBLEM: {"schema": schema}}}
        for status in statuses
    }


def _ask_fields() -> dict[str, Any]:
    return {
        "requests": {"$ref": f"{REF}Requests"},
        "pipeline": {"$ref": f"{REF}PipelineName"},
    }


_BINARY = {"type": "string", "format": "binary", "description": "The image file: JPEG, PNG or WebP."}
_BASE64 = {
    "type": "string", "contentEncoding": "base64", "description": "The image file: JPEG, PNG or WebP.",
}  # fmt: skip
_ONE_OF_TWO = [{"required": ["requests"]}, {"required": ["pipeline"]}]


def _body(image: dict[str, Any] | None, *, asks: bool) -> dict[str, Any]:
    fields = ({} if image is None else {"image": image}) | (_ask_fields() if asks else {})
    schema: dict[str, Any] = {"type": "object", "properties": fields, "additionalProperties": False}
    if image is not None:
        schema["required"] = ["image"]
    return schema | ({"oneOf": _ONE_OF_TWO} if asks else {})


def _content(*, image: bool, asks: bool) -> dict[str, Any]:
    form: dict[str, Any] = {"schema": _body(_BINARY if image else None, asks=asks)}
    plain: dict[str, Any] = {"schema": _body(_BASE64 if image else None, asks=asks)}
    if asks:
        form["encoding"] = {"requests": {"contentType": "application/json"}}
        given = {"image": "iVBORw0KGgo..."} if image else {}
        plain["examples"] = {name: {"value": given | {"requests": asked}} for name, asked in EXAMPLES.items()}
    return {"required": True, "content": {"multipart/form-data": form, "application/json": plain}}


SEGMENT_BODY = _content(image=True, asks=True)
ASK_BODY = _content(image=False, asks=True)
IMAGE_BODY = _content(image=True, asks=False)


def openapi_of(app: FastAPI, *, tokens: bool) -> dict[str, Any]:
    """The document of an app: its routes, with the schemas of all requests among the components."""
    document: dict[str, Any] = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=app.description,
        routes=app.routes,
        tags=TAGS,
    )
    schemas: dict[str, Any] = document.setdefault("components", {}).setdefault("schemas", {})
    # FastAPI documents its own form of a 422, which this service never sends.
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas[ProblemBody.__name__] = ProblemBody.model_json_schema()
    kinds = request_schemas()
    for kind, schema in kinds.items():
        schemas[_name(kind)] = schema
    schemas["Requests"] = {
        "type": "array",
        "minItems": 1,
        "items": {
            "oneOf": [{"$ref": f"{REF}{_name(kind)}"} for kind in kinds],
            "discriminator": {
                "propertyName": "kind",
                "mapping": {kind: f"{REF}{_name(kind)}" for kind in kinds},
            },
        },
        "examples": list(EXAMPLES.values()),
    }
    schemas["PipelineName"] = {"type": "string", "enum": pipeline_names()}
    if tokens:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def _name(kind: str) -> str:
    return f"{kind.replace('_', ' ').title().replace(' ', '')}Request"
