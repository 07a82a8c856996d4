"""The pages beside the API: the demo at ``/`` and the annotator at ``/annotate``, where they are wanted."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.responses import HTMLResponse, Response
from starlette.routing import Match, Mount, Router
from starlette.types import Scope

from apps.api.arriving import Arriving, live_with
from apps.api.envelope import API
from apps.api.settings import DEMO, has_demo
from composer.engine.engine import Engine
from sam.errors import EnvironmentProblem

ANNOTATOR = "apps.annotator_api"
FRONT = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>sam-composer</title>
<style>body{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem}</style>
<h1>sam-composer</h1>
<p>The API is at <code>/v1/segment</code>. What can be sent and what comes back is in
<a href="/openapi.json">openapi.json</a>; the kinds of request are at <a href="/v1/adapters">/v1/adapters</a>,
the model at <a href="/v1/models">/v1/models</a>.</p>
</html>
"""
_OURS = (f"{API}/", "/annotate", "/livez", "/readyz", "/metrics", "/openapi.json")
_LOCAL_ONLY = "default-src 'none'; style-src 'unsafe-inline'"


def add_pages(
    app: FastAPI,
    engine: Engine,
    *,
    demo: bool,
    projects: Path | None,
    demo_there: Callable[[], None] = lambda: None,
) -> None:
    """Put the pages into an API that has all its routes.

    Args:
        app: of :func:`apps.api.app.create_app`.
        engine: answers the pages' questions, as it answers the API's.
        demo: whether the demo is at ``/``; else a line about the API is.
        projects: photos of the annotator; None: there is no annotator.
        demo_there: called in the event loop when the demo, which comes after the API, is there.

    Raises:
        EnvironmentProblem: a page that is asked for is not installed.
        UsageError, BadImage: no such folder of photos, or no photo in it.
    """
    if projects is not None:
        routes = _module(f"{ANNOTATOR}.routes", "the annotator").annotator_routes(engine, projects)
        app.include_router(routes)
    if demo:
        _add_demo(app, engine, demo_there)
        return

    @app.get("/", include_in_schema=False)
    def front() -> Response:
        return HTMLResponse(FRONT, headers={"Content-Security-Policy": _LOCAL_ONLY})


def _add_demo(app: FastAPI, engine: Engine, there: Callable[[], None]) -> None:
    """Gradio takes seconds to import, which no caller of the API is to wait for."""
    mount = _module(DEMO, "the demo").mount_demo
    if not has_demo():
        raise EnvironmentProblem("the demo is not installed: no module named 'gradio'", code="page_missing")

    def build() -> Router:
        beside = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
        beside.user_middleware = app.user_middleware  # where gradio looks whether CORS is taken care of
        mount(beside, engine, "/")
        return beside.router  # without the middleware, which is around the whole server

    page = Arriving(build, "the demo", there)
    live_with(app, page)
    app.router.routes.append(_Rest("/", app=page))


class _Rest(Mount):
    """What is at ``/`` gets all paths but those of the API, whose errors (404, 405) are the API's to tell."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """See :class:`starlette.routing.BaseRoute`."""
        return (Match.NONE, {}) if scope["path"].startswith(_OURS) else super().matches(scope)


def _module(name: str, what: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise EnvironmentProblem(f"{what} is not installed: {error}", code="page_missing") from error
