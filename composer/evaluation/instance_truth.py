"""COCO instance files and results files, checked before pycocotools sees them.

COCOeval believes what it is given: of masks of another size, or of two annotations with one id, it makes
figures that mean nothing.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pycocotools.coco import COCO

from adapters.rle import RLE, areas, bounding_boxes, to_json
from composer.coco_entries import (
    Entry,
    Size,
    by_id,
    given,
    known_id,
    photo_path,
    read_box,
    read_rle,
    read_segmentation,
    read_size,
)
from composer.evaluation.missing import photos_present
from sam.errors import BadAnnotation, UsageError
from sam.training.panoptic import is_number, read_json, read_json_list

Result = Mapping[str, Any]
"""A results entry: ``image_id``, ``category_id``, ``score``, and ``segmentation``, ``bbox`` or both."""


@dataclass(frozen=True, eq=False)
class InstanceTruth:
    """A COCO instance file and the folder of its photos.

    Attributes:
        path: the file.
        images: the folder.
        coco: the file, checked. Each annotation has ``area``, ``bbox`` and ``iscrowd``, of its mask where the
            file does not say, and an id of ours from 1: COCOeval takes a match with the id 0 for none.
        image_ids: photos to evaluate.
        unmasked: the file's id of an annotation that has a box and no mask; None: all have masks.

    Raises:
        BadAnnotation: no instance besides crowds in these photos.
    """

    path: Path
    images: Path
    coco: COCO
    image_ids: tuple[int, ...]
    unmasked: int | None = None

    def __post_init__(self) -> None:
        wanted = set(self.image_ids)
        if not any(a["image_id"] in wanted and not a["iscrowd"] for a in self.coco.anns.values()):
            where = f" of its first {len(wanted)} photos" if len(wanted) < len(self.coco.imgs) else ""
            raise BadAnnotation(
                f"{self.path}: no instance in it{where} that is no crowd, nothing to evaluate on"
            )

    @classmethod
    def open(cls, images: Path, path: Path) -> InstanceTruth:
        """Read the annotations, and check every one.

        Raises:
            UsageError: no such folder.
            BadAnnotation: a file that is missing, malformed, contradicts itself, or has no instance.
        """
        if not images.is_dir():
            raise UsageError(f"{images}: no such folder", field="coco")
        index = read_json(path)
        sizes = {
            number: read_size(f"{path}: image {number}", photo)
            for number, photo in by_id(path, index, "images").items()
        }
        categories = by_id(path, index, "categories")
        annotations = by_id(path, index, "annotations")
        checked = [
            _annotation(f"{path}: annotation {number}", entry, sizes, categories)
            for number, entry in annotations.items()
        ]
        unmasked = [n for n, one in zip(annotations, checked, strict=True) if "segmentation" not in one]
        coco = COCO()
        coco.dataset = {**index, "annotations": [one | {"id": i} for i, one in enumerate(checked, 1)]}
        with contextlib.redirect_stdout(io.StringIO()):
            coco.createIndex()
        return cls(path, images, coco, tuple(sorted(sizes)), unmasked[0] if unmasked else None)

    def limited(self, count: int | None) -> InstanceTruth:
        """The first ``count`` photos by id; None: all. Raises BadAnnotation: no instance in those."""
        return replace(self, image_ids=self.image_ids[:count])

    def photo(self, image_id: int) -> Path:
        """Where a photo is. Raises BadAnnotation where the file does not say."""
        return photo_path(self.path, self.images, self.coco.imgs[image_id])

    def check_photos(self, image_ids: Iterable[int]) -> None:
        """Raises BadAnnotation where one of these photos is not there."""
        photos_present((self.photo(image_id) for image_id in image_ids), str(self.path))

    def check_masks(self) -> None:
        """Raises BadAnnotation where an annotation has no mask to compare one with."""
        if self.unmasked is not None:
            raise BadAnnotation(
                f"{self.path}: annotation {self.unmasked} has a box, but no mask, so that no mask can be "
                "judged; give annotations with 'segmentation', or evaluate boxes with --results"
            )

    def photos_of(self, results: Sequence[Result]) -> list[int]:
        """Ids of the photos that have results, ascending."""
        wanted = set(self.image_ids)
        return sorted({r["image_id"] for r in results} & wanted)

    def category_ids(self) -> dict[str, int]:
        """Ids of the categories by name. Raises BadAnnotation: one without a name, or two with the same."""
        found: dict[str, int] = {}
        for number, category in self.coco.cats.items():
            name = category.get("name")
            if not isinstance(name, str) or not name:
                raise BadAnnotation(
                    f"{self.path}: category {number} needs a 'name' to be matched with a detector's classes, "
                    f"not {name!r}"
                )
            if name in found:
                raise BadAnnotation(
                    f"{self.path}: categories {found[name]} and {number} are both named {name!r}"
                )
            found[name] = number
        return found

    def read_results(self, path: Path, *, boxes_only: bool = False) -> list[Result]:
        """A COCO results file: a list of objects with image_id, category_id, score, and a mask or box.

        Args:
            path: the file.
            boxes_only: masks are not looked at, and every result must have a box.

        Raises:
            BadAnnotation: malformed, of photos, categories or sizes that the annotations do not have, or some
                with masks (or boxes) and some without.
        """
        found: list[Result] = []
        for number, entry in enumerate(read_json_list(path)):
            where = f"{path}: result {number}"
            result = self._result(where, entry, boxes_only)
            if found and _parts(result) != _parts(found[0]):
                raise BadAnnotation(
                    f"{where}: has {_parts(result)}, but the results before it have {_parts(found[0])}; "
                    "evaluate them apart"
                )
            found.append(result)
        wanted = set(self.image_ids)
        return [result for result in found if result["image_id"] in wanted]

    def _result(self, where: str, entry: Entry, boxes_only: bool) -> Result:
        """A checked result: ``segmentation`` and ``bbox`` only where it has them."""
        image_id = known_id(where, entry, "image_id", self.coco.imgs, f"'images' of {self.path.name}")
        known_id(where, entry, "category_id", self.coco.cats, f"'categories' of {self.path.name}")
        if not is_number(entry.get("score")):
            raise BadAnnotation(f"{where}: 'score' must be a number, not {entry.get('score')!r}")
        mask, box = None if boxes_only else given(entry, "segmentation"), given(entry, "bbox")
        if box is None and mask is None:
            needed = "'bbox'" if boxes_only else "'segmentation' or 'bbox'"
            raise BadAnnotation(f"{where}: has no {needed}")
        found = {key: entry[key] for key in ("image_id", "category_id", "score")}
        if box is not None:
            found["bbox"] = read_box(where, box)
        if mask is not None:
            if not isinstance(mask, dict):
                raise BadAnnotation(f"{where}: 'segmentation' of a result must be an RLE, not {mask!r:.60}")
            photo = self.coco.imgs[image_id]
            found["segmentation"] = to_json(read_rle(where, mask, (photo["height"], photo["width"])))
        return found


def _annotation(
    where: str, entry: Entry, sizes: Mapping[int, Size], categories: Mapping[int, Entry]
) -> dict[str, Any]:
    """What COCOeval needs of an annotation, without its id."""
    size = sizes[known_id(where, entry, "image_id", sizes, "'images'")]
    known_id(where, entry, "category_id", categories, "'categories'")
    mask, box = given(entry, "segmentation"), given(entry, "bbox")
    if mask is None and box is None:
        raise BadAnnotation(f"{where}: has neither 'segmentation' nor 'bbox'")
    rle = None if mask is None else read_segmentation(where, mask, size)
    xywh = _box_of(rle) if box is None else read_box(where, box)
    found = {
        "image_id": entry["image_id"],
        "category_id": entry["category_id"],
        "iscrowd": _crowd(where, entry),
        "bbox": xywh,
        "area": _area(where, entry, rle, xywh),
    }
    return found if rle is None else found | {"segmentation": rle}


def _box_of(rle: RLE | None) -> list[float]:
    assert rle is not None
    x1, y1, x2, y2 = bounding_boxes([rle])[0].tolist()
    return [x1, y1, x2 - x1, y2 - y1]


def _area(where: str, entry: Entry, rle: RLE | None, box: Sequence[float]) -> float:
    area = entry.get("area")
    if area is None:
        return float(box[2] * box[3] if rle is None else areas([rle])[0])
    if not is_number(area) or area < 0:
        raise BadAnnotation(f"{where}: 'area' must be pixels, 0 or more, not {area!r}")
    return float(area)


def _crowd(where: str, entry: Entry) -> int:
    crowd = entry.get("iscrowd")
    if crowd is None:
        return 0
    if not isinstance(crowd, int) or crowd not in (0, 1):
        raise BadAnnotation(f"{where}: 'iscrowd' must be 0 or 1, not {crowd!r}")
    return int(crowd)


def _parts(result: Result) -> str:
    parts = {"segmentation": "a mask", "bbox": "a box"}
    return " and ".join(name for key, name in parts.items() if key in result)
