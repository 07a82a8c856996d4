"""Where a careful person clicks: the point farthest from the boundary (paper App. D.1)."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


class Click(NamedTuple):
    """A click on a pixel: ``x, y``, and ``label`` 1 for the object or 0 for the background."""

    x: int
    y: int
    label: int


def deepest_point(region: Mask) -> tuple[int, int, float] | None:
    """The pixel of a (H, W) region that is farthest from everything outside of it.

    What lies beyond the image is outside of every region. Of several such pixels it is the topmost, and of
    those the leftmost.

    Returns:
        ``x, y`` and the distance in pixels to the nearest pixel outside; None for an empty region.
    """
    x, y, width, height = cv2.boundingRect(region.astype(np.uint8))
    if not width:
        return None
    # Outside the bounding box there is nothing but outside: one ring of it is enough.
    inside = np.pad(region[y : y + height, x : x + width].astype(np.uint8), 1)
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    row, column = np.unravel_index(int(distance.argmax()), distance.shape)
    return int(column) - 1 + x, int(row) - 1 + y, float(distance[row, column])


def first_click(truth: Mask) -> Click:
    """The first click on a segment.

    Raises:
        ValueError: an empty mask.
    """
    point = deepest_point(truth)
    if point is None:
        raise ValueError("an empty mask cannot be clicked on")
    return Click(point[0], point[1], 1)


def next_click(predicted: Mask, truth: Mask) -> Click | None:
    """The correction of a mask: the deepest point of what is missing, or of what is too much.

    The two are looked at apart, since where they touch their union would be deepest on the line between them.
    At equal depth the missing part comes first.

    Returns:
        None where the masks are equal.
    """
    missing, too_much = deepest_point(truth & ~predicted), deepest_point(predicted & ~truth)
    if missing is not None and (too_much is None or missing[2] >= too_much[2]):
        return Click(missing[0], missing[1], 1)
    return None if too_much is None else Click(too_much[0], too_much[1], 0)
