"""Low-resolution logits to full-size masks, without ever holding full-size logits.

The paper's code upsamples every mask to the whole photo (bilinear to the padded square, crop the padding,
bilinear to the photo) and thresholds afterwards: 48 MB a mask at 12 megapixels. Here a mask is drawn in
square tiles of the photo, and most of them need no drawing:

* every output pixel is a convex combination of a few low-resolution cells, so a tile whose cells all lie
  below the lowest threshold is empty, and one whose cells all lie above the highest is full;
* the tiles in between hold the outline. Both bilinear steps are linear and separable, so such a tile is two
  small products with the composed weights of its rows and columns, in one batch for all masks.

The outcome goes straight into runs in the frame of the whole image. ``SegmentAnything.upsample`` is the plain
path; the tests hold the two together.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from adapters.rle import RLE, BoolArray, IntArray, column_runs

TILE = 32
"""Side of a tile, pixels of the photo. :func:`_count` adds them up in bytes: at most 8 * 255 of them."""
TILES_AT_ONCE = 4096
"""Most tiles of upsampled logits alive at once: 16 MiB as float32."""
BITS_BUDGET = 64 << 20
"""Most bytes that the thresholded tiles of the masks drawn together may take."""


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


class Tiles(NamedTuple):
    """The tiles of n masks, R x C of them each.

    Attributes:
        full: (n, R, C) bool: all of the tile belongs to the mask.
        mixed: (k, 3) int64 rows of (mask, row, column), ascending: the tiles that hold an outline.
        bits: (k, TILE, TILE) bool what is in them, columns first.
    """

    full: BoolArray
    mixed: IntArray
    bits: BoolArray


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

    @property
    def cells(self) -> Tensor:
        """(T, K) int64 cells that each tile draws on."""
        return self.first[:, None] + torch.arange(self.weights.shape[2], device=self.first.device)

    def to(self, device: torch.device) -> TiledAxis:
        """The same axis on ``device``."""
        return TiledAxis(self.first.to(device), self.weights.to(device), self.sizes.to(device))


def tile_axis(low: int, square: int, inside: int, out: int) -> TiledAxis:
    """``low`` cells -> ``square`` pixels, the first ``inside`` of them -> ``out`` pixels."""
    weights, first, last = compose_axis(low, square, inside, out)
    starts = np.arange(0, out, TILE)
    ends = np.minimum(starts + TILE, out)
    cells = int((last[ends - 1] - first[starts]).max()) + 1
    first_cell = np.minimum(first[starts], low - cells)
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


class MaskDrawer:
    """Draws masks of one scene, or of one window of a larger image.

    Args:
        low_size: (h, w) of the low-resolution logits, over the padded square.
        square: side of the padded square in pixels (``SegmentAnything.image_size``).
        input_size: (height, width) of the resized image inside the square.
        image_size: (H, W) of the image or window.
        origin: (x, y) of the window's top-left pixel in the whole image.
        canvas: (H, W) of the whole image; default: the image itself.
        device: where the logits are.
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
        device: torch.device | str = "cpu",
    ) -> None:
        self.rows = tile_axis(low_size[0], square, input_size[0], image_size[0]).to(torch.device(device))
        self.columns = tile_axis(low_size[1], square, input_size[1], image_size[1]).to(torch.device(device))
        self.low_size = low_size
        self.image_size = image_size
        self.origin = origin
        self.canvas = canvas or image_size

    @torch.inference_mode()
    def draw(
        self, low_res: Tensor, *, threshold: float = 0.0, offset: float = 1.0, min_stability: float = 0.0
    ) -> list[DrawnMask]:
        """Draw every mask of (n, h, w) float32 logits.

        Args:
            low_res: low-resolution logits.
            threshold: pixels above it belong to the mask.
            offset: of the stability score, logits; its sign does not matter.
            min_stability: masks below it keep their stability only.
        """
        photo_bytes = self.rows.sizes.numel() * self.columns.sizes.numel() * TILE**2
        levels = (threshold - abs(offset), threshold, threshold + abs(offset))
        return [
            mask
            for some in torch.split(low_res, max(1, BITS_BUDGET // photo_bytes))
            for mask in self._draw_some(some, levels, min_stability)
        ]

    def _draw_some(
        self, low_res: Tensor, levels: tuple[float, float, float], min_stability: float
    ) -> list[DrawnMask]:
        if not len(low_res):
            return []
        low, _, high = levels
        least, most = self._range_of_tiles(low_res)
        full = least > high
        mixed = ((most > low) & ~full).nonzero()
        bits, above_low, above_high = self._draw_tiles(low_res, mixed, levels)
        inside = (full * (self.rows.sizes[:, None] * self.columns.sizes)).sum((1, 2))
        larger = inside.index_add(0, mixed[:, 0], above_low).tolist()
        smaller = inside.index_add(0, mixed[:, 0], above_high).tolist()
        tiles = Tiles(full.cpu().numpy(), mixed.cpu().numpy(), bits)
        return [
            self._collect(tiles, index, few / many if many else 0.0, min_stability)
            for index, (few, many) in enumerate(zip(smaller, larger, strict=True))
        ]

    def _range_of_tiles(self, low_res: Tensor) -> tuple[Tensor, Tensor]:
        """(n, R, C) least and greatest logit that each tile draws on."""
        rows, columns = self.rows.cells, self.columns.cells
        least, most = low_res[:, rows].aminmax(dim=2)
        return least[:, :, columns].amin(3), most[:, :, columns].amax(3)

    def _draw_tiles(
        self, low_res: Tensor, tiles: Tensor, levels: tuple[float, float, float]
    ) -> tuple[BoolArray, Tensor, Tensor]:
        """Draw (k, 3) tiles (mask, row, column).

        Returns:
            (k, TILE, TILE) bool, columns first as COCO's runs go, above the middle level; and (k,) int64 how
            many pixels are above the lowest and the highest.
        """
        cells = low_res.unfold(1, self.rows.weights.shape[2], 1).unfold(2, self.columns.weights.shape[2], 1)
        bits, counts = [np.zeros((0, TILE, TILE), np.bool_)], [tiles.new_zeros(2, 0)]
        for some in torch.split(tiles, TILES_AT_ONCE):
            mask, row, column = some.unbind(1)
            patch = cells[mask, self.rows.first[row], self.columns.first[column]]
            tall = torch.bmm(self.rows.weights[row], patch)
            logits = torch.bmm(self.columns.weights[column], tall.transpose(1, 2))
            self._blank_outside(logits, row, column)
            low, middle, high = (logits > level for level in levels)
            bits.append(middle.cpu().numpy())
            counts.append(torch.stack([_count(low), _count(high)]))
        above_low, above_high = torch.cat(counts, 1)
        return np.concatenate(bits), above_low, above_high

    def _blank_outside(self, logits: Tensor, row: Tensor, column: Tensor) -> None:
        """Lower the pixels of the last row and column of tiles that lie beyond the image."""
        pixel = torch.arange(TILE, device=logits.device)
        height, width = self.rows.sizes[row], self.columns.sizes[column]
        for tile in ((height < TILE) | (width < TILE)).nonzero()[:, 0].split(TILES_AT_ONCE):
            outside = (pixel >= width[tile, None])[:, :, None] | (pixel >= height[tile, None])[:, None, :]
            logits[tile] = logits[tile].masked_fill(outside, -torch.inf)

    def _collect(self, tiles: Tiles, index: int, stability: float, min_stability: float) -> DrawnMask:
        """Put one mask's tiles together and read its runs off."""
        if stability < min_stability:
            return DrawnMask(None, (0, 0, 0, 0), 0, stability)
        mine = slice(*np.searchsorted(tiles.mixed[:, 0], [index, index + 1]))
        row, column = tiles.mixed[mine, 1:].T
        full_row, full_column = tiles.full[index].nonzero()
        top, bottom = _span(np.concatenate([row, full_row]))
        left, right = _span(np.concatenate([column, full_column]))
        # One more row than the window: a run that reaches the bottom ends there, not in the next column.
        window = np.zeros(((right - left) * TILE, (bottom - top) * TILE + 1), np.bool_)
        grid = window[:, :-1].reshape(right - left, TILE, bottom - top, TILE)  # a view
        grid[full_column - left, :, full_row - top] = True
        grid[column - left, :, row - top] = tiles.bits[mine]
        window[:, self.image_size[0] - top * TILE :] = False
        window[self.image_size[1] - left * TILE :] = False
        runs = column_runs(window, (self.origin[0] + left * TILE, self.origin[1] + top * TILE))
        return DrawnMask(runs.encode(self.canvas), runs.box, runs.area, stability)


def _span(places: IntArray) -> tuple[int, int]:
    return (int(places.min()), int(places.max()) + 1) if len(places) else (0, 0)


def _count(tiles: Tensor) -> Tensor:
    """(k, TILE, TILE) bool -> (k,) int64 how many are True, adding eight bytes in one integer at a time."""
    eights = tiles.flatten(1).view(torch.int64).sum(1, keepdim=True)
    return eights.view(torch.uint8).sum(1)
