"""Colours for masks: bright on photos, told apart at a glance, the same for the same mask in every run."""

from __future__ import annotations

import zlib

import cv2
import numpy as np
import numpy.typing as npt

from adapters.rle import RLE
from composer.windows import MaskWindow

PALETTE: npt.NDArray[np.uint8] = np.array(
    [
        (230, 36, 60),  # red
        (40, 170, 70),  # green
        (255, 214, 10),  # yellow
        (52, 92, 240),  # blue
        (250, 125, 30),  # orange
        (150, 40, 190),  # purple
        (40, 205, 240),  # cyan
        (240, 60, 215),  # magenta
        (165, 230, 40),  # lime
        (255, 150, 175),  # pink
        (10, 145, 140),  # teal
        (190, 150, 255),  # lavender
        (120, 240, 180),  # mint
        (165, 95, 30),  # brown
    ],
    np.uint8,
)
"""(14, 3) RGB."""
_SKETCH_SIDE = 256


class ColourChooser:
    """Gives each mask a colour that differs from those it touches or lies on, as far as fourteen colours
    reach.

    Each mask has a favourite by its own shape, so it keeps its colour from run to run; where a neighbour has
    taken it, the next free one follows. Neighbours are looked up in a sketch of at most 256 x 256 pixels.

    Args:
        image_size: (height, width), pixels.
    """

    def __init__(self, image_size: tuple[int, int]) -> None:
        height, width = image_size
        self._step = -(-max(height, width) // _SKETCH_SIDE)
        self._sketch = np.full((-(-height // self._step), -(-width // self._step)), -1, np.int16)

    def choose(self, rle: RLE, window: MaskWindow) -> npt.NDArray[np.uint8]:
        """The colour of the next mask, (3,) uint8 RGB. Ask in the order of drawing: what is on top counts."""
        where = np.zeros(self._sketch.shape, np.uint8)
        _mark(where, window, self._step)
        seen = self._sketch[cv2.dilate(where, np.ones((5, 5), np.uint8)) > 0]
        taken = np.bincount(seen[seen >= 0], minlength=len(PALETTE))
        # From the favourite on round the palette, in steps that lead from hue to hue; the rarest nearby wins.
        order = (zlib.crc32(rle["counts"]) + 5 * np.arange(len(PALETTE))) % len(PALETTE)
        index = order[np.argmin(taken[order])]
        self._sketch[where > 0] = index
        colour: npt.NDArray[np.uint8] = PALETTE[index]
        return colour


def _mark(cells: npt.NDArray[np.uint8], window: MaskWindow, step: int) -> None:
    """Set the cells of step x step pixels that hold any of the mask: nothing is too small to count."""
    if not window.mask.size:
        return
    (x, y), (height, width) = window.corner, window.mask.shape
    # Where the window's rows and columns enter the next cell; its first cell may be cut.
    rows = np.r_[0, np.arange(step - y % step, height, step)]
    columns = np.r_[0, np.arange(step - x % step, width, step)]
    marks = np.maximum.reduceat(window.mask.view(np.uint8), rows, axis=0)
    marks = np.maximum.reduceat(marks, columns, axis=1)
    cells[y // step : y // step + len(rows), x // step : x // step + len(columns)] = marks
