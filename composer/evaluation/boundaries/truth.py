"""BSDS ground truth: photos, and what each annotator drew on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.io import loadmat

from composer.evaluation.boundaries.counts import Mask
from composer.folders import IMAGE_SUFFIXES
from sam.errors import BadAnnotation, UsageError

Segments = npt.NDArray[np.int64]


@dataclass(frozen=True)
class DrawnImage:
    """One photo and its annotators' drawings.

    Attributes:
        path: the photo. truth: the .mat file.
    """

    path: Path
    truth: Path

    @property
    def name(self) -> str:
        """File name of the photo."""
        return self.path.name

    def boundaries(self, size: tuple[int, int] | None = None) -> list[Mask]:
        """(H, W) bool for each annotator. Raises BadAnnotation, also where ``size`` (H, W) is another."""
        return [np.asarray(m) > 0 for m in _read(self.truth, "Boundaries", size)]

    def segmentations(self, size: tuple[int, int] | None = None) -> list[Segments]:
        """(H, W) int64 segment numbers for each annotator; errors as :meth:`boundaries`."""
        return [np.asarray(m).astype(np.int64) for m in _read(self.truth, "Segmentation", size)]


@dataclass(frozen=True)
class DrawnSet:
    """A set of photos with drawings, by file name.

    Attributes:
        source: where it comes from, for reports.
        images: at least one.
    """

    source: str
    images: tuple[DrawnImage, ...]

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[DrawnImage]:
        return iter(self.images)

    def limited(self, count: int | None) -> DrawnSet:
        """The first ``count`` photos; None: all."""
        return DrawnSet(self.source, self.images[:count])


def open_bsds(root: Path, split: str = "test") -> DrawnSet:
    """The photos of one split of BSDS500, or of a plain folder with ``images/`` and ``groundTruth/``.

    Args:
        root: the folder that holds ``data/`` or ``BSDS500/data/``, or that folder itself.
        split: ``train``, ``val`` or ``test``; a plain folder has none.

    Raises:
        UsageError: no such folder.
        BadAnnotation: neither layout, no photo, or a photo without ground truth.
    """
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder", field="bsds")
    base, part = _layout(root, split)
    photos = sorted(p for p in (base / "images" / part).iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    if not photos:
        raise BadAnnotation(f"{base / 'images' / part}: no photo in it, nothing to evaluate on")
    images = [DrawnImage(p, base / "groundTruth" / part / f"{p.stem}.mat") for p in photos]
    for image in images:
        if not image.truth.is_file():
            raise BadAnnotation(f"{image.truth}: missing, the ground truth of {image.path}")
    return DrawnSet(str(root), tuple(images))


def _layout(root: Path, split: str) -> tuple[Path, str]:
    for base in (root, root / "data", root / "BSDS500" / "data"):
        if (base / "images" / split).is_dir():
            return base, split
    if (root / "images").is_dir() and (root / "groundTruth").is_dir():
        return root, ""
    raise BadAnnotation(
        f"{root}: expected data/images/{split}/ with data/groundTruth/{split}/ (BSDS500), "
        "or images/ with groundTruth/"
    )


def _read(path: Path, what: str, size: tuple[int, int] | None) -> list[npt.NDArray[Any]]:
    try:
        truth = loadmat(path)["groundTruth"][0]
        maps = [np.asarray(entry[what][0, 0]) for entry in truth]
    except Exception as error:  # scipy raises whatever its parser trips over
        raise BadAnnotation(f"{path}: not a BSDS ground truth ({type(error).__name__}: {error})") from error
    if not maps:
        raise BadAnnotation(f"{path}: no annotator's drawing in it")
    for found in maps:
        expected = size or maps[0].shape
        if found.ndim != 2 or found.shape != expected:
            raise BadAnnotation(
                f"{path}: a drawing of shape {found.shape}, expected {tuple(expected)} (height, width)"
            )
    return maps
