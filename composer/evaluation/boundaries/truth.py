"""BSDS ground truth: photos, and what each annotator drew on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.io import loadmat

from composer.evaluation.boundaries.counts import Mask
from composer.folders import IMAGE_SUFFIXES
from sam.errors import BadAnnotation, UsageError

Segments = npt.NDArray[np.int64]
SPLITS = ("train", "val", "test")


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
        """(H, W) bool for each annotator.

        Raises:
            BadAnnotation: a file that cannot be read, drawings of another size than ``size`` (H, W), or
                without a single boundary.
        """
        drawn = [np.asarray(m) > 0 for m in _read(self.truth, "Boundaries", size)]
        if not any(one.any() for one in drawn):
            raise BadAnnotation(f"{self.truth}: no annotator drew a boundary, nothing could be found")
        return drawn

    def segmentations(self, size: tuple[int, int] | None = None) -> list[Segments]:
        """(H, W) int64 segment numbers for each annotator; errors as :meth:`boundaries`."""
        return [np.asarray(m).astype(np.int64) for m in _read(self.truth, "Segmentation", size)]


@dataclass(frozen=True)
class DrawnSet:
    """A set of photos with drawings, by file name.

    Attributes:
        source: where it comes from, for reports.
        images: at least one.
        split: ``train``, ``val`` or ``test``; None where there are none.
    """

    source: str
    images: tuple[DrawnImage, ...]
    split: str | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[DrawnImage]:
        return iter(self.images)

    @property
    def title(self) -> str:
        """The folder's name and the split."""
        name = Path(self.source).resolve().name
        return f"{name} {self.split}" if self.split else name

    def limited(self, count: int | None) -> DrawnSet:
        """The first ``count`` photos; None: all."""
        return replace(self, images=self.images[:count])


def open_bsds(root: Path, split: str | None = None) -> DrawnSet:
    """The photos of one split of BSDS500, or of a plain folder with ``images/`` and ``groundTruth/``.

    Args:
        root: the folder that holds ``data/`` or ``BSDS500/data/``, or that folder itself.
        split: ``train``, ``val`` or ``test``; None: ``test``, where there are splits.

    Raises:
        UsageError: no such folder, or a split that it does not have.
        BadAnnotation: neither layout, no photo, a photo without drawings, or drawings without a photo.
    """
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder", field="bsds")
    if split not in (None, *SPLITS):
        raise UsageError(f"split {split!r}: expected one of {', '.join(SPLITS)}", field="split")
    base, part = _layout(root, split)
    photos = sorted(p for p in (base / "images" / part).iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    if not photos:
        raise BadAnnotation(f"{base / 'images' / part}: no photo in it, nothing to evaluate on")
    drawings = base / "groundTruth" / part
    images = [DrawnImage(p, drawings / f"{p.stem}.mat") for p in photos]
    for image in images:
        if not image.truth.is_file():
            raise BadAnnotation(f"{image.truth}: missing, the ground truth of {image.path}")
    stems = {path.stem for path in photos}
    for path in sorted(drawings.glob("*.mat")):
        if path.stem not in stems:
            raise BadAnnotation(f"{path}: drawings of a photo that is not in {base / 'images' / part}")
    return DrawnSet(str(root), tuple(images), part or None)


def _layout(root: Path, split: str | None) -> tuple[Path, str]:
    part = split or "test"
    for base in (root, root / "data", root / "BSDS500" / "data"):
        if (base / "images" / part).is_dir():
            return base, part
    if (root / "images").is_dir() and (root / "groundTruth").is_dir():
        if split is not None:
            raise UsageError(
                f"{root}: images/ and groundTruth/ without splits; leave --split {split} out", field="split"
            )
        return root, ""
    raise BadAnnotation(
        f"{root}: expected data/images/{part}/ with data/groundTruth/{part}/ (BSDS500), "
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
