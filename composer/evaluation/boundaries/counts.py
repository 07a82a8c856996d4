"""One photo: how many boundary pixels match at each threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from composer.evaluation.boundaries.matching import Annotation
from composer.evaluation.boundaries.thinning import thin

Map = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]

MAX_DISTANCE = 0.0075
"""Largest distance of a match, as a share of the image's diagonal: 4.3 px at 481 x 321."""
THRESHOLDS = 99


@dataclass(frozen=True)
class BoundaryCounts:
    """Pixels of one photo at T thresholds, each (T,) int64.

    Attributes:
        matched_truth: drawn pixels that found a partner, over all annotators.
        truth: drawn pixels, over all annotators: the same at every threshold.
        matched_predicted: predicted pixels with a partner at any annotator.
        predicted: predicted pixels.
    """

    matched_truth: Counts
    truth: Counts
    matched_predicted: Counts
    predicted: Counts

    def __add__(self, other: BoundaryCounts) -> BoundaryCounts:
        return BoundaryCounts(
            self.matched_truth + other.matched_truth,
            self.truth + other.truth,
            self.matched_predicted + other.matched_predicted,
            self.predicted + other.predicted,
        )

    def at(self, index: int) -> BoundaryCounts:
        """The counts at one threshold, each (1,)."""
        rows = slice(index, index + 1)
        return BoundaryCounts(
            self.matched_truth[rows],
            self.truth[rows],
            self.matched_predicted[rows],
            self.predicted[rows],
        )

    @property
    def recall(self) -> npt.NDArray[np.float64]:
        """(T,) share of the drawn pixels that were found; 0 where none was drawn."""
        return self.matched_truth / np.maximum(1, self.truth)

    @property
    def precision(self) -> npt.NDArray[np.float64]:
        """(T,) share of the predicted pixels that someone drew; 0 where none was predicted."""
        return self.matched_predicted / np.maximum(1, self.predicted)


def thresholds_between(count: int) -> npt.NDArray[np.float64]:
    """(count,) thresholds, evenly spaced inside of (0, 1), as the benchmark places them."""
    return np.linspace(1 / (count + 1), 1 - 1 / (count + 1), count)


def count_matches(
    values: Map, boundaries: Sequence[Mask], thresholds: int = THRESHOLDS, max_distance: float = MAX_DISTANCE
) -> BoundaryCounts:
    """Threshold, thin and match one photo's map.

    Args:
        values: (H, W) strength of the boundary, in [0, 1].
        boundaries: one (H, W) mask for each annotator.
        thresholds: how many.
        max_distance: of a match, as a share of the diagonal.
    """
    reach = max_distance * float(np.hypot(*values.shape))
    annotations = [Annotation.of(boundary, reach) for boundary in boundaries]
    truth = sum(annotation.count for annotation in annotations)
    rows = np.zeros((thresholds, 4), np.int64)
    above = -1
    for row, threshold in enumerate(thresholds_between(thresholds)):
        mask = values >= threshold
        # Nothing lies between this threshold and the last one: the same mask, and most of the time goes here.
        if (count := int(np.count_nonzero(mask))) == above:
            rows[row] = rows[row - 1]
            continue
        above = count
        rows[row] = _counts(np.argwhere(thin(mask)), annotations, truth)
    return BoundaryCounts(*rows.T)


def _counts(
    points: npt.NDArray[np.int64], annotations: Sequence[Annotation], truth: int
) -> tuple[int, int, int, int]:
    matched_truth, matched = 0, np.zeros(len(points), bool)
    for annotation in annotations:
        partnered = annotation.match(points)
        matched_truth += int(partnered.sum())  # one-to-one: as many of the drawn pixels
        matched |= partnered
    return matched_truth, truth, int(matched.sum()), len(points)
