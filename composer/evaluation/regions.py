"""Regions against those that people drew: covering, probabilistic Rand index, variation of information.

The region measures of BSDS500 (Arbeláez et al., PAMI 2011, §5.2), for segmentations at several scales: of an
ultrametric contour map, one for each threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from composer.evaluation.boundaries.counts import thresholds_between
from composer.evaluation.boundaries.maps import read_ucm2
from composer.evaluation.boundaries.truth import DrawnImage, DrawnSet, Segments
from composer.evaluation.ground_truth import read_label_map
from sam.errors import BadAnnotation

if TYPE_CHECKING:
    from rich.table import Table

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


def region_table(evaluation: RegionEvaluation, title: str) -> Table:
    """A row for each measure: at the best threshold for the set, at the best for each photo."""
    from rich.table import Table
    from rich.text import Text

    found = Table(title=Text(title, style="table.title"), title_justify="left")
    for heading in ("", "ODS", "threshold", "OIS", "best"):
        found.add_column(heading, justify="right" if heading else "left")
    for name, figures in evaluation.to_json().items():
        if isinstance(figures, dict):
            values = (figures.get(key) for key in ("ods", "ods_threshold", "ois", "best"))
            found.add_row(name.replace("_", " "), *("" if v is None else f"{v:.3f}" for v in values))
    scales = len(evaluation.thresholds)
    found.caption = f"{len(evaluation.images)} photos, {scales} segmentation{'s' * (scales > 1)} of each"
    found.caption_justify = "left"
    return found


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
        BadAnnotation: ground truth that cannot be read, or of another size; another number of segmentations
            than of the photos before.
    """
    rows: list[ImageRegions] = []
    for image in truth:
        if on_image:
            on_image(image.name)
        scales = segment(image)
        if rows and len(scales) != len(rows[0].covered):
            raise BadAnnotation(
                f"{image.name}: {len(scales)} segmentations, but {rows[0].name} has {len(rows[0].covered)}; "
                "give contour maps for all photos, or label maps for all"
            )
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


def read_scales(path: Path, thresholds: int, size: tuple[int, int]) -> list[Segments]:
    """One photo's segmentations from a file of any program.

    Args:
        path: a .mat file with ``ucm2``, or one segmentation as whole numbers: a PNG (grey of 8 or 16 bits,
            palette index, RGB) or a .npy file.
        thresholds: of a contour map.
        size: (H, W) of the photo.

    Returns:
        ``thresholds`` segmentations of a contour map; of another file the one that it holds.

    Raises:
        BadAnnotation: a file that cannot be read, of another size, or with values that mean nothing.
    """
    if path.suffix.lower() == ".mat":
        return ucm_scales(path, thresholds, size)
    if path.suffix.lower() == ".png":
        return [read_label_map(path, size)]
    try:
        labels = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadAnnotation(f"{path}: cannot be read as an array ({error})") from error
    if labels.ndim != 2 or labels.dtype.kind not in "iub":
        raise BadAnnotation(
            f"{path}: an array of {labels.dtype} of shape {labels.shape}; expected whole numbers, H x W"
        )
    _check_size(path, labels.shape, size)
    return [labels.astype(np.int64)]


def ucm_scales(path: Path, thresholds: int, size: tuple[int, int]) -> list[Segments]:
    """The segmentations of an ultrametric contour map: regions that no contour above a threshold parts.

    Args:
        path: a .mat file with ``ucm2``, (2 H + 1, 2 W + 1) numbers from 0 to 1.
        thresholds: how many.
        size: (H, W) of the photo.

    Raises:
        BadAnnotation: not such a file.
    """
    try:
        ucm = read_ucm2(path)
    except BadAnnotation:
        raise
    except Exception as error:  # scipy raises whatever its parser trips over
        detail = f"{type(error).__name__}: {error}"
        raise BadAnnotation(f"{path}: cannot be read as a contour map ({detail})") from error
    if ucm.ndim != 2:
        raise BadAnnotation(f"{path}: 'ucm2' has the shape {ucm.shape}; expected 2 H + 1 by 2 W + 1 numbers")
    _check_size(path, ((ucm.shape[0] - 1) // 2, (ucm.shape[1] - 1) // 2), size)
    if not ((ucm >= 0) & (ucm <= 1)).all():  # NaN is neither
        raise BadAnnotation(f"{path}: 'ucm2' holds values that are not numbers from 0 to 1")
    scales = []
    for threshold in thresholds_between(thresholds):
        _, regions = cv2.connectedComponents((ucm <= threshold).astype(np.uint8), connectivity=8)
        scales.append(regions[1::2, 1::2].astype(np.int64))
    return scales


def _check_size(path: Path, found: tuple[int, ...], size: tuple[int, int]) -> None:
    if found != size:
        raise BadAnnotation(
            f"{path}: of a photo of {found[1]} x {found[0]} pixels, but its photo has {size[1]} x {size[0]}"
        )


def _shared_pixels(truth: Segments, found: Segments) -> Floats:
    """(regions of truth, regions of found) pixels in both."""
    rows, row = np.unique(truth, return_inverse=True)
    columns, column = np.unique(found, return_inverse=True)
    flat = np.bincount(row.ravel() * len(columns) + column.ravel(), minlength=len(rows) * len(columns))
    return flat.reshape(len(rows), len(columns)).astype(np.float64)


def _entropy(shares: Floats) -> float:
    present = shares[shares > 0]
    return float(-(present * np.log2(present)).sum())
