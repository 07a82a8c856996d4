"""SA-1B's own layout as ground truth: photos, and beside each a JSON file of the same name with its masks."""

from __future__ import annotations

from pathlib import Path

from composer.coco_entries import Size, read_rle, read_size
from composer.evaluation.ground_truth import GroundTruth, LabelledImage, ReadSegments, Segment
from composer.folders import IMAGE_SUFFIXES
from sam.errors import BadAnnotation, UsageError
from sam.training.panoptic import entries, read_json

PHOTOS = "images"
"""Where photos may lie instead of beside the JSON files."""


def open_sa1b(folder: Path) -> GroundTruth:
    """A folder of ``NAME.json`` files, each with ``NAME.jpg`` (or another image) beside it or in ``images/``.

    No JSON file is read before its photo is asked for: SA-1B has eleven thousand in each part.

    Raises:
        UsageError: no such folder.
        BadAnnotation: masks without a photo, two photos of one name, or nothing at all.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder", field="data")
    photos: dict[str, Path] = {}
    for where in (folder, folder / PHOTOS):
        for path in sorted(where.iterdir()) if where.is_dir() else ():
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
                if path.stem in photos:
                    raise BadAnnotation(f"{path}: a second photo named {path.stem!r}, whose masks are they?")
                photos[path.stem] = path
    images = []
    for path in sorted(folder.glob("*.json")):
        if path.stem not in photos:
            raise BadAnnotation(f"{path}: masks of a photo that is neither beside it nor in {PHOTOS}/")
        photo = photos[path.stem]
        images.append(LabelledImage(photo, photo.name, _reader(path)))
    return GroundTruth(str(folder), tuple(images))


def _reader(path: Path) -> ReadSegments:
    def read(size: Size) -> list[Segment]:
        content = read_json(path)
        photo = content.get("image")
        if not isinstance(photo, dict):
            raise BadAnnotation(f"{path}: expected an object under 'image'")
        stated = read_size(f"{path}: image", photo)
        if stated != size:
            raise BadAnnotation(
                f"{path}: masks of a photo of {stated[1]} x {stated[0]} pixels, "
                f"but it has {size[1]} x {size[0]}"
            )
        rles = []
        for number, entry in enumerate(entries(path, content, "annotations")):
            where, value = f"{path}: annotations[{number}]", entry.get("segmentation")
            if not isinstance(value, dict):
                raise BadAnnotation(f"{where}: 'segmentation' must be an RLE")
            rles.append(read_rle(where, value, size))
        return Segment.of_masks(rles)

    return read
