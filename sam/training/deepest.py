"""The pixel deepest inside of a region: where a careful person clicks (paper App. D.1)."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt


def deepest_point(region: npt.NDArray[np.bool_]) -> tuple[int, int, float] | None:
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
