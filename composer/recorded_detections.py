"""Detections from a file: a COCO results file stands in for any detector in the world."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from adapters.base import Scene
from adapters.detections import Detections
from adapters.rle import IntArray
from adapters.selection import box_nms
from composer.coco_entries import by_id, read_box
from sam.errors import BadAnnotation, UsageError
from sam.training.panoptic import is_number, read_json, read_json_list, whole

NAMES_LISTED = 80


class Row(NamedTuple):
    """One result: its box as ``x1, y1, x2, y2``, its score, its class."""

    box: list[float]
    score: float
    label: str


class Photo(NamedTuple):
    """What the annotations say of a photo."""

    image_id: int
    size: tuple[Any, Any]


class RecordedDetections:
    """A COCO results file: a list of ``{"image_id", "category_id", "bbox", "score"}``.

    Args:
        results: the file.
        annotations: the COCO file that names its photos (by ``file_name``) and categories. None: a photo's id
            is the number in its file name, as in COCO, and categories are named by their numbers.

    Attributes:
        names: the classes in it, sorted.
        open_vocabulary: never: what is not in the file was not looked for.

    Raises:
        UsageError: no such file.
        BadAnnotation: malformed, or of photos or categories that the annotations do not have.
    """

    open_vocabulary = False

    def __init__(self, results: Path, annotations: Path | None = None) -> None:
        self.path = results
        self._annotations = annotations
        self._photos: dict[str, list[Photo]] = defaultdict(list)
        categories: dict[int, str] | None = None
        if annotations is not None:
            index = read_json(annotations)
            categories = {n: str(c.get("name")) for n, c in by_id(annotations, index, "categories").items()}
            for image_id, photo in by_id(annotations, index, "images").items():
                name = Path(str(photo.get("file_name"))).name
                self._photos[name].append(Photo(image_id, (photo.get("height"), photo.get("width"))))
        known = {photo.image_id for photos in self._photos.values() for photo in photos}
        self._found: dict[int, list[Row]] = defaultdict(list)
        for number, result in enumerate(read_json_list(results)):
            where = f"{results}: result {number}"
            image_id, category = whole(where, result, "image_id"), whole(where, result, "category_id")
            if categories is not None and image_id not in known:
                raise BadAnnotation(f"{where}: image {image_id} is not in {annotations}")
            if categories is not None and category not in categories:
                raise BadAnnotation(f"{where}: category {category!r} is not in {annotations}")
            label = str(category) if categories is None else categories[category]
            self._found[image_id].append(_row(where, result, label))
        seen = {row.label for rows in self._found.values() for row in rows}
        self.names = tuple(sorted(seen if categories is None else set(categories.values())))

    def detect(
        self, scene: Scene, *, classes: Sequence[str] | None, conf: float, iou: float, limit: int
    ) -> Detections:
        """See :class:`adapters.detections.Detector`; ``iou`` suppresses boxes of one class once more.

        Raises:
            UsageError: a class that is not in the file.
            BadAnnotation: the scene's photo is not in it, or has another size.
        """
        unknown = sorted(set(classes or ()) - set(self.names))
        if unknown:
            raise UsageError(
                f"{self.path}: has no class {unknown[0]!r}; it has {', '.join(self.names[:NAMES_LISTED])}",
                code="class_unknown",
                field="classes",
            )
        rows = [
            row
            for row in self._found.get(self._id_of(scene), [])
            if row.score >= conf and (classes is None or row.label in classes)
        ]
        rows.sort(key=lambda row: -row.score)
        found = Detections(
            np.array([row.box for row in rows], np.float32),
            np.array([row.score for row in rows], np.float32),
            tuple(row.label for row in rows),
        )
        return found[_distinct(found, iou)[:limit]]

    def _id_of(self, scene: Scene) -> int:
        name = Path(getattr(getattr(scene, "source", None), "file_name", None) or "").name
        if self._annotations is None:
            digits = Path(name).stem.rpartition("_")[2]
            if not digits.isdigit():
                raise BadAnnotation(
                    f"{self.path}: which photo is {name!r}? Its name has no number; give the COCO file that "
                    "names the photos (annotations=, --annotations)"
                )
            return int(digits)
        if name not in self._photos:
            raise BadAnnotation(f"{self._annotations}: has no photo named {name!r}")
        photo, *others = self._photos[name]
        if others:
            raise BadAnnotation(
                f"{self._annotations}: has {1 + len(others)} photos named {name!r}, in different folders; "
                "which one this is cannot be told: give them names of their own"
            )
        if photo.size not in ((None, None), scene.size):
            raise BadAnnotation(
                f"{self._annotations}: says that {name} has {photo.size[1]} x {photo.size[0]} pixels, but it "
                f"has {scene.size[1]} x {scene.size[0]}"
            )
        return photo.image_id


def _row(where: str, result: Mapping[str, Any], label: str) -> Row:
    score = result.get("score")
    if not is_number(score):
        raise BadAnnotation(f"{where}: 'score' must be a number, not {score!r}")
    x, y, width, height = read_box(where, result.get("bbox"))
    return Row([x, y, x + width, y + height], float(score or 0), label)


def _distinct(found: Detections, iou: float) -> IntArray:
    """Numbers of those that are no duplicate of a better one with the same name, ascending."""
    labels = np.array(found.labels, object)
    kept = [
        members[box_nms(found.boxes[members], found.scores[members], iou)]
        for members in (np.flatnonzero(labels == label) for label in sorted(set(found.labels)))
    ]
    return np.sort(np.concatenate(kept)) if kept else np.zeros(0, np.int64)
