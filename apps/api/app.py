"""The service put together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from apps.api.body import BodyGuard
from apps.api.catalogue_routes import catalogue_routes
from apps.api.documents import DESCRIPTION, openapi_of
from apps.api.envelope import REQUEST_ID, Envelope, log
from apps.api.gate import Gate
from apps.api.health_routes import health_routes
from apps.api.image_routes import image_routes
from apps.api.metrics import Metrics
from apps.api.problems import Problem, problem_of
from apps.api.segment_routes import segment_routes
from apps.api.service import Service
from composer import __version__
from sam.errors import SamComposerError

SWEEP_SECONDS = 30.0
_CODES = {404: "not_found", 405: "method_not_allowed", 400: "form_invalid"}


def create_app(service: Service) -> FastAPI:
    """The API of one service, whose engine has been started.

    Around the routes, from the outside: the envelope (ids, headers, metrics), CORS where it is asked for, the
    gate (tokens, quotas), the body guard.
    """
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
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(SamComposerError, _error_handler(service))
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_middleware(BodyGuard, limits=service.limits)
    app.add_middleware(Gate, settings=service.settings)
    if service.settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(service.settings.origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Accept"],
            expose_headers=["X-Request-Id", "Retry-After", "Location"],
        )
    app.add_middleware(Envelope, metrics=metrics)
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


def _answer(request: Request, problem: Problem) -> Response:
    return problem.response(request.scope[REQUEST_ID])


def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return _answer(request, error)


def _error_handler(service: Service) -> Callable[[Request, Exception], Response]:
    def handle(request: Request, error: Exception) -> Response:
        assert isinstance(error, SamComposerError)
        problem = problem_of(error, service.settings.allowed.hide_paths)
        if problem.detail != str(error):
            log.error("request %s: %s", request.scope[REQUEST_ID], error)
        return _answer(request, problem)

    return handle


def _http_error(request: Request, error: Exception) -> Response:
    """What Starlette itself refuses: no such path, a method that a path does not have, a broken form."""
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, "http_error")
    return _answer(request, Problem(error.status_code, code, str(error.detail), headers=error.headers))


def _invalid(request: Request, error: Exception) -> Response:
    """A parameter of the path or the query that FastAPI refuses."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"][1:])
    allowed = first.get("ctx", {}).get("expected") or first.get("ctx", {}).get("pattern")
    return _answer(
        request, Problem(422, "parameter_invalid", f"{name}: {first['msg']}", field=name, allowed=allowed)
    )
