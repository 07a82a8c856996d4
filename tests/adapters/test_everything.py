"""Behaviour of `everything`; that its masks are segment-anything's is for tests/parity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from adapters.base import Defaults, Scene
from adapters.crops import point_grid
from adapters.everything import Everything, EverythingAdapter
from adapters.results import Instances
from sam.errors import BadPrompt

MakeScene = Callable[..., Scene]


def ask(scene: Scene, **options: object) -> Instances:
    return EverythingAdapter()(scene, Everything(**{"points_per_side": 4, **options}))  # type: ignore[arg-type]


def test_the_best_mask_comes_first_and_columns_are_filled(make_scene: MakeScene) -> None:
    found = ask(make_scene(), box_nms_thresh=1.0, max_mask_area_fraction=None)
    assert len(found) > 5
    assert (np.diff(found.scores) <= 0).all()
    np.testing.assert_array_equal(found.scores, found.predicted_iou)
    assert set(found.ambiguity.tolist()) <= {0, 1, 2}
    assert ((found.stability >= 0) & (found.stability <= 1)).all()
    assert (found.areas > 0).all()
    grid = {tuple(point) for point in (point_grid(4) * [60, 40]).round(3).tolist()}
    assert {tuple(point) for point in found.points.round(3).tolist()} <= grid


def test_thresholds_are_the_presets_unless_given(make_scene: MakeScene) -> None:
    everything = ask(make_scene(), box_nms_thresh=1.0, max_mask_area_fraction=None)
    middle = float(np.median(everything.predicted_iou))
    strict = make_scene(defaults=Defaults(pred_iou_thresh=middle, stability_score_thresh=0.0))
    from_preset = ask(strict, box_nms_thresh=1.0, max_mask_area_fraction=None)
    given = ask(make_scene(), box_nms_thresh=1.0, max_mask_area_fraction=None, pred_iou_thresh=middle)
    assert 0 < len(from_preset) < len(everything)
    assert from_preset.rles == given.rles
    assert (from_preset.predicted_iou > middle).all()
    firm = ask(make_scene(), box_nms_thresh=1.0, max_mask_area_fraction=None, stability_score_thresh=0.3)
    assert firm.rles == everything[everything.stability >= 0.3].rles


def test_batches_do_not_change_the_answer(make_scene: MakeScene) -> None:
    one, all_at_once = ask(make_scene(), points_per_batch=1), ask(make_scene(), points_per_batch=16)
    assert len(one) == len(all_at_once) > 0
    assert (one.masks == all_at_once.masks).mean() > 0.999


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_nothing_found_is_no_crash(make_scene: MakeScene, layers: int) -> None:
    found = ask(
        make_scene(), pred_iou_thresh=1e6, crop_n_layers=layers, min_mask_region_area=10, min_mask_area=10
    )
    assert len(found) == 0 and found.image_size == (40, 60)
    assert found.masks.shape == (0, 40, 60)
    assert found.to_coco() == []


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 50), (50, 1)])
def test_tiny_images(make_scene: MakeScene, size: tuple[int, int]) -> None:
    found = ask(make_scene(*size), crop_n_layers=2, points_per_side=2, max_mask_area_fraction=None)
    assert found.image_size == size


def test_the_coverage_filter_is_on_by_default(make_scene: MakeScene) -> None:
    kept_all = ask(make_scene(), box_nms_thresh=1.0, max_mask_area_fraction=None)
    default = ask(make_scene(), box_nms_thresh=1.0)
    assert default.rles == kept_all[kept_all.areas < 0.95 * 40 * 60].rles
    tight = ask(make_scene(), box_nms_thresh=1.0, max_mask_area_fraction=0.4)
    assert len(tight) < len(kept_all) and (tight.areas < 0.4 * 40 * 60).all()


def test_small_masks_can_be_dropped(make_scene: MakeScene) -> None:
    everything = ask(make_scene(), box_nms_thresh=1.0)
    limit = float(np.median(everything.areas))
    large = ask(make_scene(), box_nms_thresh=1.0, min_mask_area=limit)
    assert len(large) < len(everything) and (large.areas >= limit).all()


def test_own_point_grids(make_scene: MakeScene) -> None:
    from_side = ask(make_scene(), crop_n_layers=1, crop_n_points_downscale_factor=2)
    from_grid = ask(
        make_scene(),
        points_per_side=None,
        crop_n_layers=1,
        point_grids=[point_grid(4), point_grid(2).tolist()],
    )
    assert from_side.rles == from_grid.rles
    assert len(ask(make_scene(), points_per_side=None, point_grids=[np.zeros((0, 2))])) == 0


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"points_per_side": 0}, "points_per_side"),
        ({"points_per_side": 4.0}, "points_per_side"),
        ({"points_per_side": True}, "points_per_side"),
        ({"points_per_side": 100_000}, "points_per_side"),
        ({"points_per_side": None}, "point_grids"),
        ({"point_grids": [[[0.5, 0.5]]]}, "point_grids"),
        ({"points_per_side": None, "point_grids": [[[0.5, 1.5]]]}, "point_grids"),
        ({"points_per_side": None, "point_grids": [[0.5, 0.5, 0.5]]}, "point_grids"),
        ({"points_per_side": None, "point_grids": []}, "point_grids"),
        ({"points_per_batch": 0}, "points_per_batch"),
        ({"pred_iou_thresh": float("nan")}, "pred_iou_thresh"),
        ({"pred_iou_thresh": "high"}, "pred_iou_thresh"),
        ({"stability_score_thresh": 1.5}, "stability_score_thresh"),
        ({"stability_score_offset": -1.0}, "stability_score_offset"),
        ({"box_nms_thresh": -0.1}, "box_nms_thresh"),
        ({"crop_n_layers": -1}, "crop_n_layers"),
        ({"crop_n_layers": 9}, "crop_n_layers"),
        ({"crop_nms_thresh": 2}, "crop_nms_thresh"),
        ({"crop_overlap_ratio": -0.5}, "crop_overlap_ratio"),
        ({"crop_n_points_downscale_factor": 0}, "crop_n_points_downscale_factor"),
        ({"min_mask_region_area": -1}, "min_mask_region_area"),
        ({"max_mask_area_fraction": 2}, "max_mask_area_fraction"),
        ({"min_mask_area": float("inf")}, "min_mask_area"),
    ],
)
def test_wrong_values_are_refused_and_named(options: dict[str, object], field: str) -> None:
    with pytest.raises(BadPrompt) as caught:
        Everything(**options)  # type: ignore[arg-type]
    assert caught.value.field == field and "\n" not in str(caught.value)


def test_defaults_are_segment_anythings() -> None:
    import inspect

    from segment_anything import SamAutomaticMaskGenerator

    theirs = inspect.signature(SamAutomaticMaskGenerator).parameters
    ours = inspect.signature(Everything).parameters
    assert set(theirs) - {"model", "output_mode"} <= set(ours)
    of_the_preset = {"pred_iou_thresh": 0.88, "stability_score_thresh": 0.95}
    for name in set(theirs) - {"model", "output_mode"}:
        if name in of_the_preset:
            assert ours[name].default is None
            assert getattr(Defaults(), name) == theirs[name].default == of_the_preset[name]
        else:
            assert ours[name].default == theirs[name].default, name


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"points_per_side": None, "point_grids": 5}, "a list with a grid for each layer"),
        ({"points_per_side": None, "point_grids": [np.zeros((65_537, 2))]}, "a grid of 65537 points"),
        ({"points_per_side": None, "point_grids": [[[0.5, float("nan")]]]}, "must be finite"),
        ({"pred_iou_thresh": 10**400}, "pred_iou_thresh must be a number"),
    ],
)
def test_what_is_wrong_is_said(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BadPrompt, match=message):
        Everything(**fields)
