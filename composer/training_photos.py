"""Sets whose masks may overlap (COCO instances, SA-1B, mask files) as photos to be packed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from adapters.rle import areas, sample_mask
from composer.evaluation.ground_truth import GroundTruth, open_coco, open_mask_folder, open_panoptic
from composer.evaluation.sa1b_truth import open_sa1b
from sam.training.data import MAX_SEGMENTS, LabelledPhoto
from sam.training.panoptic import read_photo

UInt8 = npt.NDArray[np.uint8]
MAX_LAYERS = 16
"""Masks that would need a further layer are left out; SA-1B's photos need about six."""


def open_truth(format: str, folder: Path, images: str, annotations: str) -> GroundTruth:
    """The labelled photos of an opened source.

    Args:
        format: ``panoptic`` (made shapes are that too), ``coco``, ``sa1b`` or ``masks``.
        folder: of the set.
        images, annotations: of COCO instances: folder of the photos and annotation file, in ``folder``.

    Raises:
        UsageError: no such folder. BadAnnotation: an index that is missing, malformed or empty.
    """
    if format == "coco":
        return open_coco(folder / images, folder / annotations)
    return {"sa1b": open_sa1b, "masks": open_mask_folder}.get(format, open_panoptic)(folder)


def labelled_photos(truth: GroundTruth, skip: int, long_side: int) -> Iterator[LabelledPhoto]:
    """The photos of a set from number ``skip`` on, shrunk to ``long_side`` where they are larger.

    Crowds are left out: they are several objects in one mask.

    Raises:
        BadAnnotation: a photo or a mask that is missing or damaged, or masks of another size.
    """
    for image in truth.images[skip:]:
        pixels = read_photo(image.path)
        height, width = pixels.shape[:2]
        segments = [s.rle for s in image.read_segments((height, width)) if not s.crowd]
        scale = min(1.0, long_side / max(height, width))
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        if size != (height, width):
            small = PILImage.fromarray(pixels).resize(size[::-1], PILImage.Resampling.BOX)
            pixels = np.asarray(small)
        rows, columns = (_centres(n, m) for n, m in zip(size, (height, width), strict=True))
        order = np.argsort(-areas(segments), kind="stable")
        masks = (sample_mask(segments[i], rows, columns) for i in order)
        yield LabelledPhoto(pixels, in_layers(masks, size), image.name, stacked=True)


def in_layers(masks: Iterable[npt.NDArray[np.bool_]], size: tuple[int, int]) -> tuple[UInt8, ...]:
    """Masks that may overlap as id maps (H, W), each mask whole in the first map that has room for it.

    Args:
        masks: each of ``size`` (H, W), largest first, so that what lies inside of others comes after them.
        size: of the maps.
    """
    layers: list[UInt8] = []
    counts: list[int] = []
    for mask in masks:
        if not mask.any():  # too small to be left after shrinking
            continue
        room = (i for i, layer in enumerate(layers) if counts[i] < MAX_SEGMENTS and not layer[mask].any())
        place = next(room, len(layers))
        if place == len(layers):
            if place == MAX_LAYERS:
                continue
            layers.append(np.zeros(size, np.uint8))
            counts.append(0)
        counts[place] += 1
        layers[place][mask] = counts[place]
    return tuple(layers) or (np.zeros(size, np.uint8),)


def _centres(small: int, large: int) -> npt.NDArray[np.int64]:
    """(small,) pixels of ``large`` that lie under the centres of ``small``."""
    centres: npt.NDArray[np.int64] = ((np.arange(small) + 0.5) * large / small).astype(np.int64)
    return centres
