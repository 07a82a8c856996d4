"""Images as files, forms, and a real server in a thread."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI
from PIL import Image

from apps.api.server import ImpatientProtocol
from apps.api.service import Service

CLICK = [{"kind": "points", "points": [[20, 20]]}]
WAIT = 120.0
"""Seconds after which a test that hangs fails."""
MakeService = Callable[..., Service]


def image_file(number: int = 0, size: tuple[int, int] = (64, 48), kind: str = "PNG", **options: Any) -> bytes:
    """Noise, different for each number, of (width, height) pixels."""
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def form(image: bytes | None = None, requests: Any = CLICK, **fields: str) -> dict[str, Any]:
    """Arguments of a client's ``post`` for a form; None leaves a field out."""
    data = dict(fields)
    if requests is not None:
        data["requests"] = requests if isinstance(requests, str) else json.dumps(requests)
    files = {"image": ("photo.png", image)} if image is not None else {"": ("", b"")}
    return {"data": data, "files": files}


@dataclass(frozen=True)
class Live:
    """A server that listens.

    Attributes:
        port: on 127.0.0.1.
        server: uvicorn's.
    """

    port: int
    server: uvicorn.Server

    @property
    def url(self) -> str:
        """Without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        """A raw connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=WAIT)


@contextlib.contextmanager
def living(app: FastAPI) -> Iterator[Live]:
    """Serve ``app`` from a thread."""
    config = uvicorn.Config(
        app, http=ImpatientProtocol, ws="none", log_level="error", timeout_graceful_shutdown=2
    )
    server = uvicorn.Server(config)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(2048)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        until(lambda: server.started)
        try:
            yield Live(listening.getsockname()[1], server)
        finally:
            server.should_exit = True
            thread.join(WAIT)
            assert not thread.is_alive()


def until(holds: Callable[[], Any]) -> None:
    """Wait for something that comes soon."""
    end = time.monotonic() + WAIT
    while not holds():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)
