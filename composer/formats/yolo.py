"""A YOLO segmentation dataset, ready to train on: ``yolo/data.yaml``, ``yolo/labels/`` and ``yolo/images/``.

One line for each instance: ``class x1 y1 x2 y2 …`` with coordinates divided by width and height. The format
has neither holes nor instances of several parts, so both are joined into one outline by slits, lines that are
walked there and back: filled by the even-odd rule, as ultralytics and supervision do, holes stay open and a
slit costs a line of pixels. The photos are written too, upright, since readers look for them beside the
labels and differ in how they treat an EXIF orientation.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import yaml
from PIL import Image as PILImage

from adapters.polygons import Polygon, nearest_vertices, splice
from adapters.records import UNLABELLED
from composer.configs import config_error, load_yaml
from composer.formats.atomic import write_bytes, write_text
from composer.formats.base import Outcome
from composer.images import Image
from composer.windows import outlines

INSIDE = 0.25
"""Added to a pixel's index. Readers turn coordinates into pixels by cutting off (ultralytics) or by rounding
(supervision); a quarter of a pixel in, both arrive at the same one."""


class YoloWriter:
    """Numbers classes in the order they first appear, going on from an earlier run's ``data.yaml``."""

    def __init__(self) -> None:
        self._names: list[str] | None = None

    def write(self, stem: str, outcome: Outcome, folder: Path) -> list[Path]:
        """See :class:`composer.formats.base.Writer`. An image without instances gets an empty label file."""
        root = folder / "yolo"
        known = self._known_names(root)
        names = dict.fromkeys([*known, *(label or UNLABELLED for label in outcome.instances.labels)])
        number = {name: i for i, name in enumerate(names)}
        lines = [
            _line(number[instance.label or UNLABELLED], join(polygons), outcome.image.size)
            for instance in outcome.instances
            if (polygons := outlines(instance.rle))
        ]
        written = []
        if len(names) > len(known):  # first, so that no label file has a class that data.yaml lacks
            written.append(self._write_data_yaml(root, list(names)))
            self._names = list(names)
        written.append(write_bytes(root / "images" / f"{stem}.jpg", _jpeg(outcome.image)))
        written.append(write_text(root / "labels" / f"{stem}.txt", "".join(lines)))
        return written

    def finish(self, folder: Path) -> list[Path]:
        """``data.yaml``; it was kept up to date all along, so a run that was broken off has it too."""
        root = folder / "yolo"
        return [self._write_data_yaml(root, self._known_names(root))]

    def _known_names(self, root: Path) -> list[str]:
        if self._names is None:
            path = root / "data.yaml"
            names = load_yaml(path).get("names", {}) if path.is_file() else {}
            if not isinstance(names, dict) or list(names) != list(range(len(names))):
                raise config_error(
                    path, ("names",), "expected 0, 1, 2, … each with a name; not a dataset of ours"
                )
            self._names = [str(name) for name in names.values()]
        return self._names

    @staticmethod
    def _write_data_yaml(root: Path, names: list[str]) -> Path:
        # No `path`: readers then start from the folder that the file is in, wherever it is moved.
        content = {"train": "images", "val": "images", "names": dict(enumerate(names))}
        return write_text(root / "data.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def join(polygons: list[Polygon]) -> Polygon:
    """Several outlines to one, by slits from each to the nearest vertex of those joined before.

    Args:
        polygons: (k, 2) float32 each, at least one.

    Returns:
        (m, 2) float32. Each outline adds its own vertices, its first again, and the vertex it hangs on again.
    """
    ring = polygons[0]
    for polygon in polygons[1:]:
        _, there, here = nearest_vertices(polygon, ring)
        ring = splice(ring, here, np.roll(polygon, -there, axis=0))
    return ring


def _line(class_id: int, ring: Polygon, size: tuple[int, int]) -> str:
    height, width = size
    shares = (ring.astype(np.float64) + INSIDE) / (width, height)
    return f"{class_id} " + " ".join(f"{value:.6f}" for value in shares.ravel()) + "\n"


def _jpeg(image: Image) -> bytes:
    buffer = io.BytesIO()
    PILImage.fromarray(image.pixels).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()
