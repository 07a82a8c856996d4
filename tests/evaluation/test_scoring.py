"""A protocol over a set of photos: what is averaged, what is left out, what cannot be evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from adapters.base import Scene
from adapters.points import Points
from adapters.results import Instances
from adapters.rle import bounding_boxes, encode_masks
from composer import Composer
from composer.evaluation.ground_truth import GroundTruth, LabelledImage, Segment
from composer.evaluation.scoring import MaskFilter, evaluate_boxes, evaluate_points
from sam.errors import BadAnnotation, UsageError

SIZE = (90, 140)
Masks = npt.NDArray[np.bool_]


def boxes_as_masks(*boxes: tuple[int, int, int, int]) -> Masks:
    masks = np.zeros((len(boxes), *SIZE), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    return masks


HALF, QUARTER, WRONG = boxes_as_masks((10, 10, 30, 50), (10, 10, 30, 30), (100, 60, 110, 70))
"""Of a segment at 10, 10, 50, 50."""


def three_masks_each(*tops: Masks) -> Instances:
    """An answer to clicks whose top-ranked masks are these."""
    rles = tuple(encode_masks(np.stack([mask for top in tops for mask in (top, WRONG, WRONG)])))
    scores = np.array([0.9, 0.1, 0.1] * len(tops), np.float32)
    logits = torch.zeros(len(rles), 4, 4)
    return Instances(SIZE, rles, bounding_boxes(rles), scores, predicted_iou=scores, low_res_logits=logits)


@pytest.fixture
def scene(small_preset: Path, photo: npt.NDArray[np.uint8]) -> Scene:
    return Composer.load(small_preset, device="cpu").open(photo)


def truth_of(counts: Sequence[int]) -> GroundTruth:
    masks = boxes_as_masks((10, 10, 50, 50), (60, 20, 100, 60), (0, 0, 8, 8))
    images = [
        LabelledImage(Path(__file__), f"{i}.png", lambda size, n=n: Segment.of_masks(encode_masks(masks[:n])))
        for i, n in enumerate(counts)
    ]
    return GroundTruth("made", tuple(images))


def test_every_mask_counts_once_not_every_photo(scene: Scene) -> None:
    answers = [three_masks_each(HALF), three_masks_each(QUARTER, WRONG)]

    def answer(scene: Scene, request: Points) -> Instances:
        return answers.pop(0)

    seen: list[str] = []
    found = evaluate_points(lambda path: scene, truth_of([1, 2]), [1], on_image=seen.append, answer=answer)
    assert seen == ["0.png", "1.png"]
    assert found.miou == {1: pytest.approx((0.5 + 0.25 + 0) / 3)}
    assert (found.masks, found.to_json()["images"], found.box_filled) == (3, 2, None)
    report = found.to_json()
    assert report["miou"] == {"1": 0.25} and report["oracle"] == {"1": 0.25}
    assert [row["miou"]["1"] for row in report["per_image"]] == [0.5, 0.125]


def test_which_masks_are_evaluated(scene: Scene) -> None:
    found = evaluate_boxes(lambda path: scene, truth_of([3, 0, 3]))
    assert (found.masks, len(found.images)) == (6, 2)  # a photo without a mask is no photo
    found = evaluate_boxes(lambda path: scene, truth_of([3]), MaskFilter(100, None))
    assert [image.areas for image in found.images] == [(1600, 1600)]
    found = evaluate_boxes(lambda path: scene, truth_of([3]), MaskFilter(0, 1))
    assert found.masks == 1 and found.box_filled == 1.0


def test_what_cannot_be_evaluated(scene: Scene, tmp_path: Path) -> None:
    for clicks in ([], [0], [1, 101]):
        with pytest.raises(UsageError, match="click counts must be from 1 to 100"):
            evaluate_points(lambda path: scene, truth_of([1]), clicks)
    with pytest.raises(BadAnnotation, match="no mask of at least 5000 pixels in 1 photos"):
        evaluate_boxes(lambda path: scene, truth_of([3]), MaskFilter(5000))
    gone = LabelledImage(tmp_path / "gone.png", "gone.png", lambda size: [])
    truth = GroundTruth("made", (*truth_of([1]).images, gone))
    opened: list[Path] = []
    with pytest.raises(BadAnnotation, match=r"gone\.png: is annotated in made, but there is no such photo"):
        evaluate_boxes(lambda path: opened.append(path) or scene, truth)
    assert not opened  # it is said before any work
