"""Precision and recall over thresholds: by hand, and the same masks as the adapter keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from adapters.base import Scene
from adapters.everything import Everything, EverythingAdapter
from adapters.results import Instances
from adapters.rle import bounding_boxes, encode_masks
from composer import Composer
from composer.evaluation import thresholds
from composer.evaluation.ground_truth import GroundTruth, LabelledImage, Segment
from composer.evaluation.scoring import MaskFilter
from composer.evaluation.thresholds import Operating, ThresholdEvaluation, evaluate_thresholds
from sam.errors import BadAnnotation

Masks = npt.NDArray[np.bool_]


def box_masks(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (90, 140)) -> Masks:
    masks = np.zeros((len(boxes), *size), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    return masks


def truth_of(masks: Masks, photos: int = 1) -> GroundTruth:
    image = LabelledImage(Path(__file__), "x.png", lambda size: Segment.of_masks(encode_masks(masks)))
    return GroundTruth("made", (image,) * photos)


@pytest.fixture
def scene(small_preset: Path, photo: npt.NDArray[np.uint8]) -> Scene:
    return Composer.load(small_preset, device="cpu").open(photo)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch):
    """Lets `everything` find what a test says."""

    def answer(masks: Masks, predicted_iou: list[float], stability: list[float]) -> None:
        rles = tuple(encode_masks(masks))
        scores = np.array(predicted_iou, np.float32)
        found = Instances(
            (90, 140), rles, bounding_boxes(rles), scores, (None,) * len(rles),
            predicted_iou=scores, stability=np.array(stability, np.float32),
        )  # fmt: skip
        monkeypatch.setattr(thresholds.EverythingAdapter, "__call__", lambda *arguments: found)

    return answer


def test_by_hand(scene: Scene, answers) -> None:
    segments = box_masks((10, 10, 40, 40), (60, 10, 90, 40), (100, 50, 130, 80))
    # Two right, one of them found twice, one wrong; all but the wrong one stable.
    found = box_masks((10, 10, 40, 40), (11, 10, 41, 40), (60, 12, 90, 40), (0, 60, 50, 90))
    answers(found, [0.9, 0.8, 0.6, 0.7], [0.95, 0.95, 0.95, 0.5])
    pairs = [(0.0, 0.0), (0.0, 0.9), (0.65, 0.9), (0.85, 0.0), (0.95, 0.0)]
    evaluation = evaluate_thresholds(lambda path: scene, truth_of(segments, 2), pairs=pairs)
    assert (evaluation.images, evaluation.masks) == (2, 6)
    assert [row.masks_per_photo for row in evaluation.rows] == [3, 2, 1, 1, 0]
    assert [row.precision for row in evaluation.rows] == pytest.approx([2 / 3, 1, 1, 1, 0])
    assert [row.recall for row in evaluation.rows] == pytest.approx([2 / 3, 2 / 3, 1 / 3, 1 / 3, 0])
    best = evaluation.best
    assert (best.pred_iou_thresh, best.stability_score_thresh) == (0.0, 0.9)
    assert best.f1 == pytest.approx(0.8)
    assert evaluation.to_json()["best"]["f1"] == pytest.approx(0.8)


def test_a_mask_of_the_whole_photo_is_not_kept(scene: Scene, answers) -> None:
    answers(box_masks((0, 0, 140, 90), (10, 10, 40, 40)), [0.9, 0.8], [1, 1])
    segments = box_masks((10, 10, 40, 40))
    (row,) = evaluate_thresholds(lambda path: scene, truth_of(segments), pairs=[(0.0, 0.0)]).rows
    assert (row.masks_per_photo, row.precision, row.recall) == (1, 1, 1)


def test_nothing_found_is_no_crash(scene: Scene, answers) -> None:
    answers(box_masks(), [], [])
    rows = evaluate_thresholds(lambda path: scene, truth_of(box_masks((1, 1, 9, 9)))).rows
    assert all(row.precision == row.recall == row.f1 == row.masks_per_photo == 0 for row in rows)


def test_each_pair_keeps_what_the_adapter_keeps(photo: npt.NDArray[np.uint8]) -> None:
    scene = Composer.load("tiny", device="cpu").open(photo)
    everything = EverythingAdapter()(scene, Everything(points_per_side=5, **thresholds._KEEP_ALL))
    assert len(everything) > 30
    counts = set()
    for iou in np.quantile(everything.predicted_iou, [0.1, 0.4, 0.8]).tolist():
        for stability in np.quantile(everything.stability, [0.1, 0.5, 0.8]).tolist():
            kept = everything[thresholds._kept(everything, iou, stability)]
            asked = Everything(points_per_side=5, pred_iou_thresh=iou, stability_score_thresh=stability)
            expected = EverythingAdapter()(scene, asked)
            assert [rle["counts"] for rle in kept.rles] == [rle["counts"] for rle in expected.rles]
            counts.add(len(expected))
    assert len(counts) > 2


def test_the_best_of_equals_is_the_stricter() -> None:
    rows = tuple(Operating(iou, 0.5, 0.5, 0.5, 3.0) for iou in (0.4, 0.6, 0.5))
    assert ThresholdEvaluation(rows, 1, 1).best.pred_iou_thresh == 0.6


def test_no_segment_large_enough(scene: Scene) -> None:
    with pytest.raises(BadAnnotation, match="nothing to evaluate"):
        evaluate_thresholds(
            lambda path: scene, truth_of(box_masks((0, 0, 5, 5))), MaskFilter(min_area=100), 2
        )
