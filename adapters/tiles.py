"""An image's axis cut into tiles, each with the low-resolution cells that it is drawn from.

Both bilinear steps from logits to photo (to the padded square, and from its inside to the photo) are linear
and separable, so along each axis they are one banded matrix: a tile of the photo is two small products.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from adapters.rle import IntArray

TILE = 32
"""Side of a tile, pixels of the photo: a column of one is the bits of a 32-bit word."""


class TiledAxis(NamedTuple):
    """The two bilinear steps along one axis, composed and cut into T tiles that draw on K cells each.

    Attributes:
        first: (T,) int64, each tile's first cell; it draws on the K cells from there.
        weights: (T, TILE, K) float32; the rows of a pixel sum to 1, those beyond the image to 0.
        sizes: (T,) int64 pixels of each tile inside the image: TILE, but for the last.
    """

    first: Tensor
    weights: Tensor
    sizes: Tensor

    def to(self, device: torch.device) -> TiledAxis:
        """The same axis on ``device``."""
        return TiledAxis(self.first.to(device), self.weights.to(device), self.sizes.to(device))


def tile_axis(low: int, square: int, inside: int, out: int) -> TiledAxis:
    """``low`` cells -> ``square`` pixels, the first ``inside`` of them -> ``out`` pixels.

    Cells beyond the last one that the image sees are in no tile, so logits may end there.
    """
    weights, first, last = compose_axis(low, square, inside, out)
    starts = np.arange(0, out, TILE)
    ends = np.minimum(starts + TILE, out)
    cells = int((last[ends - 1] - first[starts]).max()) + 1
    first_cell = np.minimum(first[starts], int(last.max()) + 1 - cells)
    tiles = np.zeros((len(starts), TILE, cells), np.float32)
    for tile, start, end, cell in zip(tiles, starts, ends, first_cell, strict=True):
        tile[: end - start] = weights[start:end, cell : cell + cells]
    return TiledAxis(torch.from_numpy(first_cell), torch.from_numpy(tiles), torch.from_numpy(ends - starts))


def compose_axis(
    low: int, square: int, inside: int, out: int
) -> tuple[npt.NDArray[np.float32], IntArray, IntArray]:
    """Both steps as one banded matrix.

    Returns:
        (out, low) float32 weights, and the first and last cell that each output pixel draws on, both
        ascending.
    """
    i0, i1, weight1 = _linear_taps(low, square)
    to_square = np.zeros((square, low), np.float32)
    rows = np.arange(square)
    np.add.at(to_square, (rows, i0), 1 - weight1)
    np.add.at(to_square, (rows, i1), weight1)
    j0, j1, share1 = _linear_taps(inside, out)
    weights = to_square[j0] * (1 - share1)[:, None] + to_square[j1] * share1[:, None]
    return weights, i0[j0], i1[j1]


def _linear_taps(size: int, out: int) -> tuple[IntArray, IntArray, npt.NDArray[np.float32]]:
    """Neighbours and the second one's weight, in torch's own float32 steps (``align_corners=False``)."""
    scale = np.float32(size) / np.float32(out)
    source = scale * (np.arange(out, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5)
    source = np.maximum(source, np.float32(0))
    i0 = np.minimum(source.astype(np.int64), size - 1)
    i1 = np.minimum(i0 + 1, size - 1)
    return i0, i1, source - i0.astype(np.float32)
