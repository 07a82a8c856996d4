"""What is around the routes of every server: who may come in, with how much, and what errors look like."""

from __future__ import annotations

from collections.abc import Callable

from fastapi.exceptions import RequestValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from apps.api.body import BodyGuard
from apps.api.envelope import REQUEST_ID, Envelope, log
from apps.api.gate import Gate
from apps.api.metrics import Metrics
from apps.api.problems import Problem, problem_of
from apps.api.settings import ServiceSettings
from composer.limits import Limits
from sam.errors import SamComposerError

_CODES = {404: "not_found", 405: "method_not_allowed", 400: "form_invalid"}


def surround(app: Starlette, settings: ServiceSettings, limits: Limits, metrics: Metrics) -> None:
    """Add them to ``app``.

    From the outside: the envelope (ids, headers, metrics), CORS where it is asked for, the gate (tokens,
    quotas), the body guard; and handlers that turn errors into problems.
    """
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(SamComposerError, _error_handler(settings))
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_middleware(BodyGuard, limits=limits)
    app.add_middleware(Gate, settings=settings)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Accept"],
            expose_headers=["X-Request-Id", "Retry-After", "Location"],
        )
    app.add_middleware(Envelope, metrics=metrics)


def _answer(request: Request, problem: Problem) -> Response:
    return problem.response(request.scope[REQUEST_ID])


def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return _answer(request, error)


def _error_handler(settings: ServiceSettings) -> Callable[[Request, Exception], Response]:
    def handle(request: Request, error: Exception) -> Response:
        assert isinstance(error, SamComposerError)
        problem = problem_of(error, settings.allowed.hide_paths)
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
