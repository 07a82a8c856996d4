"""Any of Pillow's pixel layouts to 8-bit RGB.

=====================  =============================================================================
layout                 becomes
=====================  =============================================================================
RGB                    itself; 16-bit RGB files are read by Pillow as their high bytes
L, 1                   grey
alpha or transparent   composited over white, as a page or a viewer shows it; the colours stored under
colour, any layout     transparent pixels are often arbitrary, so they are never shown
P                      its colours
I;16 (any byte order)  the full 16-bit range to 8 bits: round(v / 257)
I (32-bit)             as 8 bits if nothing exceeds 255, as 16 bits if nothing exceeds 65,535, else stretched
                       from minimum to maximum; negatives are 0 in the first two
F (float)              as fractions if all lies in [0, 1], then as I; NaN and infinities are 0
CMYK, YCbCr, LAB, HSV  Pillow's conversion, no colour profile
=====================  =============================================================================
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

_ALPHA_MODES = {"LA", "La", "PA", "RGBA", "RGBa"}


def to_rgb(picture: PILImage.Image) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 pixels of a loaded picture, as stored (orientation not applied).

    Raises:
        ValueError: a layout that Pillow cannot convert.
    """
    if picture.mode == "RGB" and "transparency" not in picture.info:
        return np.asarray(picture)
    if picture.mode.startswith("I;16"):
        return _grey(_scale_16_bit(_samples_16_bit(picture)))
    if picture.mode in {"I", "F"}:
        return _grey(_scale_wide(np.asarray(picture)))
    if picture.mode in _ALPHA_MODES or "transparency" in picture.info:
        return _over_white(picture)
    return np.asarray(picture.convert("RGB"))


def _over_white(picture: PILImage.Image) -> npt.NDArray[np.uint8]:
    # La and PA have no direct way to RGBA in Pillow.
    through = {"La": "LA", "RGBa": "RGBA"}.get(picture.mode)
    rgba = (picture.convert(through) if through else picture).convert("RGBA")
    white = PILImage.new("RGBA", rgba.size, (255, 255, 255, 255))
    return np.asarray(PILImage.alpha_composite(white, rgba).convert("RGB"))


def _samples_16_bit(picture: PILImage.Image) -> npt.NDArray[np.uint16]:
    """The numbers of an I;16, I;16L, I;16B or I;16N picture in this machine's byte order."""
    return np.asarray(picture).astype(np.uint16)


def _scale_16_bit(values: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _scale_wide(values: npt.NDArray[np.int32] | npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """32-bit integers or floats to 8 bits by the rule of the module's table."""
    finite = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(finite.min()), float(finite.max())
    if values.dtype.kind == "f" and low >= 0.0 and high <= 1.0:
        scaled = finite * 255.0
    elif high <= 255.0:
        scaled = finite
    elif high <= 65535.0:
        scaled = finite / 257.0
    else:
        scaled = (finite - low) * (255.0 / (high - low))
    grey: npt.NDArray[np.uint8] = np.rint(scaled.clip(0.0, 255.0)).astype(np.uint8)
    return grey


def _grey(values: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.repeat(values[:, :, None], 3, axis=2)
