"""The pixel deepest inside of a region: where a careful person clicks (paper App. D.1)."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F


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


def about_deepest_points(regions: Tensor) -> Tensor:
    """As :func:`deepest_point`, of many regions at once where they are: (N, 2) x, y of (N, h, w) bool.

    Distances are octagonal ones, of steps to four neighbours and to eight in turn: up to a tenth off. None
    of the regions is empty.
    """
    inside = F.pad(regions[:, None].to(torch.float16 if regions.is_cuda else torch.float32), (1, 1, 1, 1))
    depth = inside
    for step in range(1, max(regions.shape[-2:]) // 2 + 1):
        outside = 1 - inside
        across = torch.maximum(
            F.max_pool2d(outside, (3, 1), 1, (1, 0)), F.max_pool2d(outside, (1, 3), 1, (0, 1))
        )
        inside = 1 - (across if step % 2 else F.max_pool2d(outside, 3, 1, 1))
        depth = depth + inside
    flat = depth[:, 0, 1:-1, 1:-1].flatten(1).argmax(1)
    width = regions.shape[-1]
    return torch.stack([flat % width, flat // width], 1)
