"""Tight boxes of masks, without drawing them: only the outermost tiles decide."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from adapters.rle import BoolArray, IntArray
from adapters.tile_runs import Words
from adapters.tiles import TILE

WITHIN, WITHOUT = 1, 2
"""States of a tile: some of its cells are within the mask, some without; a tile may be both."""
ROWS, COLUMNS = 0, 1

DrawWords = Callable[[IntArray], Words]
"""(k, 3) int64 tiles (mask, row, column) -> (k, TILE) uint32, as in :class:`adapters.tile_runs.Tiles`."""


def tight_boxes(states: npt.NDArray[np.uint8], sizes: tuple[IntArray, IntArray], draw: DrawWords) -> IntArray:
    """The boxes of n masks.

    Args:
        states: (n, R, C) uint8 of each tile: ``WITHIN`` if the mask may be in it, ``WITHOUT`` what is not
            of it.
        sizes: (R,) and (C,) pixels of the tiles inside the image.
        draw: draws tiles.

    Returns:
        (n, 4) int64 ``x1, y1, x2, y2``, x2 and y2 one past the last pixel; zeros for an empty mask.
    """
    sides = [
        _outermost(states, axis, last, sizes[axis], draw)
        for last in (False, True)
        for axis in (COLUMNS, ROWS)
    ]
    boxes = np.stack(sides, 1)
    boxes[(boxes < 0).any(1)] = 0
    return boxes


def _outermost(
    states: npt.NDArray[np.uint8], axis: int, last: bool, sizes: IntArray, draw: DrawWords
) -> IntArray:
    """(n,) the first pixel of each mask along an axis, or one past the last; -1 for an empty mask.

    Line by line of tiles from outside: a tile wholly within the mask settles it, others have to be drawn.
    """
    by_line = states if axis == ROWS else states.transpose(0, 2, 1)
    by_line = by_line[:, ::-1] if last else by_line
    count = by_line.shape[1]
    untried: BoolArray = np.any(by_line & WITHIN > 0, axis=2)
    found = np.full(len(states), -1, np.int64)
    open_ = np.flatnonzero(untried.any(1))
    while len(open_):
        nearest = untried[open_].argmax(1)
        tiles = by_line[open_, nearest]
        line = count - 1 - nearest if last else nearest
        settled = (tiles == WITHIN).any(1)
        place = np.where(settled, line * TILE + (sizes[line] if last else 0), -1)
        if not settled.all():
            rest = np.flatnonzero(~settled)
            place[rest] = _drawn_place(open_[rest], tiles[rest] & WITHIN > 0, line[rest], axis, last, draw)
        found[open_] = place
        untried[open_, nearest] = False
        open_ = open_[(place < 0) & untried[open_].any(1)]
    return found


def _drawn_place(
    masks: IntArray, tiles: BoolArray, line: IntArray, axis: int, last: bool, draw: DrawWords
) -> IntArray:
    """As :func:`_outermost` for one line of tiles of each of m masks; -1 where it holds nothing of the mask.

    Args:
        masks: (m,) numbers of the masks.
        tiles: (m, t) bool, which tiles of the line to draw; at least one of each mask.
        line: (m,) number of the line.
    """
    which, along = tiles.nonzero()
    pair = (line[which], along) if axis == ROWS else (along, line[which])
    words = draw(np.stack([masks[which], *pair], 1))
    if axis == ROWS:
        hit = np.unpackbits(
            np.bitwise_or.reduce(words, 1).astype("<u4").view(np.uint8).reshape(-1, 4),
            axis=1,
            bitorder="little",
        )
    else:
        hit = (words > 0).view(np.uint8)
    first = np.flatnonzero(np.append(True, which[1:] != which[:-1]))
    hits = np.bitwise_or.reduceat(hit, first, axis=0)
    inside = TILE - hits[:, ::-1].argmax(1) if last else hits.argmax(1)
    return np.where(hits.any(1), line * TILE + inside, -1)
