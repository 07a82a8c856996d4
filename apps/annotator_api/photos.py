"""The photos that pages look at now: read once, encoded once, sent as the pixels that masks belong to."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from PIL import Image as PILImage

from composer.composer import Scene
from composer.engine.engine import Engine
from composer.engine.jobs import Job
from composer.engine.waiting import answer_of, due
from composer.images import Image, open_image

KEPT = 4
"""Photos held in memory: the one on the screen, its neighbours, and one of another tab."""
JPEG_QUALITY = 92
CLIENT = "annotator"
"""Whose questions these are, to the engine."""
T = TypeVar("T")


class Photos:
    """Opened photos, the most recent few kept. Safe to share between threads.

    Args:
        engine: encodes them, and keeps the embeddings.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.composer = engine.composer
        self._lock = threading.Lock()
        self._opening = threading.Lock()
        self._kept: OrderedDict[tuple[Path, int, int], Image] = OrderedDict()

    def open(self, path: Path) -> Image:
        """The upright picture in ``path``; read again when the file has changed.

        Raises:
            UsageError, BadImage: see :func:`composer.images.open_image`.
        """
        status = path.stat() if path.exists() else None
        key = (path, status.st_mtime_ns if status else 0, status.st_size if status else 0)
        with self._opening:  # two requests for one photo come together: its pixels and its embedding
            with self._lock:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    return self._kept[key]
            image = open_image(path, limits=self.composer.limits)
            with self._lock:
                self._kept[key] = image
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            return image

    def ask(self, path: Path, work: Callable[[Scene], T]) -> T:
        """What ``work`` makes of the photo, in the thread that has the device.

        Raises:
            UsageError, BadImage: see :meth:`open`.
            Unavailable, DeadlineExceeded: too many are waiting, or it was not done in time.
            SamComposerError: what ``work`` raises.
        """
        image = self.open(path)
        job = Job(lambda: image, client=CLIENT, deadline=due(self.engine), work=work)
        value: T = answer_of(self.engine, job).value
        return value


def upright_picture(image: Image) -> tuple[bytes, str]:
    """The picture as a browser shows it, pixel for pixel where the masks are: bytes and media type.

    The file itself will not do: browsers open no TIFF, and not all turn all files as their EXIF says.
    """
    buffer = io.BytesIO()
    picture = PILImage.fromarray(image.pixels)
    height, width = image.size
    if height * width <= 1 << 18:  # small: exact, and no blur when zoomed in
        picture.save(buffer, "PNG", compress_level=1)
        return buffer.getvalue(), "image/png"
    picture.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue(), "image/jpeg"
