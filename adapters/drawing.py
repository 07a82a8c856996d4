"""Low-resolution logits to full-size masks, without ever holding full-size logits.

The paper's code upsamples every mask to the whole photo (bilinear to the padded square, crop the padding,
bilinear to the photo) and thresholds afterwards: 48 MB a mask at 12 megapixels. Both steps are linear and
separable, so on each axis they are one banded matrix with at most four taps a row, and two facts keep the
work small:

* every output pixel is a convex combination of at most 4 x 4 low-resolution cells, so outside the window that
  the cells above the lowest threshold can reach, everything is below it;
* a mask's runs can be moved into the full-size frame, so not even one full-size bitmap is needed.

``SegmentAnything.upsample`` is the plain path; the tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from adapters.rle import RLE, IntArray, column_runs

BLOCK_ELEMENTS = 1 << 18
"""Most upsampled logits alive at once (1 MiB as float32: stays in a core's cache)."""


class DrawnMask(NamedTuple):
    """One mask in the frame of the whole image.

    Attributes:
        rle: at the canvas' size; None if the mask was not stable enough to be drawn.
        box: ``x1, y1, x2, y2`` pixels, x2 and y2 one past the last pixel; zeros for an empty mask.
        area: pixels.
        stability: in [0, 1], see :func:`adapters.selection.stability_score`.
    """

    rle: RLE | None
    box: tuple[int, int, int, int]
    area: int
    stability: float


class Axis(NamedTuple):
    """The two bilinear steps along one axis, composed.

    Attributes:
        weights: (out, low) float32, rows sum to 1.
        first, last: (out,) int64, ascending: the cells that each output pixel draws on, inclusive.
    """

    weights: Tensor
    first: IntArray
    last: IntArray

    def reach(self, low_first: int, low_last: int) -> tuple[int, int]:
        """The half-open range of output pixels that draw on any of the cells low_first..low_last."""
        start = int(np.searchsorted(self.last, low_first, "left"))
        stop = int(np.searchsorted(self.first, low_last, "right"))
        return start, max(start, stop)


def compose_axis(low: int, square: int, inside: int, out: int) -> Axis:
    """``low`` cells -> ``square`` pixels, the first ``inside`` of them -> ``out`` pixels."""
    i0, i1, weight1 = _linear_taps(low, square)
    to_square = np.zeros((square, low), np.float32)
    rows = np.arange(square)
    np.add.at(to_square, (rows, i0), 1 - weight1)
    np.add.at(to_square, (rows, i1), weight1)
    j0, j1, share1 = _linear_taps(inside, out)
    weights = to_square[j0] * (1 - share1)[:, None] + to_square[j1] * share1[:, None]
    return Axis(torch.from_numpy(weights), i0[j0], i1[j1])


def _linear_taps(size: int, out: int) -> tuple[IntArray, IntArray, npt.NDArray[np.float32]]:
    """Neighbours and the second one's weight, in torch's own float32 steps (``align_corners=False``)."""
    scale = np.float32(size) / np.float32(out)
    source = scale * (np.arange(out, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5)
    source = np.maximum(source, np.float32(0))
    i0 = np.minimum(source.astype(np.int64), size - 1)
    i1 = np.minimum(i0 + 1, size - 1)
    return i0, i1, source - i0.astype(np.float32)


class MaskDrawer:
    """Draws masks of one scene, or of one window of a larger image.

    Args:
        low_size: (h, w) of the low-resolution logits, over the padded square.
        square: side of the padded square in pixels (``SegmentAnything.image_size``).
        input_size: (height, width) of the resized image inside the square.
        image_size: (H, W) of the image or window.
        origin: (x, y) of the window's top-left pixel in the whole image.
        canvas: (H, W) of the whole image; default: the image itself.
    """

    def __init__(
        self,
        low_size: tuple[int, int],
        square: int,
        input_size: tuple[int, int],
        image_size: tuple[int, int],
        *,
        origin: tuple[int, int] = (0, 0),
        canvas: tuple[int, int] | None = None,
    ) -> None:
        self.rows = compose_axis(low_size[0], square, input_size[0], image_size[0])
        self.columns = compose_axis(low_size[1], square, input_size[1], image_size[1])
        self.low_size = low_size
        self.origin = origin
        self.canvas = canvas or image_size

    def draw(
        self, low_res: Tensor, *, threshold: float = 0.0, offset: float = 1.0, min_stability: float = 0.0
    ) -> list[DrawnMask]:
        """Draw every mask of (n, h, w) float32 logits.

        Args:
            low_res: low-resolution logits.
            threshold: pixels above it belong to the mask.
            offset: of the stability score, logits.
            min_stability: masks below it keep their stability only.
        """
        windows = self._windows(low_res, threshold - abs(offset))
        return [
            self._draw_one(logits, window, (threshold - offset, threshold, threshold + offset), min_stability)
            for logits, window in zip(low_res, windows, strict=True)
        ]

    def _windows(self, low_res: Tensor, lowest: float) -> list[tuple[int, int, int, int]]:
        """Rows and columns of the image, half-open, outside which all is at or below ``lowest``."""
        # Cells that only the padding draws on are no part of the image.
        inside = low_res[:, : int(self.rows.last[-1]) + 1, : int(self.columns.last[-1]) + 1] > lowest
        in_rows, in_columns = inside.any(2).cpu().numpy(), inside.any(1).cpu().numpy()
        windows = []
        for row, column in zip(in_rows, in_columns, strict=True):
            r, c = np.flatnonzero(row), np.flatnonzero(column)
            windows.append(
                (*self.rows.reach(r[0], r[-1]), *self.columns.reach(c[0], c[-1])) if len(r) else (0,) * 4
            )
        return windows

    def _draw_one(
        self,
        logits: Tensor,
        window: tuple[int, int, int, int],
        levels: tuple[float, float, float],
        min_stability: float,
    ) -> DrawnMask:
        top, bottom, left, right = window
        bits = np.zeros((right - left, bottom - top + 1), np.bool_)
        low, middle, high = levels
        above_low = above_high = 0
        for start, block in self._blocks(logits, window):
            above_low += int(torch.count_nonzero(block > low))
            above_high += int(torch.count_nonzero(block > high))
            bits[start - left : start - left + len(block), :-1] = (block > middle).cpu().numpy()
        smaller, larger = sorted((above_low, above_high))  # a negative offset is as good as a positive one
        stability = smaller / larger if larger else 0.0
        if stability < min_stability:
            return DrawnMask(None, (0, 0, 0, 0), 0, stability)
        runs = column_runs(bits, (self.origin[0] + left, self.origin[1] + top))
        return DrawnMask(runs.encode(self.canvas), runs.box, runs.area, stability)

    def _blocks(self, logits: Tensor, window: tuple[int, int, int, int]) -> Iterator[tuple[int, Tensor]]:
        """Column by column, as COCO's runs go: pairs of the first column and (columns, rows) logits."""
        top, bottom, left, right = window
        if top == bottom or left == right:
            return
        step = max(1, BLOCK_ELEMENTS // (bottom - top))
        r0, r1 = int(self.rows.first[top]), int(self.rows.last[bottom - 1]) + 1
        down = self.rows.weights[top:bottom, r0:r1].to(logits.device)
        c0, c1 = int(self.columns.first[left]), int(self.columns.last[right - 1]) + 1
        tall = logits[r0:r1, c0:c1].T.contiguous() @ down.T
        for start in range(left, right, step):
            stop = min(start + step, right)
            k0, k1 = int(self.columns.first[start]), int(self.columns.last[stop - 1]) + 1
            across = self.columns.weights[start:stop, k0:k1].to(logits.device)
            yield start, across @ tall[k0 - c0 : k1 - c0]
