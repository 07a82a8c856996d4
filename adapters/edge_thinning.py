"""Edge thinning: of a broad ridge, what is highest across it (Canny's non-maximum suppression).

As in the structured-edge detector's toolbox (Dollár and Zitnick, 2015), which is what edge maps are usually
thinned with: the direction of an edge comes from second derivatives of the blurred map, and a pixel stays
where it is not lower than the map one pixel away on either side, interpolated. One thing is done better here:
the toolbox's formula for the direction is exact only at multiples of 45 degrees.
"""

from __future__ import annotations

import cv2
import numpy as np

from adapters.results import FloatArray

TOLERANCE = 1.01
"""A pixel may be this much lower than its neighbours, so that ties of equals keep one of them."""
FADED_BORDER = 5
"""Estimates this near to the image's border, in pixels, are weakened: half their surroundings are missing."""


def thin_edges(values: FloatArray) -> FloatArray:
    """Suppress every (H, W) float32 value that is not the highest across its edge.

    Others keep theirs, but for the outermost :data:`FADED_BORDER` pixels, where they fade to 0 at the border.
    """
    smooth = triangle_blur(values, 1)
    orientation = edge_normals(smooth)
    along_x, along_y = np.cos(orientation), np.sin(orientation)
    height, width = values.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    kept = np.ones(values.shape, bool)
    for step in (-1, 1):
        beside = cv2.remap(
            smooth, x + step * along_x, y + step * along_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        kept &= smooth * np.float32(TOLERANCE) >= beside
    return np.asarray(np.where(kept, values, 0) * _fade(height, width), np.float32)


def edge_normals(values: FloatArray) -> FloatArray:
    """(H, W) float32 angles in [0, π) across the edge, 0 along x: where the map is most curved."""
    blurred = triangle_blur(values, 4)
    x, y = _derivative(blurred, 1), _derivative(blurred, 0)
    xx, xy, yy = _derivative(x, 1), _derivative(x, 0), _derivative(y, 0)
    bent = np.where(xx + yy < 0, np.float32(-1), np.float32(1))  # down on a crest, up beside it
    return np.asarray(np.mod(np.arctan2(2 * bent * xy, bent * (xx - yy)) / 2, np.pi), np.float32)


def triangle_blur(values: FloatArray, radius: int) -> FloatArray:
    """Convolve with a triangle of ``2 radius + 1`` pixels both ways; the image is mirrored at its borders."""
    if radius == 1:
        kernel = np.array([1, 2, 1], np.float32)  # the toolbox narrows its smallest one to this
    else:
        kernel = np.concatenate([np.arange(1, radius + 2), np.arange(radius, 0, -1)]).astype(np.float32)
    kernel /= kernel.sum()
    return np.asarray(
        cv2.sepFilter2D(values, cv2.CV_32F, kernel, kernel, borderType=cv2.BORDER_REFLECT), np.float32
    )


def _derivative(values: FloatArray, axis: int) -> FloatArray:
    if values.shape[axis] < 2:
        return np.zeros_like(values)
    return np.asarray(np.gradient(values, axis=axis), np.float32)


def _fade(height: int, width: int) -> FloatArray:
    sides = []
    for length in (height, width):
        distance = np.minimum(np.arange(length), np.arange(length)[::-1]).astype(np.float32)
        sides.append(np.minimum(distance / FADED_BORDER, 1))
    return np.asarray(sides[0][:, None] * sides[1][None], np.float32)
