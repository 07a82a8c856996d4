"""How a region of an image is shown to a model that knows only whole pictures.

A square window around the region is cut out, at one or two scales, and marked: what lies outside of the mask
is blurred and a red ellipse is drawn around it, greyed out, or left as it is. Of these prompts a blurred
background with an ellipse names best (mean IoU of text to masks 67.6, against 66.9 for the ellipse and 66.4
for the blur).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt

from adapters.rle import RLE, BoolArray, sample_mask
from sam.errors import BadPrompt

Pixels = npt.NDArray[np.uint8]
Style = Literal["plain", "grey", "blur", "circle", "circle+blur"]
STYLES: tuple[Style, ...] = get_args(Style)
GREY = (124, 116, 104)
"""Mean colour of photos (ImageNet's), 0 to 255: says nothing."""
RED = (255, 0, 0)
BLUR = 0.035
"""Standard deviation of the blur, as a share of the crop's side."""
LINE = 0.016
"""Width of the ellipse's line, as a share of the crop's side; never under one pixel."""
TIGHT, CONTEXT = 1.15, 1.75
"""Sides of the two windows, as multiples of the region's longer side."""


@dataclass(frozen=True)
class Look:
    """One way to show a region.

    Attributes:
        context: side of the square window as a multiple of the longer side of the region's box, from 1 to 4.
        style: ``plain``; ``grey`` or ``blur``: what is done to everything outside of the mask; ``circle``: a
            red ellipse around the box; ``circle+blur``: both.

    Raises:
        BadPrompt: another style, or a context outside of its range.
    """

    context: float = TIGHT
    style: Style = "circle+blur"

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise BadPrompt(f"style must be one of {', '.join(STYLES)}, not {self.style!r}", field="style")
        if not 1 <= self.context <= 4:
            raise BadPrompt(f"context must lie in 1 to 4, not {self.context!r}", field="context")


LOOKS = (Look(TIGHT), Look(CONTEXT))


def show_region(image: Pixels, rle: RLE, box: Sequence[float], side: int, look: Look) -> Pixels:
    """One region as a (side, side, 3) uint8 RGB picture.

    Args:
        image: (H, W, 3) uint8 RGB.
        rle: the region's mask, of the image's size.
        box: ``x1, y1, x2, y2`` of the region, pixels.
        side: of the picture, pixels.
        look: how to show it.
    """
    x1, y1, x2, y2 = (float(v) for v in box)
    reach = max(x2 - x1, y2 - y1, 1.0) * look.context / 2
    left, top = (x1 + x2) / 2 - reach, (y1 + y2) / 2 - reach
    scale = side / (2 * reach)
    picture = _window(image, left, top, 2 * reach, side)
    if look.style == "plain":
        return picture
    if look.style != "circle":
        centres = (np.arange(side) + 0.5) / scale
        mask = sample_mask(rle, np.floor(top + centres), np.floor(left + centres))
        picture = set_apart(picture, mask, "grey" if look.style == "grey" else "blur")
    if look.style.startswith("circle"):
        corners = [(x1 - left) * scale, (y1 - top) * scale, (x2 - left) * scale, (y2 - top) * scale]
        picture = encircle(picture, corners)
    return picture


def set_apart(picture: Pixels, mask: BoolArray, how: Literal["grey", "blur"]) -> Pixels:
    """A picture (S, S, 3) whose pixels outside of the mask (S, S) are greyed out or blurred."""
    if how == "grey":
        outside: Pixels = np.broadcast_to(np.array(GREY, np.uint8), picture.shape)
    else:
        outside = np.asarray(cv2.GaussianBlur(picture, (0, 0), max(0.5, BLUR * len(picture))), np.uint8)
    return np.where(mask[..., None], picture, outside)


def encircle(picture: Pixels, box: Sequence[float]) -> Pixels:
    """A picture (S, S, 3) with a red ellipse around ``box`` (x1, y1, x2, y2), kept inside of the picture."""
    side = len(picture)
    line = max(1, round(LINE * side))
    x1, y1, x2, y2 = box
    # Through the corners of the box, as far as the picture goes.
    axes = [min((high - low) / 2 * np.sqrt(2), side / 2 - line) for low, high in ((x1, x2), (y1, y2))]
    drawn = np.ascontiguousarray(picture)
    drawn = drawn.copy() if drawn is picture else drawn
    bits = 4  # cv2 takes sixteenths of a pixel
    centre, lengths = (
        tuple(round(v * 2**bits) for v in pair) for pair in (((x1 + x2) / 2, (y1 + y2) / 2), axes)
    )
    cv2.ellipse(drawn, centre, lengths, 0, 0, 360, RED, line, cv2.LINE_AA, bits)
    return drawn


def _window(image: Pixels, left: float, top: float, length: float, side: int) -> Pixels:
    """The square window, resized; what lies beyond the image is grey."""
    height, width = image.shape[:2]
    x1, y1 = max(0, int(np.floor(left))), max(0, int(np.floor(top)))
    x2, y2 = min(width, int(np.ceil(left + length))), min(height, int(np.ceil(top + length)))
    scale = side / length
    # Shrunk by averaging over areas first: a warp alone would skip pixels.
    part = image[y1:y2, x1:x2]
    if scale < 1:
        size = (max(1, round((x2 - x1) * scale)), max(1, round((y2 - y1) * scale)))
        part = np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8)
    sx, sy = part.shape[1] / (x2 - x1), part.shape[0] / (y2 - y1)
    # Pixel centres: source = (target + .5) / scale + left - x1, times the shrinking, - .5.
    matrix = np.array(
        [
            [sx / scale, 0, sx * (0.5 / scale + left - x1) - 0.5],
            [0, sy / scale, sy * (0.5 / scale + top - y1) - 0.5],
        ]
    )
    return np.asarray(
        cv2.warpAffine(
            part,
            matrix,
            (side, side),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=GREY,
        ),
        np.uint8,
    )
