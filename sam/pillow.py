"""Pillow's own ``Image.open``, whatever else is imported.

ultralytics replaces ``PIL.Image.open``: where Pillow cannot identify a file, its version tries to install
a HEIF reader with pip and fails with a ModuleNotFoundError. A damaged photo must neither change the
installation nor look like a missing package, so our readers call the function that was there before.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO

from PIL import Image


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
