"""Where automatic masks look: overlapping windows and a grid of points in each (App. B, "Cropping")."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Crop(NamedTuple):
    """One window.

    Attributes:
        box: ``x1, y1, x2, y2`` whole pixels, x2 and y2 exclusive.
        layer: 0 for the whole image; layer i has 2^i windows a side.
    """

    box: tuple[int, int, int, int]
    layer: int


def crop_windows(image_size: tuple[int, int], n_layers: int, overlap_ratio: float) -> list[Crop]:
    """The whole image, then every layer's windows, column by column.

    Args:
        image_size: (H, W), pixels.
        n_layers: layers beside the whole image.
        overlap_ratio: overlap of the first layer's windows over the image's shorter side; it halves at each
            layer.

    Returns:
        Windows of at least one pixel: a tiny image has fewer than 4^i in layer i.
    """
    height, width = image_size
    crops = [Crop((0, 0, width, height), 0)]
    for layer in range(1, n_layers + 1):
        per_side = 2**layer
        overlap = int(overlap_ratio * min(height, width) * (2 / per_side))
        spans_x = _spans(width, per_side, overlap)
        spans_y = _spans(height, per_side, overlap)
        crops += [Crop((x1, y1, x2, y2), layer) for x1, x2 in spans_x for y1, y2 in spans_y]
    return crops


def _spans(length: int, count: int, overlap: int) -> list[tuple[int, int]]:
    span = math.ceil((overlap * (count - 1) + length) / count)
    starts = [(span - overlap) * i for i in range(count)]
    return [(start, min(start + span, length)) for start in starts if start < length]


def point_grid(per_side: int) -> npt.NDArray[np.float64]:
    """(per_side^2, 2) ``x, y`` in (0, 1), evenly spaced cell centres, row by row."""
    centres = (np.arange(per_side) + 0.5) / per_side
    x, y = np.meshgrid(centres, centres)
    return np.stack([x.ravel(), y.ravel()], axis=1)
