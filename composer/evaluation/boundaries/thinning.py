"""Morphological thinning to lines one pixel wide, as MATLAB's ``bwmorph(…, "thin")`` does it.

That is the algorithm of Guo and Hall (Lam, Lee and Suen, "Thinning methodologies", PAMI 1992, p. 879): two
sub-iterations, each of which removes the pixels that meet three conditions on their eight neighbours, until
nothing changes. Every condition depends on the neighbours alone, so a sub-iteration is one look-up in a table
of 256 entries.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
_NEIGHBOURS = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))
"""x1 to x8 of the paper: from the east, counter-clockwise, as (row, column) offsets."""


def thin(mask: Mask) -> Mask:
    """Thin a (H, W) mask until nothing changes; what lies beyond the image is background."""
    image = mask.astype(np.uint8)
    tables = _tables()
    while True:
        before = int(np.count_nonzero(image))
        for table in tables:
            code = cv2.filter2D(image, cv2.CV_8U, _kernel(), borderType=cv2.BORDER_CONSTANT)
            image &= np.asarray(cv2.LUT(code, table), np.uint8)
        if np.count_nonzero(image) == before:
            return image.astype(bool)


@cache
def _kernel() -> npt.NDArray[np.uint8]:
    """Neighbour k counts 2**k."""
    kernel = np.zeros((3, 3), np.uint8)
    for bit, (row, column) in enumerate(_NEIGHBOURS):
        kernel[1 + row, 1 + column] = 1 << bit
    return kernel


@cache
def _tables() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """For both sub-iterations, 1 where a pixel with these neighbours stays."""
    tables = np.ones((2, 256), np.uint8)
    for code in range(256):
        x = [bool(code >> bit & 1) for bit in range(8)]
        around = [*x, x[0]]
        crossings = sum(not x[i] and (around[i + 1] or around[i + 2]) for i in (0, 2, 4, 6))
        first = sum(x[i] or x[i + 1] for i in (0, 2, 4, 6))
        second = sum(around[i + 1] or around[i + 2] for i in (0, 2, 4, 6))
        if crossings != 1 or not 2 <= min(first, second) <= 3:
            continue
        tables[0, code] = (x[1] or x[2] or not x[7]) and x[0]
        tables[1, code] = (x[5] or x[6] or not x[3]) and x[4]
    return tables[0], tables[1]
