"""Training photos and their segments: readers of public formats, and a packed store that is read many times.

A training photo has one or more *layers*: integer maps in which 0 is unlabelled and every other value is a
segment. COCO panoptic has one layer, BSDS one for each annotator.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage
from scipy.io import loadmat

from sam.errors import BadAnnotation
from sam.training.panoptic import read_panoptic_index, read_panoptic_map, read_photo
from sam.training.text_vectors import TextVectors

UInt8 = npt.NDArray[np.uint8]
MAX_SEGMENTS = 254
"""Ids of a photo are 1 to 254; 255 is what the sampler calls the surroundings of objects."""


@dataclass(frozen=True)
class LabelledPhoto:
    """A decoded photo with its segment layers.

    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        layers: each (H, W) uint8; 0 unlabelled.
        name: file name, for messages.
        stacked: the layers are one annotation, whose masks overlap; else each is an annotator's own.
    """

    pixels: UInt8
    layers: tuple[UInt8, ...]
    name: str
    stacked: bool = False


def read_panoptic(folder: Path, skip: int = 0) -> Iterator[LabelledPhoto]:
    """Photos of a COCO-panoptic folder (``images/``, ``panoptic/``, ``panoptic.json``).

    Args:
        folder: the data set.
        skip: leave out the first ``skip`` annotations by image id: the held-out photos.

    Raises:
        BadAnnotation: a file that is missing or damaged, sizes that differ, ids that do not match.
    """
    for record in read_panoptic_index(folder)[skip:]:
        pixels = read_photo(record.photo)
        ids = read_panoptic_map(record, (pixels.shape[0], pixels.shape[1]))
        yield LabelledPhoto(pixels, (_renumber(ids, record.kept),), record.photo.name)


def read_bsds(folder: Path, splits: Sequence[str], max_annotators: int = 3) -> Iterator[LabelledPhoto]:
    """Photos of BSDS500 (``data/images/SPLIT``, ``data/groundTruth/SPLIT``), a layer for each annotator.

    Raises:
        BadAnnotation: a split without photos, or a photo whose segmentations are missing, damaged or of
            another size.
    """
    for split in splits:
        paths = sorted((folder / "data" / "images" / split).glob("*.jpg"))
        if not paths:
            raise BadAnnotation(f"{folder / 'data' / 'images' / split}: no photos (*.jpg) in it")
        for path in paths:
            pixels = read_photo(path)
            maps = _read_segmentations(folder / "data" / "groundTruth" / split / f"{path.stem}.mat")
            for ids in maps:
                if ids.shape != pixels.shape[:2]:
                    raise BadAnnotation(
                        f"{path.stem}.mat: {ids.shape} pixels, its photo has {pixels.shape[:2]}"
                    )
            layers = tuple(_renumber(m, [int(v) for v in np.unique(m)]) for m in maps[:max_annotators])
            yield LabelledPhoto(pixels, layers, path.name)


def _read_segmentations(path: Path) -> list[npt.NDArray[np.uint32]]:
    if not path.is_file():
        raise BadAnnotation(f"{path}: the photo has no such ground truth")
    try:
        truth = loadmat(path)["groundTruth"][0]
        maps = [entry["Segmentation"][0, 0].astype(np.uint32) for entry in truth]
    except Exception as error:  # scipy raises whatever its parser trips over
        raise BadAnnotation(f"{path}: not a BSDS ground truth ({type(error).__name__}: {error})") from error
    if not maps:
        raise BadAnnotation(f"{path}: no annotator's segmentation in it")
    return maps


def _renumber(ids: npt.NDArray[np.uint32], kept: Sequence[int]) -> UInt8:
    """Map the kept ids to 1…254, largest first, everything else to 0."""
    values, inverse, counts = np.unique(ids, return_inverse=True, return_counts=True)
    wanted = np.isin(values, np.asarray(kept, dtype=np.uint32))
    order = [i for i in np.argsort(-counts) if wanted[i]][:MAX_SEGMENTS]
    table = np.zeros(len(values), np.uint8)
    table[order] = np.arange(1, len(order) + 1, dtype=np.uint8)
    return table[inverse].reshape(ids.shape)


@dataclass(frozen=True)
class PackedSet:
    """A set of photos in flat memory maps: decoded once, read in any order at memory speed.

    Attributes:
        pixels, ids: flat uint8 memory maps.
        table: (n, 5) int64 rows ``pixel offset, id offset, height, width, layers``.
        texts: vectors of the segments' pictures, or None.
        counts: of layers that are one annotation, how many segments each has, (n, layers) uint8; None where
            each layer is an annotator's own.
    """

    name: str
    pixels: npt.NDArray[np.uint8]
    ids: npt.NDArray[np.uint8]
    table: npt.NDArray[np.int64]
    texts: TextVectors | None = None
    counts: npt.NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.table)

    def photo(self, index: int) -> UInt8:
        """(H, W, 3) uint8."""
        offset, _, h, w, _ = self.table[index]
        return self.pixels[offset : offset + h * w * 3].reshape(h, w, 3)

    def layer(self, index: int, layer: int) -> UInt8:
        """(H, W) uint8 segment ids of one annotator."""
        _, offset, h, w, _ = self.table[index]
        start = offset + layer * h * w
        return self.ids[start : start + h * w].reshape(h, w)

    def layers(self, index: int) -> int:
        """How many annotators photo ``index`` has."""
        return int(self.table[index, 4])

    def draw_layer(self, index: int, rng: np.random.Generator) -> int:
        """A layer of photo ``index``: any annotator's alike, or by how many segments it has."""
        layers = self.layers(index)
        if self.counts is None:
            return int(rng.integers(layers))
        counts = self.counts[index, :layers].astype(np.float64)
        return int(rng.choice(layers, p=counts / counts.sum())) if counts.any() else 0

    @classmethod
    def open(cls, folder: Path) -> PackedSet:
        """Map a folder that :func:`pack` wrote."""
        return cls(
            folder.name,
            np.memmap(folder / "pixels.bin", np.uint8, "r"),
            np.memmap(folder / "ids.bin", np.uint8, "r"),
            np.load(folder / "table.npy"),
            counts=np.load(folder / "counts.npy") if (folder / "counts.npy").is_file() else None,
        )


