"""Pillow's own ``Image.open``, whatever else is imported, and which way up a photo is.

ultralytics replaces ``PIL.Image.open``: where Pillow cannot identify a file, its version tries to install
a HEIF reader with pip and fails with a ModuleNotFoundError. A damaged photo must neither change the
installation nor look like a missing package, so our readers call the function that was there before.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO

from PIL import ExifTags, Image

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what turns the stored picture upright; 1 and values outside 1-8 mean: leave it."""


def open_picture(source: Path | IO[bytes], formats: list[str] | None = None) -> Image.Image:
    """Open a picture without decoding it.

    Args:
        source: a path, or a binary file.
        formats: Pillow's names of those to try; None: all.

    Raises:
        What Pillow raises: OSError (``UnidentifiedImageError`` among them), and more from some decoders.
    """
    replaced = sys.modules.get("ultralytics.utils.patches")
    pillows_own = getattr(replaced, "_image_open", Image.open)
    picture: Image.Image = pillows_own(source, formats=formats)
    return picture


def turn_of(picture: Image.Image) -> Image.Transpose | None:
    """What turns a loaded picture as its EXIF orientation asks; None where it is absent, damaged or 1."""
    try:
        return _TRANSPOSE.get(int(picture.getexif().get(ExifTags.Base.Orientation, 1)))
    except Exception:  # a damaged EXIF block says nothing about the picture
        return None
