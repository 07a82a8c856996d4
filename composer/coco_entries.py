"""Entries of COCO files, checked one by one: ids, photos, masks, boxes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from adapters.rle import RLE, from_json
from sam.errors import BadAnnotation
from sam.training.panoptic import entries, file_inside, is_number, whole

Size = tuple[int, int]
Entry = Mapping[str, Any]


def by_id(path: Path, index: Entry, key: str) -> dict[int, dict[str, Any]]:
    """The objects under ``key`` of a file's content, by their ids, in the file's order.

    Raises:
        BadAnnotation: no list of objects, an id that is no whole number, or one that two of them have.
    """
    found: dict[int, dict[str, Any]] = {}
    for number, entry in enumerate(entries(path, index, key)):
        identity = whole(f"{path}: {key}[{number}]", entry, "id")
        if identity in found:
            raise BadAnnotation(f"{path}: {key}[{number}]: a second entry with the id {identity}")
        found[identity] = entry
    return found


def known_id(where: str, entry: Entry, key: str, listed: Mapping[int, Any], under: str) -> int:
    """An entry's id of something that is listed elsewhere.

    Args:
        where: how messages begin.
        entry: the entry.
        key: under which it has the id.
        listed: what there is, by id.
        under: where that is listed, for messages.

    Raises:
        BadAnnotation: no whole number, or not listed.
    """
    identity = whole(where, entry, key)
    if identity not in listed:
        raise BadAnnotation(f"{where}: {key} {identity} is not listed under {under}")
    return identity


def given(entry: Entry, key: str) -> Any:
    """What an entry has under ``key``; None also for null and an empty list, as exporters write "none"."""
    value = entry.get(key)
    return None if value == [] else value


def read_size(where: str, photo: Entry) -> Size:
    """(H, W) pixels that an entry of ``images`` states. Raises BadAnnotation, which begins with ``where``."""
    height, width = whole(where, photo, "height"), whole(where, photo, "width")
    if height < 1 or width < 1:
        raise BadAnnotation(f"{where}: a photo of {width} x {height} pixels; expected at least 1 x 1")
    return height, width


def photo_path(path: Path, images: Path, photo: Entry) -> Path:
    """Where the photo of an entry of ``images`` lies. Raises BadAnnotation: no name inside of the folder."""
    return file_inside(path, images, _file_name(photo, images))


def _file_name(photo: Entry, images: Path) -> object:
    """LVIS names its photos by address alone: ``.../val2017/000000397133.jpg``."""
    address = photo.get("coco_url")
    if photo.get("file_name") is not None or not isinstance(address, str):
        return photo.get("file_name")
    split, _, name = address.rpartition("/")
    folder = split.rpartition("/")[2]
    return f"{folder}/{name}" if (images / folder).is_dir() and folder else name


def read_box(where: str, value: object) -> list[float]:
    """``[x, y, width, height]`` in pixels. Raises BadAnnotation, which begins with ``where``."""
    if not isinstance(value, list) or len(value) != 4 or not all(map(is_number, value)):
        raise BadAnnotation(f"{where}: 'bbox' must be [x, y, width, height], not {value!r}")
    if value[2] < 0 or value[3] < 0:
        raise BadAnnotation(f"{where}: 'bbox' {value!r} has a negative width or height")
    return [float(side) for side in value]


def read_rle(where: str, value: Entry, size: Size) -> RLE:
    """A mask of a photo of ``size`` (H, W). Raises BadAnnotation, which begins with ``where``."""
    try:
        rle = from_json(value)
    except BadAnnotation as error:
        raise BadAnnotation(f"{where}: {error}") from error
    if tuple(rle["size"]) != size:
        height, width = rle["size"]
        raise BadAnnotation(
            f"{where}: a mask of {width} x {height} pixels, but its photo has {size[1]} x {size[0]}"
        )
    return rle


def read_segmentation(where: str, value: object, size: Size) -> RLE:
    """An RLE or a list of polygons as a mask of a photo of ``size`` (H, W).

    Raises:
        BadAnnotation: neither, damaged, or of another size; the message begins with ``where``.
    """
    if isinstance(value, dict):
        return read_rle(where, value, size)
    if not isinstance(value, list) or not value or not all(_is_polygon(part) for part in value):
        raise BadAnnotation(f"{where}: 'segmentation' must be an RLE or a list of polygons [x, y, x, y, ...]")
    highest = [max(c for part in value for c in part[axis::2]) for axis in (0, 1)]
    if highest[0] > size[1] + 1 or highest[1] > size[0] + 1:
        raise BadAnnotation(
            f"{where}: a polygon reaches {highest[0]:g}, {highest[1]:g}, outside its photo of "
            f"{size[1]} x {size[0]} pixels"
        )
    merged: RLE = coco_mask.merge(coco_mask.frPyObjects(value, *size))
    return merged


def _is_polygon(part: object) -> bool:
    return (
        isinstance(part, list)
        and len(part) >= 6
        and len(part) % 2 == 0
        and all(isinstance(c, int | float) and not isinstance(c, bool) and -1e6 < c < 1e6 for c in part)
    )
