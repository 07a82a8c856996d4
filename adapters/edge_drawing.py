"""Edges of masks: how steep each probability map is along its own outline (paper App. D.2).

The paper takes the Sobel gradient of every probability map at full size, keeps what lies on the mask's
outer boundary, and takes the maximum over all masks. Here a map is looked at in tiles of the photo, as in
:mod:`adapters.drawing`: a tile all of whose low-resolution cells lie on one side of the threshold holds no
boundary and is never drawn. What is drawn is exact; memory is the edge map and some thousand tiles.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from adapters.results import FloatArray
from adapters.tiles import TILE, compose_axis

RIM = 1
"""Pixels around a tile that the gradient and the outline look at."""
TILES_AT_ONCE = 2048


class RimmedAxis(NamedTuple):
    """An axis cut into T tiles with a rim, each drawn from K low-resolution cells.

    Attributes:
        first: (T,) int64, each tile's first cell.
        weights: (T, TILE + 2 RIM, K) float32; beyond the image the outermost pixel is repeated, which has no
            gradient and no outline.
    """

    first: Tensor
    weights: Tensor


def rimmed_axis(low: int, square: int, inside: int, out: int) -> RimmedAxis:
    """``low`` cells -> ``square`` pixels, the first ``inside`` of them -> ``out`` pixels."""
    weights, first, last = compose_axis(low, square, inside, out)
    starts = np.arange(0, out, TILE)
    pixels = np.clip(starts[:, None] + np.arange(-RIM, TILE + RIM), 0, out - 1)
    cells = int((last[pixels[:, -1]] - first[pixels[:, 0]]).max()) + 1
    first_cell = np.minimum(first[pixels[:, 0]], low - cells)
    columns = first_cell[:, None, None] + np.arange(cells)
    tiles = weights[pixels[:, :, None], columns]
    return RimmedAxis(torch.from_numpy(first_cell), torch.from_numpy(np.ascontiguousarray(tiles)))


class EdgeDrawer:
    """Draws the edges of one scene's masks, or of one window's, on top of each other.

    Args:
        low_size: (h, w) of the low-resolution logits, over the padded square.
        square: side of the padded square in pixels.
        input_size: (height, width) of the resized image inside the square.
        image_size: (H, W) of the image or window.
        device: where the logits are.
    """

    def __init__(
        self,
        low_size: tuple[int, int],
        square: int,
        input_size: tuple[int, int],
        image_size: tuple[int, int],
        device: torch.device | str = "cpu",
    ) -> None:
        where = torch.device(device)
        axes = [rimmed_axis(low_size[i], square, input_size[i], image_size[i]) for i in (0, 1)]
        self.rows, self.columns = (RimmedAxis(*(t.to(where) for t in axis)) for axis in axes)
        self.image_size = image_size
        tiles = len(self.rows.first) * len(self.columns.first)
        self._steepest = torch.zeros(tiles, TILE, TILE, device=where)

    @torch.inference_mode()
    def add(self, low_res: Tensor, threshold: float = 0.0) -> None:
        """Draw the edges of (n, h, w) float32 logits where they are steeper than what is there."""
        mixed = self._tiles_with_an_outline(low_res, threshold)
        cells = low_res.unfold(1, self.rows.weights.shape[2], 1).unfold(2, self.columns.weights.shape[2], 1)
        for some in torch.split(mixed, TILES_AT_ONCE):
            mask, row, column = some.unbind(1)
            patch = cells[mask, self.rows.first[row], self.columns.first[column]]
            logits = self.rows.weights[row] @ patch @ self.columns.weights[column].transpose(1, 2)
            steepness = gradient(logits.sigmoid()) * outline(logits > threshold)
            self._raise_to(steepness, mask, row * len(self.columns.first) + column)

    def _raise_to(self, steepness: Tensor, mask: Tensor, tile: Tensor) -> None:
        """Mask by mask, since one mask draws no tile twice: what comes together may be written at once."""
        for part in torch.split(
            torch.arange(len(mask)), mask.unique_consecutive(return_counts=True)[1].tolist()
        ):
            places = tile[part]
            self._steepest[places] = torch.maximum(self._steepest[places], steepness[part])

    def values(self) -> FloatArray:
        """(H, W) float32, from 0: the steepest gradient at each pixel, in probability per pixel times 8."""
        rows, columns = len(self.rows.first), len(self.columns.first)
        grid = self._steepest.reshape(rows, columns, TILE, TILE).transpose(1, 2)
        whole = grid.reshape(rows * TILE, columns * TILE)[: self.image_size[0], : self.image_size[1]]
        values: FloatArray = whole.cpu().numpy().copy()
        return values

    def _tiles_with_an_outline(self, low_res: Tensor, threshold: float) -> Tensor:
        """(k, 3) rows of (mask, row, column): tiles whose cells lie on both sides of the threshold."""
        above = self._greatest(low_res) > threshold
        return (above & (-self._greatest(-low_res) <= threshold)).nonzero()

    def _greatest(self, low_res: Tensor) -> Tensor:
        down = F.max_pool2d(low_res[:, None], (self.rows.weights.shape[2], 1), stride=1)
        across = F.max_pool2d(down[:, :, self.rows.first], (1, self.columns.weights.shape[2]), stride=1)
        return across[:, 0, :, self.columns.first]


def gradient(values: Tensor) -> Tensor:
    """Length of the Sobel gradient: (k, S + 2, S + 2) -> (k, S, S)."""
    across = values[:, :, 2:] - values[:, :, :-2]
    down = values[:, 2:] - values[:, :-2]
    x = across[:, :-2] + 2 * across[:, 1:-1] + across[:, 2:]
    y = down[:, :, :-2] + 2 * down[:, :, 1:-1] + down[:, :, 2:]
    return torch.hypot(x, y)


def outline(mask: Tensor) -> Tensor:
    """Where a 3 x 3 window holds both mask and background: (k, S + 2, S + 2) -> (k, S, S) bool.

    Two pixels wide: the outermost of the mask and the innermost outside, between which the boundary runs.
    """
    bits = mask.to(torch.uint8)
    across = bits[:, :, :-2] + bits[:, :, 1:-1] + bits[:, :, 2:]
    count = across[:, :-2] + across[:, 1:-1] + across[:, 2:]
    return (count > 0) & (count < 9)
