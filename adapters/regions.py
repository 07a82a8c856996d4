"""Small-region clean-up of masks (App. B, "Postprocessing")."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from adapters import rle as run_length
from adapters.results import FloatArray, Instances
from adapters.rle import RLE, BoolArray
from adapters.selection import box_nms, mask_boxes

CONNECTIVITY = 8


def clean_mask(mask: BoolArray, min_area: float) -> tuple[BoolArray, bool]:
    """Fill holes, then remove components, of fewer than ``min_area`` pixels.

    If every component is smaller, the largest stays (segment-anything's ``min_mask_region_area``).

    Args:
        mask: (H, W) bool.
        min_area: pixels.

    Returns:
        The cleaned (H, W) mask, and whether it had a small region (or was nothing but one).
    """
    holes, hole_areas = _components(~mask)
    small_holes = _where(hole_areas < min_area)
    if small_holes.any():
        mask = mask | small_holes[holes]
    islands, island_areas = _components(mask)
    small_islands = _where(island_areas < min_area)
    small = bool(small_holes.any() or small_islands.any())
    if small_islands.any():
        if len(island_areas) == small_islands.sum():
            small_islands[1 + int(np.argmax(island_areas))] = False
        mask = mask & ~small_islands[islands]
    return mask, small


def largest_component(mask: BoolArray) -> int:
    """Pixels of the largest component; 0 for an empty mask."""
    return int(_components(mask)[1].max()) if mask.any() else 0


def clean_rle(rle: RLE, box: FloatArray, min_area: float) -> tuple[RLE, FloatArray, bool]:
    """:func:`clean_mask` for an encoded mask.

    Args:
        rle: the mask; box: (4,) its tight ``x1, y1, x2, y2``.

    Returns:
        The cleaned mask, its box, and whether it had a small region.
    """
    height, width = rle["size"]
    window = _window(box, (height, width), min_area)
    cleaned, small = clean_mask(run_length.decode_window(rle, window), min_area)
    if not small:
        return rle, box, False
    left, top = window[1].start, window[0].start
    cleaned_box = mask_boxes(cleaned[None])[0] + np.array([left, top, left, top], np.float32)
    return run_length.encode_window(cleaned, (left, top), (height, width)), cleaned_box, True


def clean_instances(instances: Instances, min_area: float, nms_thresh: float) -> Instances:
    """Clean every mask, then suppress the duplicates that this made, preferring those that were tidy before.

    Args:
        min_area: pixels, see :func:`clean_mask`.
        nms_thresh: box IoU above which two masks are duplicates.
    """
    cleaned = [
        clean_rle(rle, box, min_area) for rle, box in zip(instances.rles, instances.boxes, strict=True)
    ]
    tidiness = np.array([not small for _, _, small in cleaned], np.float32)
    boxes = np.array([box for _, box, _ in cleaned], np.float32).reshape(-1, 4)
    tidy = instances.replace(rles=tuple(rle for rle, _, _ in cleaned), boxes=boxes)
    return tidy[box_nms(boxes, tidiness, nms_thresh)]


def drop_small(instances: Instances, min_area: float) -> Instances:
    """Only the masks whose largest component has at least ``min_area`` pixels (App. B)."""
    keep = [
        largest_component(run_length.decode_window(rle, _window(box, tuple(rle["size"]), 0))) >= min_area
        for rle, box in zip(instances.rles, instances.boxes, strict=True)
    ]
    return instances[np.array(keep, np.bool_)]


def _components(mask: BoolArray) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Labels (H, W), 0 outside the mask, and the components' areas (the first is label 1's)."""
    if mask.size == 0:  # OpenCV 5.0 crashes
        return np.zeros(mask.shape, np.int32), np.zeros(0, np.int32)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=CONNECTIVITY)
    return np.asarray(labels, np.int32), np.asarray(stats[1:, cv2.CC_STAT_AREA], np.int32)


def _where(chosen: BoolArray) -> BoolArray:
    """Look-up table over labels: label 0, the outside, is never chosen."""
    return np.concatenate([[False], chosen])


def _window(box: FloatArray, shape: tuple[int, ...], margin: float) -> tuple[slice, slice]:
    """The box and ``margin`` px around it.

    A strip of background between the mask and the image's border counts as a hole when it is small enough.
    With a margin of ``min_area`` such a strip is either inside the window whole, or large enough already.
    """
    pad = int(np.ceil(margin))
    x1, y1, x2, y2 = (int(v) for v in box)
    return (
        slice(max(0, y1 - pad), min(shape[0], y2 + pad)),
        slice(max(0, x1 - pad), min(shape[1], x2 + pad)),
    )
