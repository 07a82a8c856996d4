"""The annotator alone behind uvicorn, as ``sam-composer annotate`` starts it."""

from __future__ import annotations

import socket as sockets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from apps.annotator_api.http import LocalHostGuard
from apps.annotator_api.routes import annotator_routes
from apps.listening import bind
from composer import Composer
from composer.engine.engine import Engine
from sam.errors import EnvironmentProblem


def annotator_app(engine: Engine, folder: str | Path, *, decoder_folder: Path | None = None) -> FastAPI:
    """An application that has the annotator and nothing else; the engine has been started."""
    app = FastAPI(title="sam-composer annotator", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(annotator_routes(engine, folder, decoder_folder=decoder_folder))
    return app


def server(engine: Engine, folder: str | Path, *, decoder_folder: Path | None = None) -> uvicorn.Server:
    """A server that is not started yet."""
    app = LocalHostGuard(annotator_app(engine, folder, decoder_folder=decoder_folder))
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=5)
    return uvicorn.Server(config)


@contextmanager
def running(composer: Composer, folder: str | Path, *, decoder_folder: Path | None = None) -> Iterator[str]:
    """The annotator in a thread of this process, at a free port; its address, without the last slash.

    Raises:
        EnvironmentProblem: it does not start.
    """
    socket = bind("127.0.0.1", 0)
    engine = Engine(composer).start()
    instance = server(engine, folder, decoder_folder=decoder_folder)
    thread = threading.Thread(target=instance.run, kwargs={"sockets": [socket]}, name="annotator")
    thread.start()
    try:
        while not instance.started and thread.is_alive():
            time.sleep(0.01)
        if not instance.started:
            raise EnvironmentProblem("the annotator's server did not start", code="server")
        yield f"http://127.0.0.1:{socket.getsockname()[1]}/annotate"
    finally:
        instance.should_exit = True
        thread.join()
        engine.drain(0)
        socket.close()


def serve(composer: Composer, folder: str | Path, socket: sockets.socket) -> None:
    """Answer until interrupted."""
    with Engine(composer) as engine:
        server(engine, folder).run(sockets=[socket])
