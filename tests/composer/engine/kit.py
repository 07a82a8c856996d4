"""Jobs about noise, and an encoder that can be held up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from adapters.base import Request
from composer import Composer, Points
from composer.engine.encoding import encode_batch
from composer.engine.engine import Engine
from composer.engine.jobs import Asked, Job
from composer.images import Image, open_image
from composer.requests import request_record
from sam.embedding import Embedding

Pixels = npt.NDArray[np.uint8]
MakeEngine = Callable[..., Engine]
CLICK = Points([[20, 20]])
WAIT = 120.0
"""Seconds after which a test that hangs fails; none waits for them when all is well."""


class HeldUp:
    """An encoder that waits until it is let go; keeps what it was given."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.entered = threading.Event()
        self.batches: list[list[str]] = []

    def __call__(self, composer: Composer, images: Sequence[Image]) -> list[Embedding]:
        self.batches.append([image.sha256 for image in images])
        self.entered.set()
        assert self.go.wait(WAIT)
        return encode_batch(composer, images)


def picture(number: int, size: tuple[int, int] = (48, 64)) -> Pixels:
    """Noise that is different for each number."""
    return np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)


def job(source: Pixels | Callable[[], Image], *requests: Request, client: str = "", **more: object) -> Job:
    """A job about pixels, or about what a function gives."""
    read = source if callable(source) else lambda: open_image(source)
    asked = tuple(Asked(request, request_record(request)) for request in requests or (CLICK,))
    return Job(read, asked, client=client, **more)  # type: ignore[arg-type]
