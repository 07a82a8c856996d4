"""The benchmark's figures: one threshold for the whole set (ODS), the best for each photo (OIS), AP, R50."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt

from composer.evaluation.boundaries.counts import BoundaryCounts, thresholds_between

Floats = npt.NDArray[np.float64]
INTERPOLATED = 100
"""Steps in which recall and precision are interpolated between two thresholds."""


@dataclass(frozen=True)
class Best:
    """Where F is highest. All in [0, 1]."""

    threshold: float
    recall: float
    precision: float
    f: float


@dataclass(frozen=True)
class ImageBoundaries:
    """One photo's counts."""

    name: str
    counts: BoundaryCounts


@dataclass(frozen=True)
class BoundaryEvaluation:
    """The outcome over a set.

    Attributes:
        images: of at least one photo, all with the same number of thresholds.
    """

    images: tuple[ImageBoundaries, ...]

    @property
    def total(self) -> BoundaryCounts:
        """The pixels of all photos, threshold by threshold."""
        return reduce(add, (image.counts for image in self.images))

    @property
    def thresholds(self) -> Floats:
        """(T,) of the map's values."""
        return thresholds_between(len(self.images[0].counts.truth))

    @property
    def ods(self) -> Best:
        """At the optimal scale for the data set: one threshold for all photos."""
        return best_f(self.thresholds, self.total)

    @property
    def ois(self) -> Best:
        """At the optimal scale for each photo; the threshold is the mean of theirs."""
        chosen = [int(_last_of_the_highest(f_measure(image.counts))) for image in self.images]
        counts = reduce(add, (i.counts.at(row) for i, row in zip(self.images, chosen, strict=True)))
        recall, precision = float(counts.recall[0]), float(counts.precision[0])
        mean = float(self.thresholds[chosen].mean())
        return Best(mean, recall, precision, float(f_measure(counts)[0]))

    @property
    def ap(self) -> float:
        """Average precision: the area under the curve, recall in steps of .01, nothing beyond its ends."""
        recall, first = np.unique(self.total.recall, return_index=True)
        if len(recall) < 2:
            return 0.0
        steps = np.linspace(0, 1, 101)
        precision = np.interp(steps, recall, self.total.precision[first], left=0, right=0)
        return float(precision.sum() * 0.01)

    @property
    def r50(self) -> float:
        """Recall at a precision of one half; at the lowest precision, where that is higher."""
        total = self.total
        some = total.predicted > 0  # nothing predicted says nothing of precision
        if not some.any():
            return 0.0
        precision, first = np.unique(total.precision[some], return_index=True)
        return float(np.interp(0.5, precision, total.recall[some][first]))

    def best_of(self, image: ImageBoundaries) -> Best:
        """The best threshold for one photo, interpolated as the benchmark's own table has it."""
        return best_f(self.thresholds, image.counts)

    def to_json(self) -> dict[str, Any]:
        """``{"ods", "ods_threshold", "ois", "ap", "r50", "images", …}``, the curve and a row per photo."""
        ods, ois, total = self.ods, self.ois, self.total
        return {
            "ods": round(ods.f, 6),
            "ods_threshold": round(ods.threshold, 6),
            "ods_recall": round(ods.recall, 6),
            "ods_precision": round(ods.precision, 6),
            "ois": round(ois.f, 6),
            "ois_recall": round(ois.recall, 6),
            "ois_precision": round(ois.precision, 6),
            "ap": round(self.ap, 6),
            "r50": round(self.r50, 6),
            "images": len(self.images),
            "curve": [
                {
                    "threshold": round(float(t), 6),
                    "recall": round(float(r), 6),
                    "precision": round(float(p), 6),
                }
                for t, r, p in zip(self.thresholds, total.recall, total.precision, strict=True)
            ],
            "per_image": [_row(image.name, self.best_of(image)) for image in self.images],
        }


def f_measure(counts: BoundaryCounts) -> Floats:
    """(T,) harmonic mean of precision and recall, 0 where both are."""
    return _f(counts.recall, counts.precision)


def best_f(thresholds: Floats, counts: BoundaryCounts) -> Best:
    """The highest F on the straight lines between neighbouring thresholds."""
    share = np.linspace(0, 1, INTERPOLATED)[None]
    columns = []
    for values in (thresholds, counts.recall, counts.precision):
        left, right = (values[:-1, None], values[1:, None]) if len(values) > 1 else (values[:, None],) * 2
        columns.append((left * (1 - share) + right * share).ravel())
    threshold, recall, precision = columns
    f = _f(recall, precision)
    best = int(f.argmax())
    return Best(float(threshold[best]), float(recall[best]), float(precision[best]), float(f[best]))


def _f(recall: Floats, precision: Floats) -> Floats:
    total = recall + precision
    return np.asarray(2 * recall * precision / np.where(total > 0, total, 1))


def _last_of_the_highest(values: Floats) -> int:
    return len(values) - 1 - int(values[::-1].argmax())


def _row(name: str, best: Best) -> dict[str, Any]:
    return {
        "file_name": name,
        "threshold": round(best.threshold, 6),
        "recall": round(best.recall, 6),
        "precision": round(best.precision, 6),
        "f": round(best.f, 6),
    }
