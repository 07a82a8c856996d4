"""Masks as PNG files that any program opens.

For each image: ``masks/<stem>/000.png``, ``001.png``, …: one bilevel picture for each instance, exact even
where masks overlap; and ``masks/<stem>.ids.png``: all in one, where each pixel holds the number of its
instance plus one and 0 is background. Where masks overlap in the latter the smaller one wins, so that parts
show on their wholes. It has 8 bits up to 255 instances, else 16.
"""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from adapters.results import Instances
from adapters.rle import RLE
from composer.formats.atomic import write_bytes, writing
from composer.formats.base import Outcome, PerImageWriter
from composer.windows import MaskWindow, mask_window
from sam.errors import UsageError

_OWN_FILE = re.compile(r"\d{3,}\.png")


class MasksWriter(PerImageWriter):
    """One picture for each mask, and one for all."""

    def write(self, stem: str, outcome: Outcome, folder: Path) -> list[Path]:
        """See :class:`composer.formats.base.Writer`. Numbers count through the answers in order."""
        instances = outcome.instances
        own = folder / "masks" / stem
        written = [
            write_bytes(own / f"{i:03d}.png", mask_png(rle, instances.image_size))
            for i, rle in enumerate(instances.rles)
        ]
        _remove_stale(own, set(written))
        ids = write_bytes(folder / "masks" / f"{stem}.ids.png", id_map_png(instances))
        return [*written, ids]


def mask_png(rle: RLE, size: tuple[int, int]) -> bytes:
    """One mask of an image of ``size`` (H, W) as a bilevel PNG."""
    return _png(_full(mask_window(rle), size), bilevel=True)


def id_map_png(instances: Instances) -> bytes:
    """:func:`id_map` as a PNG of 8 or 16 bits. Raises what it does."""
    return _png(id_map(instances))


def id_map(instances: Instances) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """(H, W) uint8, or uint16 from 256 instances on: index of the smallest instance that covers the pixel +
    1, else 0.

    Raises:
        UsageError: more than 65,535 instances.
    """
    if len(instances) > 65535:
        raise UsageError(
            f"{len(instances)} instances do not fit a 16-bit picture; use another format than masks"
        )
    ids = np.zeros(instances.image_size, np.uint8 if len(instances) <= 255 else np.uint16)
    for i in np.argsort(-instances.areas, kind="stable"):  # one mask at a time in memory
        window = mask_window(instances.rles[i])
        np.copyto(ids[window.rows, window.columns], ids.dtype.type(i + 1), where=window.mask)
    return ids


def _full(window: MaskWindow, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    full = np.zeros(size, np.uint8)
    full[window.rows, window.columns] = window.mask
    return full


def _png(pixels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16], *, bilevel: bool = False) -> bytes:
    """Grey PNG of one, 8 or 16 bits; OpenCV's encoder takes a tenth of Pillow's time on these."""
    done, data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_BILEVEL, int(bilevel)])
    if not done:
        raise RuntimeError("OpenCV could not encode a PNG")
    return data.tobytes()


def _remove_stale(folder: Path, current: set[Path]) -> None:
    """Masks of an earlier run that found more of them would pass for this one's."""
    with writing(folder):
        for path in folder.glob("*.png") if folder.is_dir() else []:
            if path not in current and _OWN_FILE.fullmatch(path.name):
                path.unlink()
