"""Low-resolution logits to full-size masks, without ever holding full-size logits.

The paper's code upsamples every mask to the whole photo (bilinear to the padded square, crop the padding,
bilinear to the photo) and thresholds afterwards: 48 MB a mask at 12 megapixels. Here a mask is drawn in
square tiles of the photo, and most of them need no drawing:

* every output pixel is a convex combination of a few low-resolution cells, so a tile whose cells all lie
  below the lowest threshold is empty, and one whose cells all lie above the highest is full;
* the tiles in between hold the outline, and are drawn: see :mod:`adapters.tiles`;
* a box needs fewer still: those of the outermost rows and columns of tiles in which the mask may begin.

What is drawn goes from bits straight into runs in the frame of the whole image. ``SegmentAnything.upsample``
is the plain path; the tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from adapters.rle import RLE, IntArray
from adapters.tile_boxes import WITHIN, WITHOUT, tight_boxes
from adapters.tile_runs import Tiles, Words, inside_words, places_of, runs_of_tiles
from adapters.tiles import TILE, tile_axis

TILES_AT_ONCE = 512
"""Most tiles of upsampled logits alive at once: 2 MiB as float32, which caches hold."""
TILE_GRID_BUDGET = 64 << 20
"""Most bytes that what is known of every tile, drawn or not, may take for the masks drawn together."""
TILES_KEPT = 16_384
"""Drawn tiles of masks whose runs are read off together: 2 MiB, and a hundred times that as runs of noise."""
BYTES_A_TILE = 32
"""A byte for its state, four for its place among the drawn, and what is made of them on the way."""


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
        self._sizes = (self.rows.sizes.cpu().numpy(), self.columns.sizes.cpu().numpy())

    @torch.inference_mode()
    def draw(
        self, low_res: Tensor, *, threshold: float = 0.0, offset: float = 1.0, min_stability: float = 0.0
    ) -> list[DrawnMask]:
        """Draw every mask of (n, h, w) float32 logits.

        Args:
            low_res: low-resolution logits; cells beyond those that the image sees may be left out.
            threshold: pixels above it belong to the mask.
            offset: of the stability score, logits; its sign does not matter.
            min_stability: masks below it keep their stability only.
        """
        return [
            mask
            for some in self._few_at_a_time(low_res - threshold if threshold else low_res)
            for mask in self._draw_some(some, abs(offset), min_stability)
        ]

    @torch.inference_mode()
    def boxes(self, low_res: Tensor, *, threshold: float = 0.0) -> IntArray:
        """The tight boxes of the masks of (n, h, w) float32 logits, in the frame of the whole image.

        Returns:
            (n, 4) int64 ``x1, y1, x2, y2``, those that :meth:`draw` gives; zeros for an empty mask.
        """
        parts = [np.zeros((0, 4), np.int64)]
        for some in self._few_at_a_time(low_res - threshold if threshold else low_res):
            states = self._states(some, 0, 0)
            found = tight_boxes(states, self._sizes, partial(self._words, some))
            parts.append(self._placed(found))
        return np.concatenate(parts)

    def _few_at_a_time(self, low_res: Tensor) -> tuple[Tensor, ...]:
        tiles = len(self._sizes[0]) * len(self._sizes[1])
        at_once = max(1, TILE_GRID_BUDGET // (BYTES_A_TILE * tiles))
        return torch.split(low_res, at_once) if len(low_res) else ()

    def _draw_some(self, low_res: Tensor, offset: float, min_stability: float) -> list[DrawnMask]:
        states = self._states(low_res, -offset, offset)
        drawn = (states == WITHIN | WITHOUT).sum((1, 2)).cumsum()
        parts = np.flatnonzero(np.diff(drawn // TILES_KEPT)) + 1
        return [
            mask
            for some, known in zip(
                torch.tensor_split(low_res, parts.tolist()), np.split(states, parts), strict=True
            )
            for mask in self._draw_together(some, known, offset, min_stability)
        ]

    def _draw_together(
        self, low_res: Tensor, states: npt.NDArray[np.uint8], offset: float, min_stability: float
    ) -> list[DrawnMask]:
        full, tiles = states == WITHIN, np.stack(places_of(states == WITHIN | WITHOUT), 1)
        words, larger, smaller = self._words_and_counts(low_res, tiles, offset)
        inside = (full * np.outer(*self._sizes)).sum((1, 2))
        few, many = (
            inside + np.bincount(tiles[:, 0], counts, len(low_res)).astype(np.int64)
            for counts in (smaller, larger)
        )
        stability = few / np.maximum(many, 1)
        stable = stability >= min_stability
        kept = stable[tiles[:, 0]]
        tiles = tiles[kept]
        tiles[:, 0] = (np.cumsum(stable) - 1)[tiles[:, 0]]
        runs = runs_of_tiles(Tiles(full[stable], tiles, words[kept], self.image_size))
        masks = [DrawnMask(None, (0, 0, 0, 0), 0, score) for score in stability.tolist()]
        for number, rle, (x1, y1, x2, y2), area in zip(
            np.flatnonzero(stable).tolist(),
            runs.encode(self.origin, self.canvas),
            self._placed(runs.boxes()).tolist(),
            runs.areas().tolist(),
            strict=True,
        ):
            masks[number] = DrawnMask(rle, (x1, y1, x2, y2), area, masks[number].stability)
        return masks

    def _placed(self, boxes: IntArray) -> IntArray:
        """Boxes of the window in the frame of the whole image; those of empty masks stay zeros."""
        return np.where(boxes[:, 2:3] > 0, boxes + np.array(self.origin * 2), 0)

    def _states(self, low_res: Tensor, lowest: float, highest: float) -> npt.NDArray[np.uint8]:
        """(n, R, C) what each tile's cells are: some above ``lowest``, some not above ``highest``."""
        higher, lower = above(low_res, lowest), ~above(low_res, highest)
        cells = higher.view(torch.uint8) * WITHIN + lower.view(torch.uint8) * WITHOUT
        for axis, tiled in ((1, self.rows), (2, self.columns)):
            cells = _windows(cells, axis, tiled.weights.shape[2]).index_select(axis, tiled.first)
        states: npt.NDArray[np.uint8] = cells.cpu().numpy()
        return states

    def _words(self, low_res: Tensor, tiles: IntArray) -> Words:
        """(k, TILE) uint32: the masks in (k, 3) tiles (mask, row, column)."""
        drawn = [packed(above(logits, 0)) for logits in self._logits(low_res, tiles)]
        words = np.concatenate([np.zeros((0, TILE), np.uint32), *drawn])
        return words & inside_words(tiles[:, 1], tiles[:, 2], self.image_size)

    def _words_and_counts(
        self, low_res: Tensor, tiles: IntArray, offset: float
    ) -> tuple[Words, IntArray, IntArray]:
        """The masks in (k, 3) tiles, and (k,) how many pixels are above ``-offset`` and above ``offset``."""
        words, larger, smaller = [np.zeros((0, TILE), np.uint32)], [], []
        for logits in self._logits(low_res, tiles):
            words.append(packed(above(logits, 0)))
            larger.append(_count(above(logits, -offset)))
            smaller.append(_count(above(logits, offset)))
        none = np.zeros(0, np.int64)
        height, width = (sizes[tiles[:, axis]] for axis, sizes in enumerate(self._sizes, 1))
        # Beyond the image, logits are 0.
        beyond = (TILE**2 - height * width) * (offset > 0)
        inside = inside_words(tiles[:, 1], tiles[:, 2], self.image_size)
        return (
            np.concatenate(words) & inside,
            np.concatenate([none, *larger]) - beyond,
            np.concatenate([none, *smaller]),
        )

    def _logits(self, low_res: Tensor, tiles: IntArray) -> Iterator[Tensor]:
        """(k, TILE, TILE) logits of (k, 3) tiles, columns first as COCO's runs go, some tiles at a time."""
        cells, width = low_res.reshape(-1), low_res.shape[2]
        rows, columns = self.rows, self.columns
        down, across = rows.weights.shape[2], columns.weights.shape[2]
        window = torch.arange(down)[:, None] * width + torch.arange(across)
        window = window.flatten().to(low_res.device)
        for some in torch.split(torch.from_numpy(tiles).to(low_res.device), TILES_AT_ONCE):
            mask, row, column = some.unbind(1)
            corner = (mask * low_res.shape[1] + rows.first[row]) * width + columns.first[column]
            patch = cells[corner[:, None] + window].view(-1, down, across)
            tall = torch.bmm(rows.weights[row], patch)
            yield torch.bmm(columns.weights[column], tall.transpose(1, 2))


