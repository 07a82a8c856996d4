"""Named pictures, packed: whole images of class folders, and regions of labelled photos with their masks.

Each is kept as a square window of the photo around the region, wider than any crop that is taken from it
later, so that a step of training reads a few kilobytes and cuts what it wants.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from adapters.rle import encode_mask
from adapters.visual_prompts import GREY, Look, Style, encircle, set_apart, show_region
from composer.folders import IMAGE_SUFFIXES
from composer.formats.atomic import atomic_file, ensure_folder, write_json, writing
from sam.errors import BadAnnotation
from sam.training.panoptic import read_panoptic_index, read_panoptic_map, read_photo

Pixels = npt.NDArray[np.uint8]
SIDE = 160
"""Of a packed window, pixels."""
WIDEST = 2.2
"""Side of a packed window, as a multiple of the region's longer side."""
MIN_AREA = 150
"""Regions of fewer pixels are left out: nobody could name them."""
MOST_PER_NAME = 6
"""Of one photo's regions of one name, the largest so many."""
HELD_OUT_EVERY = 10
"""Of a class folder's images, from ten on, each tenth is held out."""


@dataclass(frozen=True)
class Named:
    """One packed picture.

    Attributes:
        window: (SIDE, SIDE, 3) uint8 RGB.
        mask: (SIDE, SIDE) bool.
        share: longer side of the region, as a share of the window's.
        whole: it is an image of its own, without surroundings.
    """

    window: Pixels
    mask: npt.NDArray[np.bool_]
    share: float
    whole: bool


class PackedRegions:
    """Packed pictures, read from memory maps.

    Attributes:
        names: (n,) class names as the data set has them.
        held_out: (n,) bool: not to be taught.
    """

    def __init__(self, folder: Path) -> None:
        about = json.loads((folder / "about.json").read_text())
        self.names: list[str] = about["names"]
        self.held_out = np.array(about["held_out"], bool)
        self._shares = np.array(about["shares"], np.float32)
        self._whole: bool = about["whole"]
        self._windows = np.load(folder / "windows.npy", mmap_mode="r")
        self._masks = None if self._whole else np.load(folder / "masks.npy", mmap_mode="r")

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, number: int) -> Named:
        window = np.asarray(self._windows[number], np.uint8)
        if self._masks is None:
            mask: npt.NDArray[np.bool_] = np.ones((SIDE, SIDE), np.bool_)
        else:
            mask = np.unpackbits(self._masks[number]).reshape(SIDE, SIDE).astype(bool)
        return Named(window, mask, float(self._shares[number]), self._whole)


