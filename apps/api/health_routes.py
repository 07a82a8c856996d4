"""``/livez``, ``/readyz`` and ``/metrics``: for whoever watches the server."""

from __future__ import annotations

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, Response

from apps.api.documents import problems
from apps.api.metrics import Metrics
from apps.api.schemas import Health
from apps.api.service import Service

NO_STORE = {"Cache-Control": "no-store"}


def health_routes(service: Service, metrics: Metrics) -> APIRouter:
    """The routes, for one service. Not one of them waits for the device."""
    router = APIRouter(tags=["health"])

    @router.get(
        "/livez",
        summary="Whether the process runs",
        response_class=JSONResponse,
        responses={200: {"model": Health, "description": "It does."}},
    )
    async def livez() -> Response:
        return JSONResponse({"status": "alive"}, headers=NO_STORE)

    @router.get(
        "/readyz",
        summary="Whether requests are taken",
        response_class=JSONResponse,
        responses={
            200: {"model": Health, "description": "They are."},
            503: {"model": Health, "description": "Loading, draining, or broken."},
        },
    )
    async def readyz() -> Response:
        state = service.engine.state
        return JSONResponse({"status": state}, 200 if state == "ready" else 503, headers=NO_STORE)

    @router.get(
        "/metrics",
        summary="Figures for Prometheus",
        response_class=Response,
        responses={
            200: {
                "content": {CONTENT_TYPE_LATEST: {"schema": {"type": "string"}}},
                "description": "They are.",
            },
            **problems(401),
        },
    )
    def figures() -> Response:
        return Response(metrics.exposition(), headers={"Content-Type": CONTENT_TYPE_LATEST} | NO_STORE)

    return router
