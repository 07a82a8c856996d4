"""How n masks lie to those of another set: overlap, cover, contact. On run lengths, few masks at a time."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from adapters import rle as run_length
from adapters.rle import RLE, BoolArray

PAIRS_AT_A_TIME = 1 << 20
"""Overlaps held together: 8 MiB, however many masks are compared with however many."""

Shares = npt.NDArray[np.float64]


def highest_iou(rles: Sequence[RLE], others: Sequence[RLE]) -> Shares:
    """(n,) IoU of each mask with the one of ``others`` that it overlaps most; 0 where there is none."""
    highest = np.zeros(len(rles))
    if not others:
        return highest
    step = max(1, PAIRS_AT_A_TIME // len(others))
    for start in range(0, len(rles), step):
        part = list(rles[start : start + step])
        highest[start : start + step] = coco_mask.iou(part, list(others), [False] * len(others)).max(1)
    return highest


def share_inside(rles: Sequence[RLE], region: RLE) -> Shares:
    """(n,) share of each mask's pixels that lie in ``region``; 0 for an empty mask."""
    if not rles:
        return np.zeros(0)
    # What pycocotools calls the IoU with a crowd: intersection / area of the mask.
    shares: Shares = coco_mask.iou(list(rles), [region], [True])[:, 0]
    return shares


def touches(rles: Sequence[RLE], region: RLE, gap: int) -> BoolArray:
    """(n,) which masks have a pixel in ``region``, or at most ``gap`` pixels away from it.

    Args:
        gap: pixels between the two, diagonals counted like sides; 0: they overlap, or pixels are neighbours.
    """
    near = run_length.encode_mask(grown(run_length.decode_mask(region), gap + 1))
    return share_inside(rles, near) > 0


def grown(region: BoolArray, margin: int) -> BoolArray:
    """(H, W) bool with ``margin`` more pixels all round, diagonals counted like sides."""
    if margin == 0 or not region.any():
        return region
    # Farther than the image is wide or high there is nothing to reach.
    reach_y, reach_x = (min(margin, side) for side in region.shape)
    square = np.ones((2 * reach_y + 1, 2 * reach_x + 1), np.uint8)  # OpenCV takes it row by row, then column
    return np.asarray(cv2.dilate(region.view(np.uint8), square)).view(np.bool_)