def is_packed(folder: Path, made_of: Mapping[str, Any]) -> bool:
    """Whether a folder holds a pack, and one that was made of this.

    A pack without a record of it, as they were written at first, is taken as it is.
    """
    try:
        about = json.loads((folder / "about.json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(about, dict) and about.get("made_of", made_of) == made_of


def pack_folders(source: Path, folder: Path, made_of: Mapping[str, Any] | None = None) -> PackedRegions:
    """Pack ``source/CLASS/*``: a picture for each image, named as its folder.

    Args:
        source: the class folders.
        folder: for the pack.
        made_of: kept with it for :func:`is_packed`.
    """
    windows, names, held_out = [], [], []
    for part in sorted(p for p in source.iterdir() if p.is_dir()):
        files = sorted(p for p in part.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        for number, path in enumerate(files):
            windows.append(_square(read_photo(path)))
            names.append(part.name)
            held_out.append(len(files) >= HELD_OUT_EVERY and number % HELD_OUT_EVERY == HELD_OUT_EVERY - 1)
    return _write(folder, windows, None, names, held_out, [1.0] * len(names), made_of)


def pack_panoptic(
    source: Path,
    folder: Path,
    first: int = 0,
    count: int | None = None,
    made_of: Mapping[str, Any] | None = None,
) -> PackedRegions:
    """Pack the segments of a COCO-panoptic folder: its photos from number ``first`` on, at most ``count``.

    ``made_of`` is kept with the pack for :func:`is_packed`.

    Raises:
        BadAnnotation: a set that contradicts itself.
    """
    classes = _segment_names(source)
    windows, masks, names, shares = [], [], [], []
    for record in read_panoptic_index(source)[first : None if count is None else first + count]:
        pixels = read_photo(record.photo)
        ids = read_panoptic_map(record, pixels.shape[:2])
        given = classes[record.photo.name]
        taken: dict[str, int] = {}
        areas = {number: int((ids == number).sum()) for number in record.kept}
        for number in sorted(areas, key=lambda n: -areas[n]):
            name = given[number]
            if areas[number] < MIN_AREA or taken.get(name, 0) >= MOST_PER_NAME:
                continue
            taken[name] = taken.get(name, 0) + 1
            window, mask, share = _cut(pixels, ids == number)
            windows.append(window)
            masks.append(mask)
            names.append(name)
            shares.append(share)
    return _write(folder, windows, masks, names, [False] * len(names), shares, made_of)


def _cut(pixels: Pixels, region: npt.NDArray[np.bool_]) -> tuple[Pixels, npt.NDArray[np.bool_], float]:
    columns, rows = np.flatnonzero(region.any(0)), np.flatnonzero(region.any(1))
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    rle = encode_mask(region)
    look = Look(WIDEST, "plain")
    window = show_region(pixels, rle, box, SIDE, look)
    mask = show_region(np.repeat(region[..., None].astype(np.uint8) * 255, 3, 2), rle, box, SIDE, look)
    inside = show_region(np.full_like(pixels, 255), rle, box, SIDE, look)[..., 0] > 127
    return window, (mask[..., 0] > 127) & inside, 1 / WIDEST


def _square(pixels: Pixels) -> Pixels:
    """The middle square of an image, resized."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    part = np.ascontiguousarray(pixels[top : top + side, left : left + side])
    how = cv2.INTER_AREA if side > SIDE else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(part, (SIDE, SIDE), interpolation=how), np.uint8)


def _segment_names(source: Path) -> dict[str, dict[int, str]]:
    """By photo and segment id, the category's name."""
    index: dict[str, Any] = json.loads((source / "panoptic.json").read_text())
    categories = {c["id"]: str(c["name"]) for c in index["categories"]}
    photos = {image["id"]: Path(image["file_name"]).name for image in index["images"]}
    return {
        photos[a["image_id"]]: {s["id"]: categories[s["category_id"]] for s in a["segments_info"]}
        for a in index["annotations"]
    }


def _write(
    folder: Path,
    windows: list[Pixels],
    masks: list[npt.NDArray[np.bool_]] | None,
    names: list[str],
    held_out: list[bool],
    shares: list[float],
    made_of: Mapping[str, Any] | None,
) -> PackedRegions:
    if not names:
        raise BadAnnotation(f"{folder.name}: no named picture in it")
    ensure_folder(folder)
    with writing(folder):  # a pack of something else is none from here on
        (folder / "about.json").unlink(missing_ok=True)
    with atomic_file(folder / "windows.npy") as file:
        np.save(file, np.stack(windows))
    if masks is not None:
        with atomic_file(folder / "masks.npy") as file:
            np.save(file, np.packbits(np.stack(masks).reshape(len(masks), -1), axis=1))
    about: dict[str, Any] = {"names": names, "held_out": held_out, "shares": shares, "whole": masks is None}
    if made_of is not None:
        about["made_of"] = dict(made_of)
    write_json(folder / "about.json", about)  # last: its presence says that all is there
    return PackedRegions(folder)


STYLES_DRAWN: tuple[tuple[Style, float], ...] = (
    ("circle+blur", 0.4), ("plain", 0.2), ("grey", 0.15), ("blur", 0.15), ("circle", 0.1),
)  # fmt: skip


def drawn(named: Named, side: int, chance: random.Random) -> Pixels:
    """A picture (side, side, 3) as training sees it: another crop, style, colours and side each time."""
    return _coloured(_cropped(named, side, chance), chance)


def shown(named: Named, side: int, context: float, style: Style) -> Pixels:
    """A picture (side, side, 3) as :func:`adapters.visual_prompts.show_region` shows regions."""
    length = SIDE if named.whole else SIDE * named.share * context
    return _crop(named, side, SIDE / 2 - length / 2, SIDE / 2 - length / 2, length, False, style)


def _cropped(named: Named, side: int, chance: random.Random) -> Pixels:
    flip = chance.random() < 0.5
    if named.whole:
        length = SIDE * chance.uniform(0.6, 1.0) ** 0.5
        spare = SIDE - length
        return _crop(named, side, chance.uniform(0, spare), chance.uniform(0, spare), length, flip, "plain")
    context = chance.choice((chance.uniform(1.0, 1.3), chance.uniform(1.4, 2.0)))
    length = SIDE * named.share * context
    shift = 0.06 * length
    left, top = (SIDE / 2 - length / 2 + chance.uniform(-shift, shift) for _ in range(2))
    (style,) = chance.choices([s for s, _ in STYLES_DRAWN], [w for _, w in STYLES_DRAWN])
    if style == "plain" and context > 1.4:  # nothing would say which thing is meant
        style = "circle"
    return _crop(named, side, left, top, length, flip, style)


def _crop(
    named: Named, side: int, left: float, top: float, length: float, flip: bool, style: Style
) -> Pixels:
    scale = side / length
    matrix = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]])
    if flip:
        matrix[0] = [-scale, 0, side + left * scale]
    how: dict[str, Any] = {"borderMode": cv2.BORDER_CONSTANT}
    picture = np.asarray(
        cv2.warpAffine(named.window, matrix, (side, side), flags=cv2.INTER_LINEAR, borderValue=GREY, **how),
        np.uint8,
    )
    if style == "plain" or named.whole:
        return picture
    mask = (
        cv2.warpAffine(named.mask.astype(np.uint8), matrix, (side, side), flags=cv2.INTER_LINEAR, **how) > 0
    )
    if style != "circle":
        picture = set_apart(picture, mask, "grey" if style == "grey" else "blur")
    if style.startswith("circle") and mask.any():
        columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
        picture = encircle(picture, (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    return picture


def _coloured(picture: Pixels, chance: random.Random) -> Pixels:
    """Other brightness, contrast and colours; now and then grey, or blurred as small things are."""
    values = picture.astype(np.float32)
    if chance.random() < 0.8:
        gains = [chance.uniform(0.75, 1.25) * chance.uniform(0.92, 1.08) for _ in range(3)]
        mean = values.mean()
        values = (values - mean) * np.array(gains, np.float32) + mean + chance.uniform(-25, 25)
    if chance.random() < 0.08:
        values = np.repeat(values.mean(2, keepdims=True), 3, 2)
    if chance.random() < 0.25:
        small = chance.randint(len(picture) // 3, len(picture))
        coarse = cv2.resize(values, (small, small), interpolation=cv2.INTER_AREA)
        values = np.asarray(cv2.resize(coarse, (len(picture), len(picture))), np.float32)
    return np.clip(values, 0, 255).astype(np.uint8)
