"""Proposals: all different masks of a grid, the best first, at most so many."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from adapters.base import Scene
from adapters.everything import Everything, EverythingAdapter
from adapters.proposals import Proposals, ProposalsAdapter
from adapters.results import Instances
from sam.errors import BadPrompt

MakeScene = Callable[..., Scene]


def ask(scene: Scene, **options: object) -> Instances:
    return ProposalsAdapter()(scene, Proposals(**{"points_per_side": 5, **options}))  # type: ignore[arg-type]


def test_without_suppression_they_are_all_masks_of_the_grid(make_scene: MakeScene) -> None:
    found = ask(make_scene(), box_nms_thresh=1.0)
    request = Everything(
        points_per_side=5,
        pred_iou_thresh=0,
        stability_score_thresh=0,
        box_nms_thresh=1.0,
        max_mask_area_fraction=None,
    )
    everything = EverythingAdapter()(make_scene(), request)
    assert len(found) == len(everything) > 20
    assert sorted(rle["counts"] for rle in found.rles) == sorted(rle["counts"] for rle in everything.rles)


def test_the_best_come_first_and_no_more_than_asked_for(make_scene: MakeScene) -> None:
    every = ask(make_scene(), box_nms_thresh=1.0)
    assert every.score_kind == "proposal_score"
    np.testing.assert_allclose(every.scores, (every.predicted_iou + every.stability) / 2, rtol=1e-6)
    assert (np.diff(every.scores) <= 0).all()
    few = ask(make_scene(), box_nms_thresh=1.0, limit=4)
    assert len(few) == 4
    # Ranked on low-resolution masks: the best few are among the best by the exact score.
    assert few.scores.min() >= np.sort(every.scores)[::-1][min(11, len(every) - 1)]


def test_duplicates_are_left_out(make_scene: MakeScene) -> None:
    scene = make_scene()
    assert 0 < len(ask(scene, box_nms_thresh=0.9)) < len(ask(scene, box_nms_thresh=1.0)) <= 75


def test_batches_do_not_change_the_answer(make_scene: MakeScene) -> None:
    one, many = ask(make_scene(), points_per_batch=1), ask(make_scene())
    assert len(one) == len(many) > 0
    np.testing.assert_allclose(one.scores, many.scores, atol=1e-4)


def test_each_says_where_it_comes_from(make_scene: MakeScene) -> None:
    found = ask(make_scene())
    assert set(found.ambiguity.tolist()) <= {0, 1, 2}
    assert np.isfinite(found.points).all()
    assert ((found.points > 0) & (found.points < [60, 40])).all()


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 2.5}, "limit"),
        ({"points_per_side": 0}, "points_per_side"),
        ({"points_per_batch": 0}, "points_per_batch"),
        ({"box_nms_thresh": -0.1}, "box_nms_thresh"),
    ],
)
def test_fields_out_of_range_are_named(options: dict[str, object], field: str) -> None:
    with pytest.raises(BadPrompt, match=field) as error:
        Proposals(**options)  # type: ignore[arg-type]
    assert error.value.field == field
