"""COCO's panoptic format: one JSON index, a photo folder, and a folder of id maps in RGB."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from sam.errors import BadAnnotation
from sam.pillow import open_picture, turn_of

Ids = npt.NDArray[np.uint32]
MAX_INDEX_BYTES = 1 << 30
"""A larger index is not read: COCO's own for 118,000 photos is 0.4 GiB."""


@dataclass(frozen=True)
class PanopticRecord:
    """One annotated photo.

    Attributes:
        image_id: of the index; the order of the set.
        photo, map: files.
        kept: ids of the segments that are no crowds.
        things: those of them that are things and no stuff; all, where the categories do not say.
        ignored: ids of the crowds, which are neither target nor background.
        categories: number of each segment's category by its id, as the annotations have it.
    """

    image_id: int
    photo: Path
    map: Path
    kept: tuple[int, ...]
    things: tuple[int, ...]
    ignored: tuple[int, ...]
    categories: Mapping[int, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PanopticIndex:
    """What ``panoptic.json`` says.

    Attributes:
        records: by image id.
        categories: as the file has them, ``{"id", "name", "isthing"}``; empty where it has none.
    """

    records: list[PanopticRecord]
    categories: list[dict[str, Any]]


def read_panoptic_index(folder: Path) -> list[PanopticRecord]:
    """The annotations of ``folder``, by image id; raises as :func:`read_panoptic`."""
    return read_panoptic(folder).records


def read_panoptic(folder: Path) -> PanopticIndex:
    """The index of ``folder`` (``images/``, ``panoptic/``, ``panoptic.json``).

    Raises:
        BadAnnotation: an index that is missing or malformed, or an annotation of a photo that is not listed.
    """
    path = folder / "panoptic.json"
    index = read_json(path)
    images = dict(_image(path, entry) for entry in entries(path, index, "images"))
    categories = entries(path, index, "categories") if "categories" in index else []
    stuff = {category.get("id") for category in categories if category.get("isthing") == 0}
    records = [
        _record(folder, path, images, annotation, stuff) for annotation in entries(path, index, "annotations")
    ]
    return PanopticIndex(sorted(records, key=lambda record: record.image_id), categories)


def read_panoptic_map(record: PanopticRecord, size: tuple[int, int]) -> Ids:
    """The (H, W) uint32 id map of a photo of ``size`` (H, W); 0 is unlabelled.

    Raises:
        BadAnnotation: the map is missing, damaged or of another size, or its ids are not those of the index.
    """
    coded = read_map(record.map, size).astype(np.uint32)
    ids: Ids = coded[..., 0] + 256 * coded[..., 1] + 65536 * coded[..., 2]
    listed = {*record.kept, *record.ignored}
    found = {int(i) for i in np.unique(ids)} - {0}
    for missing, complaint in (
        (listed - found, "is listed in panoptic.json, but no pixel has it"),
        (found - listed, "has pixels, but is not listed in panoptic.json"),
    ):
        if missing:
            raise BadAnnotation(f"{record.map}: segment id {min(missing)} {complaint}")
    return ids


def read_photo(path: Path) -> npt.NDArray[np.uint8]:
    """A photo as (H, W, 3) uint8, the way up in which it is shown and labelled.

    Raises:
        BadAnnotation: missing or damaged.
    """
    with _reading(path) as picture:
        picture.load()
        turn, rgb = turn_of(picture), picture.convert("RGB")
        return np.asarray(rgb if turn is None else rgb.transpose(turn))


def read_map(path: Path, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """A map (H, W, 3) uint8, whose ``size`` (H, W) is checked before anything is decoded.

    Raises:
        BadAnnotation: missing, damaged, or of another size.
    """
    with _reading(path) as picture:
        if (picture.height, picture.width) != size:
            raise BadAnnotation(
                f"{path}: {picture.width} x {picture.height} pixels, but its photo has {size[1]} x {size[0]}"
            )
        return np.asarray(picture.convert("RGB"))


@contextmanager
def _reading(path: Path) -> Iterator[PILImage.Image]:
    try:
        with open_picture(path) as picture:
            yield picture
    except FileNotFoundError as error:
        raise BadAnnotation(f"{path}: is named by an annotation, but there is no such file") from error
    except (OSError, ValueError, SyntaxError, PILImage.DecompressionBombError) as error:
        raise BadAnnotation(f"{path}: cannot be read as an image ({error})") from error


def read_json(path: Path) -> Mapping[str, Any]:
    """A JSON object.

    Raises:
        BadAnnotation: missing, unreadable, no JSON, or no object.
    """
    value = _read_json(path)
    if not isinstance(value, dict):
        raise BadAnnotation(f"{path}: expected a JSON object, not a {type(value).__name__}")
    return value


def read_json_list(path: Path) -> list[dict[str, Any]]:
    """A JSON list of objects; errors as :func:`read_json`."""
    values = _read_json(path)
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise BadAnnotation(f"{path}: expected a JSON list of objects")
    return values


def _read_json(path: Path) -> Any:
    try:
        if path.stat().st_size > MAX_INDEX_BYTES:
            raise BadAnnotation(f"{path}: over 1 GiB, too large for an annotation file")
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise BadAnnotation(f"{path}: no such annotation file") from error
    except OSError as error:
        raise BadAnnotation(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BadAnnotation(f"{path}: not JSON: {error}") from error


def entries(path: Path, index: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """The list of objects under ``key`` of an annotation file. Raises :class:`BadAnnotation`."""
    values = index.get(key)
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise BadAnnotation(f"{path}: expected a list of objects under {key!r}")
    return values


def whole(where: Path | str, entry: Mapping[str, Any], key: str) -> int:
    """A whole number of an annotation file, or of an entry of it. Raises :class:`BadAnnotation`."""
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadAnnotation(f"{where}: {key!r} must be a whole number, not {value!r}")
    return value


def is_number(value: object) -> bool:
    """Whether a value of an annotation file is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def file_inside(path: Path, folder: Path, name: object) -> Path:
    """``folder / name`` for a relative name that stays inside. Raises :class:`BadAnnotation`."""
    parts = PurePosixPath(name) if isinstance(name, str) and "\0" not in name else None
    if parts is None or not parts.name or parts.is_absolute() or ".." in parts.parts:
        raise BadAnnotation(f"{path}: 'file_name' must be a name inside {folder.name}/, not {name!r}")
    return folder / parts


def _image(path: Path, entry: Mapping[str, Any]) -> tuple[int, object]:
    return whole(path, entry, "id"), entry.get("file_name")


def _record(
    folder: Path, path: Path, images: Mapping[int, object], annotation: Mapping[str, Any], stuff: set[Any]
) -> PanopticRecord:
    image_id = whole(path, annotation, "image_id")
    if image_id not in images:
        raise BadAnnotation(f"{path}: image {image_id} is annotated, but not listed under 'images'")
    segments = entries(path, annotation, "segments_info")
    return PanopticRecord(
        image_id,
        file_inside(path, folder / "images", images[image_id]),
        file_inside(path, folder / "panoptic", annotation.get("file_name")),
        tuple(whole(path, s, "id") for s in segments if not s.get("iscrowd")),
        tuple(
            whole(path, s, "id")
            for s in segments
            if not s.get("iscrowd") and s.get("category_id") not in stuff
        ),
        tuple(whole(path, s, "id") for s in segments if s.get("iscrowd")),
        {whole(path, s, "id"): s.get("category_id") for s in segments},
    )
