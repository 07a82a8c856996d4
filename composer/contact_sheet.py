"""Many masks as a contact sheet: each in a cut-out of the photo, ordered by score, with its score below."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from adapters.results import Instance, Instances
from composer.windows import mask_window

Pixels = npt.NDArray[np.uint8]
TILE, CAPTION, GAP = 148, 18, 6
"""Pixels: a tile's side, the line below it, and the space around them."""
DIM = 0.4
"""Share of the photo's brightness outside of the mask."""
OUTLINE = (255, 214, 10)
INK = (40, 40, 40)


def draw_contact_sheet(
    pixels: Pixels, instances: Instances, *, limit: int = 48, columns: int = 8
) -> PILImage.Image:
    """The first ``limit`` instances, row by row; a thousand masks on one photo could not be told apart.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        instances: of that image, in the order in which they are to appear.
        limit: at most so many.
        columns: tiles in a row.

    Raises:
        ValueError: the instances are of an image of another size.
    """
    if pixels.shape[:2] != tuple(instances.image_size):
        raise ValueError(f"instances of a {instances.image_size} image on one of {pixels.shape[:2]}")
    shown = list(instances[:limit])
    rows = max(1, math.ceil(len(shown) / columns))
    width, height = TILE + GAP, TILE + CAPTION + GAP
    sheet = np.full((rows * height + GAP, columns * width + GAP, 3), 255, np.uint8)
    for number, instance in enumerate(shown):
        y, x = GAP + number // columns * height, GAP + number % columns * width
        tile = _tile(pixels, instance)
        top, left = (TILE - tile.shape[0]) // 2, (TILE - tile.shape[1]) // 2
        sheet[y + top : y + top + tile.shape[0], x + left : x + left + tile.shape[1]] = tile
        caption = f"{number + 1}: {instance.score:.2f}"
        place = (x, y + TILE + CAPTION - 5)
        cv2.putText(sheet, caption, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, INK, 1, cv2.LINE_AA)
    return PILImage.fromarray(sheet)


def _tile(pixels: Pixels, instance: Instance) -> Pixels:
    """The mask with a quarter of its size around it, the rest dimmed; at most TILE pixels a side."""
    height, width = pixels.shape[:2]
    x1, y1, x2, y2 = (float(v) for v in instance.box)
    margin = 0.25 * max(x2 - x1, y2 - y1) + 2
    left, top = max(0, int(x1 - margin)), max(0, int(y1 - margin))
    right, bottom = min(width, math.ceil(x2 + margin)), min(height, math.ceil(y2 + margin))
    window = mask_window(instance.rle)
    mask = np.zeros((height, width), np.uint8)
    mask[window.rows, window.columns] = window.mask
    cut, inside = pixels[top:bottom, left:right], mask[top:bottom, left:right]
    scale = TILE / max(cut.shape[:2])
    size = (max(1, round(cut.shape[1] * scale)), max(1, round(cut.shape[0] * scale)))
    shown = cv2.resize(cut, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    small = cv2.resize(inside, size, interpolation=cv2.INTER_NEAREST)
    tile: Pixels = np.where(small[..., None] > 0, shown, (shown * DIM).astype(np.uint8))
    contours, _ = cv2.findContours(small, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(tile, contours, -1, OUTLINE, 1)
    return tile
