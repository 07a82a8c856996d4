"""Regions against those that people drew: covering, probabilistic Rand index, variation of information.

The region measures of BSDS500 (Arbeláez et al., PAMI 2011, §5.2), for segmentations at several scales: of an
ultrametric contour map, one for each threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from composer.evaluation.boundaries.counts import thresholds_between
from composer.evaluation.boundaries.maps import check_range, find_maps, read_ucm2
from composer.evaluation.boundaries.truth import DrawnImage, DrawnSet, Segments
from sam.errors import BadAnnotation

Floats = npt.NDArray[np.float64]
Scales = Sequence[Segments]
"""One photo's segmentations (H, W), one for each threshold; equal numbers are one region."""


@dataclass(frozen=True)
class ImageRegions:
    """One photo at T thresholds.

    Attributes:
        name: file name of the photo.
        area: labelled pixels over all annotators.
        covered: (T,) pixels, each drawn region counting by the IoU of the region that covers it best.
        covered_best: pixels, each region taking the threshold that is best for it.
        rand_index: (T,) in [0, 1], mean over annotators.
        variation: (T,) of information in bits, mean over annotators; 0 is equal.
    """

    name: str
    area: int
    covered: Floats
    covered_best: float
    rand_index: Floats
    variation: Floats


@dataclass(frozen=True)
class RegionEvaluation:
    """The outcome over a set.

    Attributes:
        images: of at least one photo, all with the same number of thresholds.
    """

    images: tuple[ImageRegions, ...]

    @property
    def thresholds(self) -> Floats:
        """(T,) of the contour map."""
        return thresholds_between(len(self.images[0].covered))

    @property
    def covering(self) -> Floats:
        """(T,) share of the drawn area that is covered."""
        covered = np.sum([image.covered for image in self.images], 0)
        return np.asarray(covered / sum(image.area for image in self.images))

    @property
    def rand_index(self) -> Floats:
        """(T,) mean over photos."""
        return np.asarray(np.mean([image.rand_index for image in self.images], 0))

    @property
    def variation(self) -> Floats:
        """(T,) mean over photos."""
        return np.asarray(np.mean([image.variation for image in self.images], 0))

    def to_json(self) -> dict[str, Any]:
        """Each measure at the best threshold for the set (``ods``) and for each photo (``ois``)."""
        area = sum(image.area for image in self.images)
        thresholds, covering = self.thresholds, self.covering
        rand, variation = self.rand_index, self.variation
        return {
            "covering": {
                "ods": float(covering.max()),
                "ods_threshold": float(thresholds[covering.argmax()]),
                "ois": float(sum(image.covered.max() for image in self.images) / area),
                "best": float(sum(image.covered_best for image in self.images) / area),
            },
            "rand_index": {
                "ods": float(rand.max()),
                "ods_threshold": float(thresholds[rand.argmax()]),
                "ois": float(np.mean([image.rand_index.max() for image in self.images])),
            },
            "variation_of_information": {
                "ods": float(variation.min()),
                "ods_threshold": float(thresholds[variation.argmin()]),
                "ois": float(np.mean([image.variation.min() for image in self.images])),
            },
            "images": len(self.images),
        }


def evaluate_regions(
    truth: DrawnSet,
    segment: Callable[[DrawnImage], Scales],
    on_image: Callable[[str], None] | None = None,
) -> RegionEvaluation:
    """Compare every photo's segmentations with those of its annotators.

    Args:
        truth: photos with drawings.
        segment: gives a photo's segmentations, equally many for each photo.
        on_image: called with a photo's name before.

    Raises:
        BadAnnotation: ground truth that cannot be read, or of another size.
    """
    rows = []
    for image in truth:
        if on_image:
            on_image(image.name)
        scales = segment(image)
        height, width = scales[0].shape
        rows.append(score_regions(image.name, scales, image.segmentations((height, width))))
    return RegionEvaluation(tuple(rows))


