"""Clicks and boxes: the protocol by hand with answers that are known, and with a real small model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from adapters.base import Scene
from adapters.boxes import Boxes
from adapters.points import Points
from adapters.results import Instances
from adapters.rle import bounding_boxes, encode_masks
from composer import Composer
from composer.evaluation.boxes import score_boxes
from composer.evaluation.clicks import first_click
from composer.evaluation.ground_truth import GroundTruth, LabelledImage
from composer.evaluation.points import score_points
from composer.evaluation.scoring import MaskFilter, evaluate_boxes, evaluate_points
from sam.errors import BadAnnotation, UsageError

SIZE = (90, 140)
Masks = npt.NDArray[np.bool_]


def boxes_as_masks(*boxes: tuple[int, int, int, int]) -> Masks:
    masks = np.zeros((len(boxes), *SIZE), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    return masks


def instances(masks: Masks, predicted_iou: Sequence[float], logits: Sequence[float]) -> Instances:
    """Masks whose logits are constant maps of the given values: a mark to know them by."""
    rles = tuple(encode_masks(masks))
    scores = np.array(predicted_iou, np.float32)
    maps = torch.tensor(logits).view(-1, 1, 1).expand(-1, 4, 4)
    return Instances(
        SIZE, rles, bounding_boxes(rles), scores, (None,) * len(rles),
        predicted_iou=scores, low_res_logits=maps,
    )  # fmt: skip


class Answers:
    """Gives back what it was told to, and keeps what it was asked."""

    def __init__(self, *answers: Instances) -> None:
        self.answers = list(answers)
        self.asked: list[Points] = []

    def __call__(self, scene: Scene, request: Points) -> Instances:
        self.asked.append(request)
        return self.answers.pop(0)


@pytest.fixture
def scene(small_preset: Path, photo: npt.NDArray[np.uint8]) -> Scene:
    return Composer.load(small_preset, device="cpu").open(photo)


TRUTH = boxes_as_masks((10, 10, 50, 50))  # 1,600 pixels
HALF, QUARTER, WRONG = boxes_as_masks((10, 10, 30, 50), (10, 10, 30, 30), (100, 60, 110, 70))


def test_the_top_ranked_mask_counts_and_the_oracle_is_the_best(scene: Scene) -> None:
    found = instances(np.stack([QUARTER, HALF, WRONG]), [0.9, 0.5, 0.1], [1.0, 2.0, 3.0])
    answers = Answers(found)
    scores = score_points(scene, encode_masks(TRUTH), [1], answers)
    assert scores.top.tolist() == [[0.25]] and scores.oracle.tolist() == [[0.5]]
    (request,) = answers.asked
    assert request.masks == "all"
    click = first_click(TRUTH[0])
    assert np.array_equal(request.points, [[[click.x, click.y]]]) and np.array_equal(request.labels, [[1]])


def test_corrections_feed_back_the_mask_they_correct(scene: Scene) -> None:
    first = instances(np.stack([HALF, QUARTER, TRUTH[0]]), [0.9, 0.5, 0.1], [1.0, 2.0, 3.0])
    too_much = boxes_as_masks((10, 10, 60, 50))
    second = instances(too_much, [0.7], [4.0])
    third = instances(TRUTH, [0.7], [5.0])
    answers = Answers(first, second, third)
    scores = score_points(scene, encode_masks(TRUTH), [1, 2, 3], answers)
    assert scores.top.tolist() == [[0.5, 0.8, 1.0]]
    # The oracle took the perfect mask, which needs no more clicks: nobody asked for it again.
    assert scores.oracle.tolist() == [[1.0, 1.0, 1.0]]
    _, one, two = answers.asked
    assert len(one.points) == len(two.points) == 1
    assert one.labels.tolist() == [[1, 1]] and 30 <= one.points[0, 1, 0] < 50  # on what was missing
    assert two.labels.tolist() == [[1, 1, 0]] and 50 <= two.points[0, 2, 0] < 60  # on what was too much
    assert np.array_equal(two.points[:, :2], one.points)
    assert one.mask_logits[0, 0, 0] == 1.0 and two.mask_logits[0, 0, 0] == 4.0
    assert one.masks == two.masks == "best"


def test_the_oracle_goes_its_own_way(scene: Scene) -> None:
    first = instances(np.stack([QUARTER, HALF, WRONG]), [0.9, 0.5, 0.1], [1.0, 2.0, 3.0])
    answers = Answers(first, instances(np.stack([WRONG, TRUTH[0]]), [0.7, 0.7], [4.0, 5.0]))
    scores = score_points(scene, encode_masks(TRUTH), [1, 2], answers)
    assert scores.top.tolist() == [[0.25, 0.0]] and scores.oracle.tolist() == [[0.5, 1.0]]
    assert answers.asked[1].mask_logits[:, 0, 0].tolist() == [1.0, 2.0]


def test_several_masks_keep_their_order(scene: Scene) -> None:
    truth = boxes_as_masks((10, 10, 50, 50), (60, 20, 100, 60))
    other = boxes_as_masks((60, 20, 100, 40))[0]
    found = instances(np.stack([HALF, QUARTER, WRONG, WRONG, other, WRONG]), [0.9, 0, 0, 0, 0.9, 0], range(6))
    scores = score_points(scene, encode_masks(truth), [1], Answers(found))
    assert scores.top[:, 0].tolist() == [0.5, 0.5]
    assert score_points(scene, [], [1, 2]).top.shape == (0, 2)


def test_a_real_model_is_scored_like_its_own_answers(scene: Scene) -> None:
    rles = encode_masks(boxes_as_masks((20, 20, 60, 70), (95, 20, 115, 70)))
    scores = score_points(scene, rles, [1, 2, 3])
    assert scores.top.shape == scores.oracle.shape == (2, 3)
    assert ((scores.top >= 0) & (scores.top <= 1)).all()
    assert (scores.oracle[:, 0] >= scores.top[:, 0]).all()
    masks = boxes_as_masks((20, 20, 60, 70), (95, 20, 115, 70))
    for row, mask in enumerate(masks):
        click = first_click(mask)
        (answer,) = scene.run(Points([[click.x, click.y]])).masks
        assert scores.top[row, 0] == pytest.approx((answer & mask).sum() / (answer | mask).sum())


def test_boxes_by_hand(scene: Scene) -> None:
    disc = np.hypot(*(np.mgrid[: SIZE[0], : SIZE[1]] - np.array([40, 60]).reshape(2, 1, 1))) <= 20
    rles = encode_masks(disc[None])
    asked: list[Boxes] = []

    def answer(scene: Scene, request: Boxes) -> Instances:
        asked.append(request)
        if request.masks == "all":
            return instances(np.stack([WRONG, disc, HALF]), [0.9, 0.1, 0.1], range(3))
        return instances(boxes_as_masks((40, 20, 81, 61)), [0.5], [0.0])

    scores = score_boxes(scene, rles, answer)
    filled = disc.sum() / 41**2
    assert asked[0].boxes.tolist() == [[40, 20, 81, 61]]
    assert scores.filled[0] == pytest.approx(filled) and scores.top[0] == pytest.approx(filled)
    assert scores.oracle[0] == 1.0
    assert len(score_boxes(scene, []).top) == 0


def truth_of(counts: Sequence[int]) -> GroundTruth:
    masks = boxes_as_masks((10, 10, 50, 50), (60, 20, 100, 60), (0, 0, 8, 8))
    images = [
        LabelledImage(Path(__file__), f"{i}.png", lambda size, n=n: encode_masks(masks[:n]))
        for i, n in enumerate(counts)
    ]
    return GroundTruth("made", tuple(images))


def test_every_mask_counts_once_not_every_photo(scene: Scene) -> None:
    answers = Answers(
        instances(np.stack([HALF, HALF, HALF]), [0.9, 0, 0], range(3)),
        instances(np.stack([QUARTER, WRONG, WRONG, WRONG, WRONG, WRONG]), [0.9, 0, 0] * 2, range(6)),
    )
    seen: list[str] = []
    found = evaluate_points(lambda path: scene, truth_of([1, 2]), [1], on_image=seen.append, answer=answers)
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
