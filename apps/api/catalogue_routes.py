"""``/v1/models`` and ``/v1/adapters``: what answers here, and what can be asked."""

from __future__ import annotations

import dataclasses
from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from apps.api.documents import problems
from apps.api.schemas import Adapters, Models
from apps.api.service import Service
from composer.pipeline_files import describe_pipeline, pipeline_names
from composer.presets import load_preset, preset_names
from composer.request_models import request_schemas
from composer.weights import expected_path

PUBLIC_LIMITS = (
    "max_body_bytes",
    "max_pixels",
    "max_side",
    "max_aspect_ratio",
    "mask_memory_bytes",
    "max_prompts",
    "max_requests",
    "max_text_length",
    "queue_size",
    "deadline_seconds",
    "held_image_seconds",
)


def catalogue_routes(service: Service) -> APIRouter:
    """The routes, for one service."""
    router = APIRouter(tags=["catalogue"])

    @router.get(
        "/v1/models",
        summary="What answers here",
        response_class=JSONResponse,
        responses={200: {"model": Models, "description": "Model, other models, limits."}, **problems(401)},
    )
    def models() -> Response:
        return JSONResponse(models_body(service))

    @router.get(
        "/v1/adapters",
        summary="What can be asked",
        response_class=JSONResponse,
        responses={200: {"model": Adapters, "description": "Requests and pipelines."}, **problems(401)},
    )
    def adapters() -> Response:
        pipelines = [{"name": name, "description": describe_pipeline(name)} for name in pipeline_names()]
        return JSONResponse({"adapters": request_schemas(), "pipelines": pipelines})

    return router


def models_body(service: Service) -> dict[str, Any]:
    """The answer of ``/v1/models``: no path is in it."""
    limits = dataclasses.asdict(service.limits)
    presets = [load_preset(name) for name in preset_names()]
    return {
        "model": service.engine.composer.describe(),
        "detectors": list(service.settings.allowed.detectors),
        "clips": list(service.settings.allowed.clips),
        "presets": [
            {"name": one.name, "description": one.description, "here": expected_path(one).is_file()}
            for one in presets
        ],
        "limits": {name: limits[name] for name in PUBLIC_LIMITS},
    }