def score_regions(name: str, scales: Scales, drawn: Sequence[Segments]) -> ImageRegions:
    """One photo: T segmentations against those of its annotators, all (H, W)."""
    covered = np.zeros(len(scales))
    rand, variation = np.zeros((2, len(scales), len(drawn)))
    area, covered_best = 0, 0.0
    for column, truth in enumerate(drawn):
        best: Floats | None = None
        for row, found in enumerate(scales):
            shared = _shared_pixels(truth, found)
            sizes = shared.sum(1)
            union = sizes[:, None] + shared.sum(0)[None] - shared
            iou = (shared / union).max(1)
            best = iou if best is None else np.maximum(best, iou)
            covered[row] += float(sizes @ iou)
            rand[row, column] = rand_index(shared)
            variation[row, column] = variation_of_information(shared)
        assert best is not None
        area += int(truth.size)
        covered_best += float(sizes @ best)
    return ImageRegions(name, area, covered, covered_best, rand.mean(1), variation.mean(1))


def rand_index(shared: Floats) -> float:
    """Share of pixel pairs on which two segmentations agree, from their (n, m) table of shared pixels."""
    total = shared.sum()
    apart = (shared.sum(0) ** 2).sum() / 2 + (shared.sum(1) ** 2).sum() / 2 - (shared**2).sum()
    return float(1 - apart / (total * (total - 1) / 2))


def variation_of_information(shared: Floats) -> float:
    """H(a | b) + H(b | a) in bits, from the (n, m) table of shared pixels."""
    joint = shared / shared.sum()
    return float(2 * _entropy(joint) - _entropy(joint.sum(0)) - _entropy(joint.sum(1)))


def ucm_scales(path: Path, thresholds: int, size: tuple[int, int] | None = None) -> list[Segments]:
    """The segmentations of an ultrametric contour map: regions that no contour above a threshold parts.

    Args:
        path: a .mat file with ``ucm2``.
        thresholds: how many, evenly spaced inside of (0, 1).
        size: (H, W) of its photo; None: any.

    Raises:
        BadAnnotation: not such a file, a map of another size, or values that are not in [0, 1].
    """
    ucm = _contours(path)
    if ucm.ndim != 2 or min(ucm.shape) < 3 or ucm.shape[0] % 2 == 0 or ucm.shape[1] % 2 == 0:
        raise BadAnnotation(f"{path}: ucm2 has the shape {ucm.shape}; expected 2 H + 1 rows, 2 W + 1 columns")
    height, width = ucm.shape[0] // 2, ucm.shape[1] // 2
    if size is not None and (height, width) != size:
        raise BadAnnotation(
            f"{path}: a contour map for {width} x {height} pixels, but its photo has {size[1]} x {size[0]}"
        )
    check_range(path, ucm)
    scales = []
    for threshold in thresholds_between(thresholds):
        _, regions = cv2.connectedComponents((ucm <= threshold).astype(np.uint8), connectivity=8)
        scales.append(regions[1::2, 1::2].astype(np.int64))
    return scales


def contour_maps_in(
    folder: Path, truth: DrawnSet, thresholds: int, size_of: Callable[[DrawnImage], tuple[int, int]]
) -> Callable[[DrawnImage], Scales]:
    """Segmentations from the contour maps of a folder: ``NAME.mat`` for each photo.

    Args:
        folder: of the files.
        truth: the photos that need one.
        thresholds: how many.
        size_of: gives a photo's (H, W).

    Raises:
        BadAnnotation: a photo without a map; when called, also a map that does not fit.
    """
    files = find_maps(folder, (image.path.stem for image in truth), [".mat"])
    return lambda image: ucm_scales(files[image.path.stem], thresholds, size_of(image))


def _contours(path: Path) -> Floats:
    try:
        return read_ucm2(path)
    except BadAnnotation:
        raise
    except Exception as error:  # scipy raises whatever its parser trips over
        detail = f"{type(error).__name__}: {error}"
        raise BadAnnotation(f"{path}: cannot be read as a contour map ({detail})") from error


def _shared_pixels(truth: Segments, found: Segments) -> Floats:
    """(regions of truth, regions of found) pixels in both."""
    rows, row = np.unique(truth, return_inverse=True)
    columns, column = np.unique(found, return_inverse=True)
    flat = np.bincount(row.ravel() * len(columns) + column.ravel(), minlength=len(rows) * len(columns))
    return flat.reshape(len(rows), len(columns)).astype(np.float64)


def _entropy(shares: Floats) -> float:
    present = shares[shares > 0]
    return float(-(present * np.log2(present)).sum())
