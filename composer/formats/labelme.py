"""LabelMe 5 files to correct by hand: ``labelme/<stem>.json``.

Open the photos with ``labelme PHOTOS --output OUT/labelme``. Each 8-connected part of a mask is one polygon;
the parts of one instance share a ``group_id``, LabelMe's own way to say so. Holes are cut in by slits.
Outlines are simplified by at most one pixel, as a thousand handles on an outline cannot be edited: for exact
masks take ``coco`` or ``masks``.
"""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image as PILImage

from adapters.polygons import MIN_VERTICES, Polygon
from adapters.records import UNLABELLED
from adapters.results import Instance
from composer.formats.atomic import write_json
from composer.formats.base import Outcome, PerImageWriter
from composer.images import Image
from composer.windows import outlines

LABELME_VERSION = "5.5.0"
"""Whose layout the files have."""
TOLERANCE = 1.0
"""Pixels by which a simplified outline may leave the exact one."""


class LabelMeWriter(PerImageWriter):
    """One polygon file for each image, pointing to the photo, or holding it where it came from no file."""

    def write(self, stem: str, outcome: Outcome, folder: Path) -> list[Path]:
        """See :class:`composer.formats.base.Writer`."""
        path = folder / "labelme" / f"{stem}.json"
        height, width = outcome.image.size
        shapes = [shape for i, one in enumerate(outcome.instances) for shape in _shapes(one, i)]
        content = {
            "version": LABELME_VERSION,
            "flags": {},
            "shapes": shapes,
            **_picture(outcome.image, stem, path.parent),
            "imageHeight": height,
            "imageWidth": width,
        }
        return [write_json(path, content)]


def _shapes(instance: Instance, number: int) -> list[dict[str, Any]]:
    polygons = outlines(instance.rle)
    return [
        {
            "label": instance.label or UNLABELLED,
            "points": _simplified(polygon).tolist(),
            "group_id": number if len(polygons) > 1 else None,
            "description": f"{instance.score_kind} {instance.score:.3f}",
            "shape_type": "polygon",
            "flags": {},
        }
        for polygon in polygons
    ]


def _simplified(polygon: Polygon) -> Polygon:
    simple = cv2.approxPolyDP(polygon[:, None], TOLERANCE, closed=True)[:, 0]
    return simple.astype(np.float32) if len(simple) >= MIN_VERTICES else polygon


def _picture(image: Image, stem: str, folder: Path) -> dict[str, Any]:
    """``imagePath`` relative to the JSON file, as LabelMe resolves it; pixels only if there is no file."""
    if image.path is not None:
        return {"imagePath": os.path.relpath(image.path, folder), "imageData": None}
    buffer = io.BytesIO()
    PILImage.fromarray(image.pixels).save(buffer, "JPEG", quality=95)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return {"imagePath": image.file_name or f"{stem}.jpg", "imageData": data}
