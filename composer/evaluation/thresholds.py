"""Which thresholds of `everything` suit a model: precision and recall of what each pair of them keeps.

Thresholds belong to weights: the published 0.88 and 0.95 keep nothing from a weak model. Every photo is
segmented once with neither threshold nor suppression; each pair is then applied to those masks, and then
suppression, as the adapter does. Labels are rarely exhaustive, so precision says less than it seems to:
a good mask of something unlabelled counts against it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from adapters.everything import Everything, EverythingAdapter
from adapters.results import Instances
from adapters.selection import box_nms, covers_image
from composer.evaluation.ground_truth import GroundTruth
from composer.evaluation.scoring import MaskFilter, OpenScene, labelled_scenes
from sam.errors import BadAnnotation

PRED_IOU = tuple(round(0.3 + 0.025 * i, 3) for i in range(27))
ALL_MASKS = MaskFilter()
STABILITY = (0.0, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95)
MATCH_IOU = 0.5
"""From here on a mask and a labelled segment are the same thing."""
_KEEP_ALL: dict[str, Any] = {
    "pred_iou_thresh": 0.0,
    "stability_score_thresh": 0.0,
    "box_nms_thresh": 1.0,
    "max_mask_area_fraction": None,  # a mask of the whole photo goes last: before, it may suppress others
}


@dataclass(frozen=True)
class Operating:
    """What one pair of thresholds does over a set.

    Attributes:
        pred_iou_thresh, stability_score_thresh: the pair.
        precision: share of the kept masks that are a labelled segment, in [0, 1]; 0 where none is kept.
        recall: share of the labelled segments that are among the kept masks, in [0, 1].
        masks_per_photo: how many are kept.
    """

    pred_iou_thresh: float
    stability_score_thresh: float
    precision: float
    recall: float
    masks_per_photo: float

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0

    def to_json(self) -> dict[str, float]:
        """Every figure by its name."""
        return {name: round(value, 6) for name, value in (*vars(self).items(), ("f1", self.f1))}


@dataclass(frozen=True)
class ThresholdEvaluation:
    """The outcome over a set: a row for every pair."""

    rows: tuple[Operating, ...]
    images: int
    masks: int

    @property
    def best(self) -> Operating:
        """The pair of the highest F1; among equals the stricter one."""
        return max(self.rows, key=lambda row: (row.f1, row.pred_iou_thresh, row.stability_score_thresh))

    def to_json(self) -> dict[str, Any]:
        """``{"best": {...}, "rows": [...], "images": n, "masks": n, "match_iou": 0.5}``."""
        return {
            "best": self.best.to_json(),
            "match_iou": MATCH_IOU,
            "images": self.images,
            "masks": self.masks,
            "rows": [row.to_json() for row in self.rows],
        }


def evaluate_thresholds(
    open_scene: OpenScene,
    truth: GroundTruth,
    which: MaskFilter = ALL_MASKS,
    points_per_side: int = 32,
    on_image: Callable[[str], None] | None = None,
    pairs: Sequence[tuple[float, float]] | None = None,
) -> ThresholdEvaluation:
    """Precision and recall of `everything` over pairs of thresholds.

    Args:
        open_scene: opens a photo.
        truth: labelled photos.
        which: segments that count as ground truth.
        points_per_side: of the grid of clicks.
        on_image: called with a photo's name before it is opened.
        pairs: predicted IoU and stability; by default a grid over both.

    Raises:
        BadAnnotation: a set that contradicts itself, or without a mask to evaluate.
        BadImage: a photo that cannot be read.
    """
    pairs = pairs or [(iou, stability) for stability in STABILITY for iou in PRED_IOU]
    request = Everything(points_per_side=points_per_side, **_KEEP_ALL)
    counts = np.zeros((len(pairs), 3), np.int64)  # kept, kept and right, segments found
    images = segments = 0
    for _, scene, chosen in labelled_scenes(open_scene, truth, which, on_image):
        masks = [segment.rle for segment in chosen]
        found = EverythingAdapter()(scene, request)
        matches = _matches(found, masks)
        images += 1
        segments += len(masks)
        for row, (iou, stability) in enumerate(pairs):
            kept = matches[_kept(found, iou, stability)]
            counts[row] += len(kept), kept.any(1).sum(), kept.any(0).sum()
    if not images:
        raise BadAnnotation(f"{truth.source}: no mask in {len(truth)} photos, nothing to evaluate")
    rows = [
        Operating(iou, stability, float(right / max(1, kept)), float(hit / segments), float(kept / images))
        for (iou, stability), (kept, right, hit) in zip(pairs, counts, strict=True)
    ]
    return ThresholdEvaluation(tuple(rows), images, segments)


def _matches(found: Instances, masks: Sequence[Any]) -> npt.NDArray[np.bool_]:
    """(masks found, segments) bool: which are the same thing."""
    if not len(found):
        return np.zeros((0, len(masks)), bool)
    ious = coco_mask.iou(list(found.rles), list(masks), [0] * len(masks))
    return np.asarray(ious).reshape(len(found), len(masks)) >= MATCH_IOU


def _kept(found: Instances, iou: float, stability: float) -> npt.NDArray[np.int64]:
    """Indices of what `everything` keeps at these thresholds: filters, suppression, coverage."""
    passed = np.flatnonzero((found.predicted_iou > iou) & (found.stability >= stability))
    few = found[passed]
    alive = box_nms(few.boxes, few.predicted_iou, Everything().box_nms_thresh)
    fraction = Everything().max_mask_area_fraction
    assert fraction is not None
    covering = covers_image(few.areas, found.image_size, fraction)
    kept: npt.NDArray[np.int64] = passed[alive[~covering[alive]]]
    return kept