def above(values: Tensor, level: float) -> Tensor:
    """``values > level`` as a tensor of bool. On a CPU by numpy, which takes an eighth of torch's time."""
    if values.device.type != "cpu":
        return values > level
    return torch.from_numpy(np.greater(values.numpy(), np.float32(level)))


def _windows(cells: Tensor, axis: int, width: int) -> Tensor:
    """The bits of ``width`` cells from each on along an axis, joined: windows of 1, 2, 4, … from halves."""
    joined = 1
    while joined < width:
        step = min(joined, width - joined)
        length = cells.shape[axis] - step
        cells = cells.narrow(axis, 0, length) | cells.narrow(axis, step, length)
        joined += step
    return cells


def packed(bits: Tensor) -> Words:
    """(k, TILE, TILE) bool -> (k, TILE) uint32, the first of each row in the lowest bit."""
    octets = np.packbits(bits.cpu().numpy().reshape(-1), bitorder="little")
    words: Words = octets.view("<u4").astype(np.uint32, copy=False).reshape(-1, TILE)
    return words


def _count(tiles: Tensor) -> IntArray:
    """(k, TILE, TILE) bool -> (k,) int64 how many are True, adding eight bytes in one integer at a time."""
    eights = tiles.flatten(1).view(torch.int64).sum(1, keepdim=True)
    return eights.view(torch.uint8).sum(1).cpu().numpy()