def pack(photos: Iterable[LabelledPhoto], folder: Path, long_side: int = 512) -> PackedSet:
    """Write photos as memory maps, shrunk to ``long_side`` where they are larger (never enlarged)."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[int, int, int, int, int]] = []
    counts: list[list[int]] = []
    pixel_offset = id_offset = 0
    with (folder / "pixels.bin").open("wb") as pixel_file, (folder / "ids.bin").open("wb") as id_file:
        for photo in photos:
            pixels, layers = _shrink(photo, long_side)
            h, w = pixels.shape[:2]
            rows.append((pixel_offset, id_offset, h, w, len(layers)))
            pixel_offset += pixel_file.write(pixels.tobytes())
            if photo.stacked:
                counts.append([int(layer.max()) for layer in layers])
            for layer in layers:
                id_offset += id_file.write(layer.tobytes())
    if counts:
        most = max(map(len, counts))
        np.save(folder / "counts.npy", np.array([c + [0] * (most - len(c)) for c in counts], np.uint8))
    # The table goes last: a folder without it is a pack that was interrupted.
    np.save(folder / "table.npy", np.asarray(rows, np.int64).reshape(-1, 5))
    return PackedSet.open(folder)


def _shrink(photo: LabelledPhoto, long_side: int) -> tuple[UInt8, tuple[UInt8, ...]]:
    h, w = photo.pixels.shape[:2]
    scale = long_side / max(h, w)
    if scale >= 1:
        return photo.pixels, photo.layers
    size = (max(1, round(w * scale)), max(1, round(h * scale)))
    pixels = PILImage.fromarray(photo.pixels).resize(size, PILImage.Resampling.BOX)
    layers = [PILImage.fromarray(layer).resize(size, PILImage.Resampling.NEAREST) for layer in photo.layers]
    return np.asarray(pixels), tuple(np.asarray(layer) for layer in layers)
