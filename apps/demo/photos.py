"""Photos that visitors look at: read once, and kept for the next question."""

from __future__ import annotations

import importlib.util
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from composer.engine.engine import Engine
from composer.images import HTTP_FORMATS, Image, open_image
from sam.errors import BadImage, UsageError

SHOWN_SIDE = 1280
"""Longer side of what the page shows, pixels: a phone's photo would take seconds to send back and forth."""
KEPT = 4

_EXAMPLES = (
    ("ultralytics", "assets/bus.jpg"),
    ("gradio", "media_assets/images/cheetah.jpg"),
    ("gradio", "media_assets/images/tower.jpg"),
    ("ultralytics", "assets/zidane.jpg"),
)
"""Photos in the folders of packages that are installed anyway."""


@dataclass(frozen=True, eq=False)
class OpenPhoto:
    """A photo as it is, and as it is shown.

    Attributes:
        image: the photo itself; requests and results are in its pixels.
        shown: (h, w, 3) uint8 RGB as the page shows it, at most :data:`SHOWN_SIDE` pixels a side.
        scale: pixels of ``shown`` for one of the photo, at most 1.
    """

    image: Image
    shown: npt.NDArray[np.uint8]
    scale: float


class Photos:
    """The last few photos, by their path. Safe to share between threads.

    Args:
        engine: answers questions about them; its cache knows a photo again that went out of here.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.composer = engine.composer
        self._kept: OrderedDict[str, OpenPhoto] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, path: str) -> OpenPhoto:
        """Read a photo, or take it from those kept. Encodes nothing: the first question does.

        Raises:
            UsageError: ``photo_missing``: none was chosen, or its file is gone.
            BadImage: not a photo that the limits accept.
        """
        with self._lock:
            if path in self._kept:
                self._kept.move_to_end(path)
                return self._kept[path]
        opened = self._read(Path(path))
        with self._lock:
            self._kept[path] = opened
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return opened

    def _read(self, path: Path) -> OpenPhoto:
        limits = self.composer.limits
        if not path.name:
            raise UsageError("choose a photo first", code="photo_missing", field="photo")
        try:
            size = path.stat().st_size
            data = path.read_bytes() if size <= limits.max_body_bytes else b""
        except OSError as error:
            raise UsageError(
                f"{path.name}: is no longer here; choose it again", code="photo_missing", field="photo"
            ) from error
        if size > limits.max_body_bytes:
            most = limits.max_body_bytes >> 20
            raise BadImage(
                f"{path.name}: {size / (1 << 20):.0f} MiB, at most {most} MiB are accepted",
                code="image_too_large",
                field="photo",
            )
        image = open_image(data, limits=limits, formats=HTTP_FORMATS, file_name=path.name)
        height, width = image.size
        scale = min(1.0, SHOWN_SIDE / max(height, width))
        shown = image.pixels
        if scale < 1:
            side = (max(1, round(width * scale)), max(1, round(height * scale)))
            shown = np.asarray(cv2.resize(shown, side, interpolation=cv2.INTER_AREA), np.uint8)
        return OpenPhoto(image, shown, scale)


def example_photos() -> list[Path]:
    """Photos of installed packages; found without importing those, and fewer where one is missing."""
    found = []
    for package, name in _EXAMPLES:
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations if spec else None) or ():
            if Path(folder, name).is_file():
                found.append(Path(folder, name))
                break
    return found
