"""Labelled photos to evaluate on: three formats, one protocol.

Opening a set reads its index and no photo. A photo's masks are read one photo at a time, as COCO RLE, against
the photo's real size: that is where a set that contradicts itself shows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from adapters.rle import RLE, areas, encode_mask
from composer.coco_entries import Size, by_id, photo_path, read_segmentation
from composer.folders import IMAGE_SUFFIXES
from sam.errors import BadAnnotation, UsageError
from sam.pillow import open_picture
from sam.training.panoptic import (
    PanopticRecord,
    entries,
    read_json,
    read_panoptic,
    read_panoptic_map,
    whole,
)


@dataclass(frozen=True)
class Segment:
    """One labelled segment.

    Attributes:
        rle: its mask at the photo's size.
        area: pixels, as the annotation has it or else of the mask.
        crowd: several objects in one mask: neither to be found nor wrong to be found.
        frequency: of its category in LVIS: ``f`` frequent, ``c`` common, ``r`` rare; None where nothing says.
        annotation_id: of a COCO file; None elsewhere.
        category: name of its category, as the set has it; None where nothing says.
    """

    rle: RLE
    area: float
    crowd: bool = False
    frequency: str | None = None
    annotation_id: int | None = None
    category: str | None = None

    @classmethod
    def of_masks(cls, rles: Sequence[RLE]) -> list[Segment]:
        """Segments of masks about which nothing else is known."""
        return [cls(rle, float(area)) for rle, area in zip(rles, areas(rles), strict=True)]


ReadSegments = Callable[[Size], list[Segment]]


@dataclass(frozen=True)
class LabelledImage:
    """One photo and its segments.

    Attributes:
        path: the photo.
        name: its file name, for reports.
        read_segments: takes the photo's (H, W) and gives its segments at that size, crowds among them, in the
            set's order; raises BadAnnotation where they do not fit it.
        annotation_ids: of those that are no crowds, in a COCO file; empty elsewhere.
    """

    path: Path
    name: str
    read_segments: ReadSegments
    annotation_ids: tuple[int, ...] = ()

    def read_masks(self, size: Size) -> list[RLE]:
        """The masks that are no crowds, at ``size`` (H, W); raises BadAnnotation as ``read_segments``."""
        return [segment.rle for segment in self.read_segments(size) if not segment.crowd]


@dataclass(frozen=True)
class GroundTruth:
    """A set of labelled photos, in the order of their image ids (or names).

    Attributes:
        source: where it comes from, for reports.
        images: of the photos that are labelled.
        categories: names of all categories of the set, and whether each is a thing (or stuff); empty where
            nothing says.
    """

    source: str
    images: tuple[LabelledImage, ...]
    categories: Mapping[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.images:
            raise BadAnnotation(f"{self.source}: no labelled photo in it, nothing to evaluate on")

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[LabelledImage]:
        return iter(self.images)

    def limited(self, count: int | None) -> GroundTruth:
        """The first ``count`` photos; None: all."""
        return replace(self, images=self.images[:count])


def open_panoptic(folder: Path) -> GroundTruth:
    """A COCO-panoptic folder: ``images/``, ``panoptic/`` and ``panoptic.json``.

    Raises:
        BadAnnotation: an index that is missing, malformed or empty.
    """
    _check_folder(folder)
    index = read_panoptic(folder)
    names = _names(index.categories)
    records = [record for record in index.records if record.kept]
    return GroundTruth(
        str(folder),
        tuple(LabelledImage(r.photo, r.photo.name, _panoptic_reader(r, names)) for r in records),
        {name: category.get("isthing") != 0 for name, category in _by_name(index.categories)},
    )


def _by_name(categories: Sequence[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    return [(str(c["name"]), c) for c in categories if c.get("name") is not None]


def _names(categories: Sequence[dict[str, Any]]) -> dict[int, str]:
    """Names by what annotations call a category."""
    named = ((category.get("id"), name) for name, category in _by_name(categories))
    return {identity: name for identity, name in named if isinstance(identity, int)}


def _panoptic_reader(record: PanopticRecord, names: Mapping[int, str]) -> ReadSegments:
    def read(size: Size) -> list[Segment]:
        ids = read_panoptic_map(record, size)
        numbers = [*record.kept, *record.ignored]
        segments = Segment.of_masks([encode_mask(ids == number) for number in numbers])
        return [
            replace(
                segment,
                crowd=number in record.ignored,
                category=_category(record.categories.get(number), names),
            )
            for segment, number in zip(segments, numbers, strict=True)
        ]

    return read


def open_coco(images: Path, annotations: Path) -> GroundTruth:
    """A COCO or LVIS instance file and the folder of its photos. Photos without instances are left out.

    Raises:
        BadAnnotation: a file that is missing, malformed or empty, or an annotation of a photo not listed.
    """
    _check_folder(images)
    index = read_json(annotations)
    photos = by_id(annotations, index, "images")
    of_photo: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for annotation in entries(annotations, index, "annotations"):
        image_id = whole(annotations, annotation, "image_id")
        if image_id not in photos:
            raise BadAnnotation(
                f"{annotations}: image {image_id} is annotated, but not listed under 'images'"
            )
        of_photo[image_id].append(annotation)
    known = entries(annotations, index, "categories") if isinstance(index.get("categories"), list) else []
    names = _names(known)
    frequencies = {whole(annotations, c, "id"): str(c["frequency"]) for c in known if "frequency" in c}
    labelled = []
    for image_id in sorted(of_photo):
        if all(annotation.get("iscrowd") for annotation in of_photo[image_id]):
            continue
        path = photo_path(annotations, images, photos[image_id])
        reader = _coco_reader(annotations, of_photo[image_id], frequencies, names)
        counted = [_annotation_id(one) for one in of_photo[image_id] if not one.get("iscrowd")]
        ids = tuple(number for number in counted if number is not None)
        labelled.append(LabelledImage(path, path.name, reader, ids))
    things = {name: category.get("isthing") != 0 for name, category in _by_name(known)}
    return GroundTruth(str(annotations), tuple(labelled), things)


def _coco_reader(
    path: Path,
    annotations: Sequence[dict[str, Any]],
    frequencies: Mapping[int, str],
    names: Mapping[int, str],
) -> ReadSegments:
    def read(size: Size) -> list[Segment]:
        segments = Segment.of_masks(
            [
                read_segmentation(f"{path}: annotation {a.get('id')!r}", a.get("segmentation"), size)
                for a in annotations
            ]
        )
        return [
            replace(
                segment,
                area=_area(annotation, segment.area),
                crowd=bool(annotation.get("iscrowd")),
                frequency=_frequency(path, annotation, frequencies),
                annotation_id=_annotation_id(annotation),
                category=_category(annotation.get("category_id"), names),
            )
            for segment, annotation in zip(segments, annotations, strict=True)
        ]

    return read


def _frequency(path: Path, annotation: dict[str, Any], known: Mapping[int, str]) -> str | None:
    if not known:  # then the category is of no interest
        return None
    return known.get(whole(f"{path}: annotation {annotation.get('id')!r}", annotation, "category_id"))


def _category(identity: object, names: Mapping[int, str]) -> str | None:
    return names.get(identity) if isinstance(identity, int) else None


def _annotation_id(annotation: dict[str, Any]) -> int | None:
    """Only for groups of annotations, so that a set may do without."""
    number = annotation.get("id")
    return number if isinstance(number, int) and not isinstance(number, bool) else None


def _area(annotation: dict[str, Any], pixels: float) -> float:
    area = annotation.get("area")
    given = isinstance(area, int | float) and not isinstance(area, bool) and area >= 0
    return float(area) if given else pixels  # type: ignore[arg-type]


def open_mask_folder(folder: Path) -> GroundTruth:
    """Plain files: ``images/NAME.*`` with ``masks/NAME.png`` or a folder ``masks/NAME/`` of PNG files.

    ``masks/NAME.png`` is a map: 0 is unlabelled, every other value a segment (grey of 8 or 16 bits, palette
    index, or RGB). In ``masks/NAME/`` each file is one segment: what is not 0. Photos without masks are left
    out.

    Raises:
        BadAnnotation: masks without a photo, two photos of one name, or nothing at all.
    """
    _check_folder(folder)
    photos: dict[str, Path] = {}
    for path in _listing(folder / "images"):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            if path.stem in photos:
                raise BadAnnotation(f"{path}: a second photo named {path.stem!r}, whose masks are they?")
            photos[path.stem] = path
    found: dict[str, ReadSegments] = {}
    for path in _listing(folder / "masks"):
        if not path.is_dir() and path.suffix.lower() != ".png":
            continue
        name = path.name if path.is_dir() else path.stem
        if name not in photos:
            raise BadAnnotation(f"{path}: masks of a photo that is not in {folder / 'images'}")
        if name in found:
            raise BadAnnotation(f"{path}: a map and a folder for the same photo; keep one of them")
        found[name] = _files_reader(path) if path.is_dir() else _map_reader(path)
    return GroundTruth(
        str(folder), tuple(LabelledImage(photos[n], photos[n].name, found[n]) for n in sorted(found))
    )


def _map_reader(path: Path) -> ReadSegments:
    def read(size: Size) -> list[Segment]:
        ids = _read_map(path, size)
        return Segment.of_masks([encode_mask(ids == value) for value in np.unique(ids) if value])

    return read


def _files_reader(folder: Path) -> ReadSegments:
    def read(size: Size) -> list[Segment]:
        files = [path for path in _listing(folder) if path.suffix.lower() == ".png"]
        if not files:
            raise BadAnnotation(f"{folder}: no mask (*.png) in it")
        return Segment.of_masks([encode_mask(_read_map(path, size) != 0) for path in files])

    return read


def _read_map(path: Path, size: Size) -> npt.NDArray[np.int64]:
    """(H, W) values of a PNG; colours count as the panoptic format has them."""
    try:
        with open_picture(path, ["PNG"]) as image:
            if (image.height, image.width) != size:
                raise BadAnnotation(
                    f"{path}: {image.width} x {image.height} pixels, but its photo has {size[1]} x {size[0]}"
                )
            # Transparency is no label; a palette's indices are, and are left as they are.
            plain = {"RGBA": "RGB", "LA": "L"}.get(image.mode)
            values = np.asarray(image.convert(plain) if plain else image).astype(np.int64)
    except (OSError, ValueError, SyntaxError, PILImage.DecompressionBombError) as error:
        raise BadAnnotation(f"{path}: cannot be read as a PNG mask ({error})") from error
    return values if values.ndim == 2 else values @ np.array([1, 256, 65536])


def choose_segments(
    segments: Sequence[Segment], min_area: int = 0, limit: int | None = None
) -> list[Segment]:
    """Those of at least ``min_area`` (and of at least one) pixel, largest first, at most ``limit``."""
    sizes = areas([segment.rle for segment in segments])
    order = np.argsort(-sizes, kind="stable")
    return [segments[i] for i in order if sizes[i] >= max(1, min_area)][:limit]


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder", field="data")


def _listing(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise BadAnnotation(f"{folder}: cannot be listed: {error.strerror}") from error
