"""The service put together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI

from apps.api.catalogue_routes import catalogue_routes
from apps.api.documents import DESCRIPTION, openapi_of
from apps.api.health_routes import health_routes
from apps.api.image_routes import image_routes
from apps.api.metrics import Metrics
from apps.api.segment_routes import segment_routes
from apps.api.service import Service
from apps.api.surroundings import surround
from composer import __version__

SWEEP_SECONDS = 30.0


def create_app(service: Service) -> FastAPI:
    """The API of one service, whose engine has been started."""
    app = FastAPI(
        title="sam-composer",
        summary="Segment anything, over HTTP.",
        description=DESCRIPTION,
        version=__version__,
        docs_url=None,  # both of its pages would load scripts from elsewhere
        redoc_url=None,
        lifespan=_lifespan(service),
    )
    metrics = Metrics(service)
    for routes in (segment_routes, image_routes, catalogue_routes):
        app.include_router(routes(service))
    app.include_router(health_routes(service, metrics))
    surround(app, service.settings, service.limits, metrics)
    _document(app, tokens=bool(service.settings.tokens))
    return app


def _document(app: FastAPI, *, tokens: bool) -> None:
    made: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not made:
            made.update(openapi_of(app, tokens=tokens))
        return made

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend the document


def _lifespan(service: Service) -> Any:
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        sweeper = asyncio.create_task(_sweep(service))
        try:
            yield
        finally:
            sweeper.cancel()

    return lifespan


async def _sweep(service: Service) -> None:
    """Held images expire also where nobody comes any more."""
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        service.held.forget_expired()
