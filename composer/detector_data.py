"""Labelled photos as a detector of ultralytics reads them: small JPEGs, and a text file of boxes for each."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import yaml
from PIL import Image as PILImage

from composer.formats.atomic import ensure_folder, write_text
from composer.training_data import DataSet, opened
from sam.errors import UsageError
from sam.training.panoptic import PanopticRecord, read_panoptic_index, read_panoptic_map, read_photo

DATASET = "dataset.yaml"
JPEG_QUALITY = 92
MIN_BOX = 4
"""Boxes with a side of fewer pixels, after shrinking, are not taught."""
TRAIN, HELD_OUT = "train", "val"


class Photo(NamedTuple):
    """A photo and its (n, 4) float64 boxes ``x1, y1, x2, y2`` in pixels."""

    pixels: npt.NDArray[np.uint8]
    boxes: npt.NDArray[np.float64]


def write_dataset(
    sets: Sequence[DataSet],
    held_out: tuple[str, int],
    root: Path,
    folder: Path,
    *,
    long_side: int,
    name: str = "object",
    on_set: Callable[[str, int], None] | None = None,
) -> Path:
    """Write all things of all sets as boxes of one class; a folder that has just that is left as it is.

    Args:
        sets: COCO-panoptic ones; each without its first ``skip`` photos, each photo as often in the list as
            the set's weight says, rounded. Photos with crowds are left out, since a detector would be taught
            that there is nothing.
        held_out: name of the source of the held-out photos, and how many of its first.
        root: folder with the sets, as folders or .tar files.
        folder: of the new data set.
        long_side: larger photos are shrunk to this.
        name: of the class.
        on_set: called with a set's name and its photos, when it is written.

    Returns:
        The data set's YAML file.

    Raises:
        UsageError, BadAnnotation: a set is missing or damaged, or the folder holds a foreign data set.
    """
    path = folder / DATASET
    made_of = _digest(sets, held_out, root, long_side, name)
    if path.is_file():
        there = path.read_text("utf-8")
        if made_of in there:
            return path
        if "made_of" not in there:
            raise UsageError(
                f"{path}: is no data set of ours, and would have to go: choose another folder with --packed",
                field="packed",
            )
        path.unlink()  # of other photos: they must not stay among these
        for part in ("images", "labels"):
            shutil.rmtree(folder / part, ignore_errors=True)
    source, count = held_out
    plan = [(one.name, one.source, slice(one.skip, None), TRAIN, round(one.weight)) for one in sets]
    plan.append(("held out", source, slice(0, count), HELD_OUT, 1))
    listed: dict[str, list[str]] = {TRAIN: [], HELD_OUT: []}
    for kind in (TRAIN, HELD_OUT):
        for part in ("images", "labels"):
            ensure_folder(folder / part / kind)
    for label, where, which, kind, times in plan:
        with opened("panoptic", where, root, folder) as data:
            written = 0
            for photo in _photos(read_panoptic_index(data)[which], long_side):
                written += 1
                stem = f"{where.replace('/', '-')}-{written:06d}"
                image = PILImage.fromarray(photo.pixels)
                image.save(folder / "images" / kind / f"{stem}.jpg", quality=JPEG_QUALITY)
                write_text(folder / "labels" / kind / f"{stem}.txt", _lines(photo))
                listed[kind] += [f"./images/{kind}/{stem}.jpg\n"] * times
        if on_set:
            on_set(label, written)
    about = {"path": str(folder.resolve()), "names": {0: name}, "made_of": made_of}
    for kind, lines in listed.items():
        write_text(folder / f"{kind}.txt", "".join(lines))
        about[kind] = f"{kind}.txt"
    return write_text(path, yaml.safe_dump(about, sort_keys=False))  # last: its presence says all is there


def _digest(sets: Sequence[DataSet], held_out: tuple[str, int], root: Path, long_side: int, name: str) -> str:
    """What a data set is made of, in short."""
    parts = [[one.name, one.source, one.skip, round(one.weight)] for one in sets]
    made_of = [parts, held_out, str(root.resolve()), long_side, name]
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]


def _photos(records: Sequence[PanopticRecord], long_side: int) -> Iterator[Photo]:
    for record in records:
        if record.ignored or not record.things:
            continue
        pixels = read_photo(record.photo)
        height, width = pixels.shape[:2]
        ids = read_panoptic_map(record, (height, width))
        scale = min(1.0, long_side / max(height, width))
        small = PILImage.fromarray(pixels).resize(
            (max(1, round(width * scale)), max(1, round(height * scale)))
        )
        boxes = np.array([_box(ids == number) for number in record.things], np.float64)
        boxes *= np.tile([small.width / width, small.height / height], 2)
        large = ((boxes[:, 2:] - boxes[:, :2]) >= MIN_BOX).all(1)
        if large.any():
            yield Photo(np.asarray(small), boxes[large])


def _box(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _lines(photo: Photo) -> str:
    """``class x y width height``, centres and sizes as shares of the photo's."""
    height, width = photo.pixels.shape[:2]
    x1, y1, x2, y2 = photo.boxes.T
    shares = np.stack(
        [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height], 1
    )
    return "".join(f"0 {' '.join(f'{v:.6f}' for v in row)}\n" for row in shares)
