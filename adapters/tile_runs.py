"""Masks as tiles of bits, and the runs of many of them at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from adapters.mask_runs import MaskRuns
from adapters.rle import BoolArray, IntArray
from adapters.tiles import TILE

Words = npt.NDArray[np.uint32]
EMPTY, FULL, FIRST_DRAWN = 0, 1, 2
"""Rows of the table of words: a tile without the mask, one within it, and the drawn ones after them."""
ALL_BITS = np.uint32(0xFFFFFFFF)


class Tiles(NamedTuple):
    """The tiles of n masks, R x C of them each.

    Attributes:
        full: (n, R, C) bool: all of the tile belongs to the mask.
        mixed: (k, 3) int64 rows of (mask, row, column), ascending: the tiles that hold an outline.
        words: (k, TILE) uint32 what is in them, a word for each pixel column, the uppermost pixel first.
        size: (H, W) of the image, pixels; tiles of the last row and column may reach beyond it.
    """

    full: BoolArray
    mixed: IntArray
    words: Words
    size: tuple[int, int]


def runs_of_tiles(tiles: Tiles) -> MaskRuns:
    """The runs of all masks of ``tiles``.

    A tile turns where a pixel differs from the one above it, be that in the tile above. Tiles like the one
    above them, both within or both without the mask, are never looked at.
    """
    slots, table = _table_of_words(tiles)
    above = np.zeros_like(slots)
    above[:, :, 1:] = slots[:, :, :-1]
    mask, column, row = places_of((slots != above) | (slots >= FIRST_DRAWN))
    words, before = table[slots[mask, column, row]], table[above[mask, column, row]]
    turns = words ^ ((words << np.uint32(1)) | (before >> np.uint32(TILE - 1)))
    tile, x = places_of(turns > 0)
    octets = np.ascontiguousarray(turns[tile, x]).astype("<u4").view(np.uint8).reshape(-1, 4)
    word, y = np.unpackbits(octets, axis=1, bitorder="little").nonzero()
    tile, x = tile[word], x[word]
    # Each column's turns end with the image, one row below its last: they come in pairs, a run each.
    height, width = tiles.size[0] + 1, tiles.size[1]
    places = (mask[tile] * width + column[tile] * TILE + x) * height + row[tile] * TILE + y
    places.sort()
    upright, top = np.divmod(places[0::2], height)
    owner, left = np.divmod(upright, width)
    return MaskRuns(owner, left, top, places[1::2] - upright * height, len(slots))


def _table_of_words(tiles: Tiles) -> tuple[npt.NDArray[np.int32], Words]:
    """Which row of a table of words each tile has.

    Returns:
        (n, C, R + 1) int32, with an empty row of tiles below the image, and the table, (m, TILE) uint32.
    """
    count, rows, columns = tiles.full.shape
    slots = np.zeros((count, columns, rows + 1), np.int32)
    slots[:, :, :rows] = tiles.full.transpose(0, 2, 1)
    # Full tiles at the border end where the image does, which makes them drawn ones.
    border = np.zeros((rows, columns), np.bool_)
    border[-1:] |= tiles.size[0] % TILE > 0
    border[:, -1:] |= tiles.size[1] % TILE > 0
    rim = np.stack((tiles.full & border).nonzero(), 1)
    drawn = np.concatenate([tiles.mixed, rim])
    words = np.concatenate([tiles.words, np.full((len(rim), TILE), ALL_BITS)])
    words &= inside_words(drawn[:, 1], drawn[:, 2], tiles.size)
    slots[drawn[:, 0], drawn[:, 2], drawn[:, 1]] = np.arange(FIRST_DRAWN, FIRST_DRAWN + len(drawn))
    constant = np.array([[0], [ALL_BITS]], np.uint32).repeat(TILE, 1)
    return slots, np.concatenate([constant, words])


def places_of(chosen: BoolArray) -> tuple[IntArray, ...]:
    """Where an array is True, an index for each axis: numpy's ``nonzero``, which is slow beyond one axis."""
    return np.unravel_index(np.flatnonzero(chosen), chosen.shape)


def inside_words(row: IntArray, column: IntArray, size: tuple[int, int]) -> Words:
    """(k, TILE) uint32: the pixels of tiles at (row, column) that are in an image of ``size`` (H, W)."""
    height = np.minimum(size[0] - row * TILE, TILE)
    upright = ALL_BITS >> (TILE - height).astype(np.uint32)
    within = np.arange(TILE) < (size[1] - column * TILE)[:, None]
    inside: Words = np.where(within, upright[:, None], np.uint32(0)).astype(np.uint32)
    return inside
