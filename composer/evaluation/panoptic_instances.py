"""The things of a COCO-panoptic set as instances, for average precision on sets without an instance file."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

from pycocotools.coco import COCO

from adapters.rle import bounding_boxes, to_json
from composer.evaluation.ground_truth import Segment, open_panoptic
from composer.evaluation.instance_truth import InstanceTruth
from composer.images import open_image
from composer.limits import shipped_limits
from sam.errors import BadAnnotation

UNNAMED = "object"
"""The category of segments in sets without categories."""


def things_of_panoptic(folder: Path, limit: int | None = None) -> InstanceTruth:
    """Every segment of a thing as one instance; stuff is left out, crowds stay crowds.

    Args:
        folder: ``images/``, ``panoptic/`` and ``panoptic.json``.
        limit: only the first so many photos, by image id. All their maps are read here.

    Raises:
        UsageError: no such folder.
        BadImage: a photo that cannot be decoded.
        BadAnnotation: an index or a map that is missing or contradicts itself, or no thing in these photos.
    """
    truth = open_panoptic(folder).limited(limit)
    things = [name for name, is_thing in truth.categories.items() if is_thing]
    if not truth.categories:
        things = [UNNAMED]
    if not things:
        raise BadAnnotation(f"{folder / 'panoptic.json'}: no thing among its categories, all are stuff")
    numbers = {name: number for number, name in enumerate(things, 1)}
    photos: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, image in enumerate(truth):
        height, width = size = open_image(image.path, limits=shipped_limits()).size
        name = image.path.relative_to(folder / "images").as_posix()
        photos.append({"id": image_id, "file_name": name, "height": height, "width": width})
        for segment in image.read_segments(size):
            category = segment.category if truth.categories else UNNAMED
            if category in numbers and segment.area:
                about = {"id": len(annotations) + 1, "image_id": image_id, "category_id": numbers[category]}
                annotations.append(about | _mask(segment))
    coco = COCO()
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    coco.dataset = {"images": photos, "annotations": annotations, "categories": categories}
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return InstanceTruth(folder / "panoptic.json", folder / "images", coco, tuple(range(len(photos))))


def _mask(segment: Segment) -> dict[str, Any]:
    x1, y1, x2, y2 = bounding_boxes([segment.rle])[0].tolist()
    return {
        "segmentation": to_json(segment.rle),
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": segment.area,
        "iscrowd": int(segment.crowd),
    }
