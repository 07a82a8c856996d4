from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from adapters import decoding
from adapters.base import Scene
from adapters.points import Points, PointsAdapter
from adapters.results import Instances
from sam.errors import BadPrompt
from sam.prompts import Prompts

MakeScene = Callable[..., Scene]


def ask(scene: Scene, *args: object, **options: object) -> Instances:
    return PointsAdapter()(scene, Points(*args, **options))  # type: ignore[arg-type]


def plain(scene: Scene, prompts: Prompts, multimask: bool) -> tuple[np.ndarray, np.ndarray]:
    """Predicted IoU (N, M) and masks (N, M, H, W), everything upsampled at once."""
    candidates = scene.decode(prompts, multimask=multimask)
    masks = scene.upsample(candidates.low_res_logits()) > 0
    iou = candidates.iou_predictions.numpy()
    return iou, masks.numpy().reshape(*iou.shape, *scene.size)


def clicks(points: list[list[list[float]]], labels: list[list[int]]) -> Prompts:
    return Prompts(points=torch.tensor(points), labels=torch.tensor(labels))


def test_one_click_is_answered_by_the_best_of_three(make_scene: MakeScene) -> None:
    scene = make_scene()
    iou, masks = plain(scene, clicks([[[12.0, 7.0]]], [[1]]), multimask=True)
    found = ask(scene, [[12, 7]])
    assert len(found) == 1
    assert found.ambiguity.tolist() == [iou[0].argmax()]
    np.testing.assert_allclose(found.predicted_iou, iou.max(1), rtol=1e-5)
    np.testing.assert_array_equal(found.masks[0], masks[0, iou[0].argmax()])
    np.testing.assert_array_equal(found.points, [[12, 7]])


def test_all_gives_the_three_with_their_index(make_scene: MakeScene) -> None:
    scene = make_scene()
    points = [[[12.0, 7.0]], [[40.0, 30.0]]]
    iou, masks = plain(scene, clicks(points, [[1], [1]]), multimask=True)
    found = ask(scene, points, masks="all")
    assert found.ambiguity.tolist() == [0, 1, 2] * 2
    assert found.prompt_index.tolist() == [0, 0, 0, 1, 1, 1]
    np.testing.assert_allclose(found.scores, iou.ravel(), rtol=1e-5)
    np.testing.assert_array_equal(found.masks, masks.reshape(6, *scene.size))
    assert ask(scene, [[12, 7], [40, 30]], masks="all").ambiguity.tolist() == [0, 1, 2]


def test_several_clicks_are_answered_by_the_single_mask_token(make_scene: MakeScene) -> None:
    scene = make_scene()
    points, labels = [[[12.0, 7.0], [50.0, 30.0]]], [[1, 0]]
    iou, masks = plain(scene, clicks(points, labels), multimask=False)
    found = ask(scene, points[0], labels[0])
    assert found.ambiguity.tolist() == [-1]
    np.testing.assert_allclose(found.predicted_iou, iou[:, 0], rtol=1e-5)
    np.testing.assert_array_equal(found.masks[0], masks[0, 0])
    other = ask(scene, points[0], [1, 1])
    assert other.predicted_iou[0] != found.predicted_iou[0], "labels matter"


def test_stability_comes_with_the_masks(make_scene: MakeScene) -> None:
    scene = make_scene()
    found = ask(scene, [[12, 7]], masks="all")
    low = scene.decode(clicks([[[12.0, 7.0]]], [[1]]), multimask=True).low_res_logits()
    logits = scene.upsample(low)
    expected = (logits > 1).sum((1, 2)) / (logits > -1).sum((1, 2)).clamp(min=1)
    np.testing.assert_allclose(found.stability, expected.numpy(), atol=1e-3)
    assert found.low_res_logits is not None
    torch.testing.assert_close(found.low_res_logits, low)


