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

SPLITS = ("train", "val", "test")
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
        """(H, W) bool for each annotator.

        Raises:
            BadAnnotation: damaged, another size than ``size`` (H, W), or no boundary by any annotator.
        """
        drawn = [np.asarray(m) > 0 for m in _read(self.truth, "Boundaries", size)]
        if not any(m.any() for m in drawn):
            raise BadAnnotation(f"{self.truth}: no annotator drew a boundary, so that none can be found")
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
        split: of BSDS500; None of a plain folder.
    """

    source: str
    images: tuple[DrawnImage, ...]
    split: str | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[DrawnImage]:
        return iter(self.images)

    def limited(self, count: int | None) -> DrawnSet:
        """The first ``count`` photos; None: all."""
        return replace(self, images=self.images[:count])


def open_bsds(root: Path, split: str | None = None) -> DrawnSet:
    """The photos of one split of BSDS500, or of a plain folder with ``images/`` and ``groundTruth/``.

    Args:
        root: the folder that holds ``data/`` or ``BSDS500/data/``, or that folder itself.
        split: one of :data:`SPLITS`; None: ``test``, or all of a plain folder, which has no splits.

    Raises:
        UsageError: no such folder, no such split, or a split of a plain folder.
        BadAnnotation: neither layout, no photo, two photos of one name, or a photo without a drawing or the
            other way round.
    """
    if split is not None and split not in SPLITS:
        raise UsageError(f"split {split!r}: expected one of {', '.join(SPLITS)}", field="split")
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder", field="bsds")
    base, part = _layout(root, split)
    photos: dict[str, Path] = {}
    for path in _visible(base / "images" / part):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            if path.stem in photos:
                raise BadAnnotation(f"{path}: a second photo named {path.stem!r}, whose drawing is it?")
            photos[path.stem] = path
    if not photos:
        raise BadAnnotation(f"{base / 'images' / part}: no photo in it, nothing to evaluate on")
    drawings = base / "groundTruth" / part
    images = [DrawnImage(photo, drawings / f"{stem}.mat") for stem, photo in photos.items()]
    for image in images:
        if not image.truth.is_file():
            raise BadAnnotation(f"{image.truth}: missing, the ground truth of {image.path}")
    for path in _visible(drawings):
        if path.suffix.lower() == ".mat" and path.stem not in photos:
            raise BadAnnotation(f"{path}: a drawing of a photo that is not in {base / 'images' / part}")
    return DrawnSet(str(root), tuple(images), part or None)


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _layout(root: Path, split: str | None) -> tuple[Path, str]:
    wanted = split or "test"
    for base in (root, root / "data", root / "BSDS500" / "data"):
        if (base / "images" / wanted).is_dir():
            return base, wanted
    if (root / "images").is_dir() and (root / "groundTruth").is_dir():
        if split is None:
            return root, ""
        raise UsageError(
            f"{root}: has no images/{split}/; a plain folder of images/ and groundTruth/ has no splits, so "
            "leave --split out",
            field="split",
        )
    raise BadAnnotation(
        f"{root}: expected data/images/{wanted}/ with data/groundTruth/{wanted}/ (BSDS500), "
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
