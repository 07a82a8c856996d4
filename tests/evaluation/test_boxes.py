"""Boxes as prompts: the oracle has the single answer too; with a model, the answers are the adapter's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from adapters.boxes import Boxes
from adapters.results import Instances
from adapters.rle import bounding_boxes, encode_masks
from composer import Composer
from composer.evaluation.boxes import score_boxes
from composer.evaluation.points import rle_iou

SIZE = (90, 140)


def rectangles(*boxes: tuple[int, int, int, int]) -> npt.NDArray[np.bool_]:
    masks = np.zeros((len(boxes), *SIZE), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    return masks


def test_of_two_masks_one_is_best_alone_and_one_among_three() -> None:
    corner, bar = rectangles((10, 10, 30, 30), (2, 34, 12, 38))
    corner[20:, 20:] = False  # three quarters of its box
    single = rectangles((10, 10, 30, 20), (2, 34, 10, 38))
    three = rectangles(
        (10, 10, 20, 20), (10, 10, 30, 30), (0, 0, 5, 5), (2, 34, 7, 38), (2, 34, 4, 38), (0, 0, 5, 5)
    )
    asked: list[Boxes] = []

    def answer(scene: object, request: Boxes) -> Instances:
        asked.append(request)
        rles = tuple(encode_masks(three if request.masks == "all" else single))
        return Instances(SIZE, rles, bounding_boxes(rles), np.ones(len(rles), np.float32))

    scores = score_boxes(None, encode_masks(np.stack([corner, bar])), answer)
    assert [request.masks for request in asked] == ["best", "all"]
    for request in asked:
        assert np.asarray(request.boxes).tolist() == [[10, 10, 30, 30], [2, 34, 12, 38]]
    assert scores.filled.tolist() == pytest.approx([0.75, 1])
    assert scores.top.tolist() == pytest.approx([200 / 300, 0.8])
    assert scores.oracle.tolist() == pytest.approx([0.75, 0.8])


def test_with_a_model_it_is_what_the_adapter_answers(
    small_preset: Path, photo: npt.NDArray[np.uint8]
) -> None:
    scene = Composer.load(small_preset, device="cpu").open(photo)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    disc = (x - 40) ** 2 + (y - 45) ** 2 < 25**2
    boxes = [(16, 21, 65, 70), (95, 20, 115, 70), (0, 0, 1, 1), (0, 0, 140, 90)]
    masks = encode_masks(np.stack([disc, *rectangles(*boxes[1:])]))
    scores = score_boxes(scene, masks)
    assert (scores.oracle >= scores.top).all() and (scores.oracle <= 1).all()
    assert scores.filled.tolist() == pytest.approx([disc.sum() / 49**2, 1, 1, 1])
    ious = [rle_iou(*pair) for pair in zip(scene.run(Boxes(boxes)).rles, masks, strict=True)]
    assert scores.top.tolist() == pytest.approx(ious) and max(ious) > 0