def test_many_objects_are_decoded_in_chunks_with_the_same_answer(
    make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = make_scene()
    points = np.random.default_rng(0).uniform(0, 39, (7, 1, 2))
    whole = ask(scene, points)
    monkeypatch.setattr(decoding, "PROMPTS_PER_DECODE", 3)
    monkeypatch.setattr(decoding, "RENDER_BUDGET", 1)
    monkeypatch.setattr(decoding, "KEPT_LOGITS_BUDGET", 1)
    parts = ask(scene, points)
    np.testing.assert_allclose(parts.scores, whole.scores, rtol=1e-4)
    assert (parts.masks == whole.masks).mean() > 0.999
    assert parts.prompt_index.tolist() == list(range(7))
    assert whole.low_res_logits is not None and parts.low_res_logits is None


def test_logits_are_fed_back(make_scene: MakeScene) -> None:
    scene = make_scene()
    first = ask(scene, [[12, 7]])
    again = ask(scene, [[12, 7]], mask_logits=first.low_res_logits)
    assert again.ambiguity.tolist() == [-1], "a click with a mask is not ambiguous"
    prompts = Prompts(torch.tensor([[[12.0, 7.0]]]), torch.tensor([[1]]), mask_logits=first.low_res_logits)
    iou, _ = plain(scene, prompts, multimask=False)
    np.testing.assert_allclose(again.predicted_iou, iou[:, 0], rtol=1e-5)
    from_array = ask(scene, [[12, 7]], mask_logits=first.low_res_logits.numpy().tolist())  # type: ignore[union-attr]
    np.testing.assert_allclose(from_array.predicted_iou, again.predicted_iou, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (([],), "no points"),
        ((np.zeros((0, 3, 2)),), "no points"),
        (([[1, 2, 3]],), "must be"),
        (([1, 2],), "must be"),
        (([[1, 2], [3]],), "must be numbers"),
        (([["a", "b"]],), "must be numbers"),
        (([[1, float("nan")]],), r"points\[0, 1\] is nan"),
        (([[float("inf"), 1]],), r"points\[0, 0\] is inf"),
        (([[10**400, 1]],), "must be numbers"),
        (([[1, 2]], [1, 1]), "one for each point"),
        (([[1, 2]], [[1]]), "one for each point"),
        (([[1, 2]], [2]), "label 2"),
        (([[1, 2]], [-1]), "label -1"),
        (([[1, 2]], [0.5]), "label 0.5"),
        (([[1, 2]], [float("nan")]), "finite"),
        ((np.zeros((10_001, 1, 2)),), "at most 10000"),
        ((np.zeros((101, 100, 2)),), "at most 10000"),
        (([[1, 2]], None, "worst"), '"best" or "all"'),
    ],
)
def test_wrong_requests_are_refused_in_one_line(arguments: tuple[object, ...], says: str) -> None:
    with pytest.raises(BadPrompt, match=says) as caught:
        Points(*arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value) and caught.value.field


@pytest.mark.parametrize("point", [[60, 5], [5, 40], [-0.5, 5], [5, -1], [1e9, 5]])
def test_a_point_outside_is_named(make_scene: MakeScene, point: list[float]) -> None:
    with pytest.raises(
        BadPrompt, match=r"point 1 .* is outside the image, 60 px wide and 40 px high"
    ) as caught:
        ask(make_scene(40, 60), [[1, 1], point])
    assert caught.value.code == "point_outside"


def test_the_last_pixel_is_inside(make_scene: MakeScene) -> None:
    assert len(ask(make_scene(40, 60), [[59.9, 39.9], [0, 0]])) == 1


@pytest.mark.parametrize(
    ("logits", "says"),
    [
        (torch.zeros(1, 16, 16), r"must be \(1, 32, 32\)"),
        (torch.zeros(2, 32, 32), r"must be \(1, 32, 32\)"),
        (torch.full((1, 32, 32), float("nan")), "finite"),
        ([["x"]], "must be numbers"),
    ],
)
def test_wrong_logits_are_refused(make_scene: MakeScene, logits: object, says: str) -> None:
    with pytest.raises(BadPrompt, match=says):
        ask(make_scene(), [[1, 1]], mask_logits=logits)
