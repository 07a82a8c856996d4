from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from adapters.base import Defaults, Scene
from adapters.boxes import Boxes, BoxesAdapter, clip_boxes
from adapters.rle import bounding_boxes
from sam.errors import BadPrompt
from sam.prompts import Prompts

MakeScene = Callable[..., Scene]
BOXES = [[5, 5, 30, 30], [20, 10, 59, 39]]


def test_boxes_are_answered_by_the_single_mask_token(make_scene: MakeScene) -> None:
    scene = make_scene()
    candidates = scene.decode(Prompts(boxes=torch.tensor(BOXES).float()), multimask=False)
    found = BoxesAdapter()(scene, Boxes(BOXES))
    np.testing.assert_allclose(found.predicted_iou, candidates.iou_predictions[:, 0].numpy(), rtol=1e-5)
    np.testing.assert_array_equal(found.masks, (scene.upsample(candidates.low_res_logits()) > 0).numpy())
    assert found.prompt_index.tolist() == [0, 1] and found.ambiguity.tolist() == [-1, -1]
    assert np.isnan(found.points).all()


def test_all_gives_three_for_each_box(make_scene: MakeScene) -> None:
    found = BoxesAdapter()(make_scene(), Boxes(BOXES, masks="all"))
    assert found.prompt_index.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.ambiguity.tolist() == [0, 1, 2] * 2


def test_refining_feeds_the_logits_back_beside_the_box(make_scene: MakeScene) -> None:
    scene = make_scene()
    boxes = torch.tensor(BOXES).float()
    logits = scene.decode(Prompts(boxes=boxes), multimask=False).low_res_logits()
    expected = scene.decode(Prompts(boxes=boxes, mask_logits=logits), multimask=False)
    found = BoxesAdapter()(scene, Boxes(BOXES, refine=1))
    np.testing.assert_allclose(found.predicted_iou, expected.iou_predictions[:, 0].numpy(), rtol=1e-4)
    twice = BoxesAdapter()(scene, Boxes(BOXES, refine=2))
    assert not np.allclose(twice.predicted_iou, found.predicted_iou, rtol=1e-6)


def test_a_margin_cuts_off_what_leaves_the_box(make_scene: MakeScene) -> None:
    scene = make_scene()
    free = BoxesAdapter()(scene, Boxes(BOXES))
    for margin in (0, 0.2):
        found = BoxesAdapter()(scene, Boxes(BOXES, margin=margin))
        for plain, cut, (x1, y1, x2, y2) in zip(free, found, BOXES, strict=True):
            dx, dy = margin * (x2 - x1), margin * (y2 - y1)
            rows = slice(max(0, int(np.floor(y1 - dy))), int(np.ceil(y2 + dy)))
            columns = slice(max(0, int(np.floor(x1 - dx))), int(np.ceil(x2 + dx)))
            expected = np.zeros_like(plain.mask)
            expected[rows, columns] = plain.mask[rows, columns]
            np.testing.assert_array_equal(cut.mask, expected)
            assert 0 < cut.area < plain.area
        np.testing.assert_array_equal(found.boxes, bounding_boxes(found.rles))
        np.testing.assert_array_equal(found.predicted_iou, free.predicted_iou)


def test_the_margin_of_the_preset_counts_unless_one_is_given(make_scene: MakeScene) -> None:
    scene = make_scene(defaults=Defaults(box_margin=0.0))
    own = BoxesAdapter()(scene, Boxes(BOXES, masks="all"))
    assert own.rles == BoxesAdapter()(scene, Boxes(BOXES, masks="all", margin=0)).rles
    wide = BoxesAdapter()(scene, Boxes(BOXES, masks="all", margin=1000))
    assert wide.rles == BoxesAdapter()(make_scene(), Boxes(BOXES, masks="all")).rles
    assert (wide.areas > own.areas).all()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (([],), "no boxes"),
        (([1, 2, 3, 4],), r"\(N, 4\)"),
        (([[1, 2, 3]],), r"\(N, 4\)"),
        ((5,), "no boxes"),
        (([[1, 1, 5, 5], [9, 1, 9, 5]],), r"box 1 \[9, 1, 9, 5\] is empty"),
        (([[9, 5, 10, 1]],), "box 0 .* is empty"),
        (([[1, 1, 5, float("nan")]],), r"boxes\[0, 3\] is nan"),
        ((np.tile([0, 0, 1, 1], (10_001, 1)),), "at most 10000"),
        (([[1, 1, 5, 5]], "first"), '"best" or "all"'),
        (([[1, 1, 5, 5]], "best", -1), "refine"),
        (([[1, 1, 5, 5]], "best", True), "refine"),
        (([[1, 1, 5, 5]], "best", 1.5), "refine"),
        (([[1, 1, 5, 5]], "best", 0, -0.1), "margin must be a number from 0"),
    ],
)
def test_wrong_requests_are_refused_in_one_line(arguments: tuple[object, ...], says: str) -> None:
    with pytest.raises(BadPrompt, match=says) as caught:
        Boxes(*arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value) and caught.value.field


@pytest.mark.parametrize(
    "box", [[-2, 0, 9, 9], [0, 0, 62, 9], [0, 0, 9, 41.5], [70, 0, 80, 9], [60, 0, 60.5, 9]]
)
def test_a_box_outside_is_named(make_scene: MakeScene, box: list[float]) -> None:
    with pytest.raises(
        BadPrompt, match=r"box 1 .* is outside the image, 60 px wide and 40 px high"
    ) as caught:
        BoxesAdapter()(make_scene(40, 60), Boxes([[0, 0, 5, 5], box]))
    assert caught.value.code == "box_outside"


def test_a_rounded_box_is_clipped(make_scene: MakeScene) -> None:
    rough = np.array([[-0.7, -1.0, 60.9, 41.0]], np.float32)
    np.testing.assert_array_equal(clip_boxes(rough, (40, 60)), [[0, 0, 60, 40]])
    scene = make_scene(40, 60)
    rounded, exact = BoxesAdapter()(scene, Boxes(rough)), BoxesAdapter()(scene, Boxes([[0, 0, 60, 40]]))
    assert rounded.rles == exact.rles


def test_numbers_beyond_float32_are_refused() -> None:
    with pytest.raises(BadPrompt, match="must be finite"):
        Boxes([[0, 0, 1e300, 5]])
