"""The models of the benchmarks work as they are said to."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch

from adapters.everything import Everything, EverythingAdapter
from adapters.points import Points, PointsAdapter


@pytest.fixture(scope="module")
def models(benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark("_models")


def test_the_photo_is_of_the_size_asked_for(models: ModuleType) -> None:
    pixels = models.photo(120, 180)
    assert pixels.shape == (120, 180, 3)
    assert pixels.std() > 20


def test_clicks_are_answered_by_blobs_around_them(models: ModuleType) -> None:
    """At three sizes, each holding the click, and different clicks differently."""
    model = models.blobs("vit_b")
    scene = models.encoded(model, models.photo(240, 360))
    clicks = [[80, 60], [200, 120], [300, 200]]
    found = PointsAdapter()(scene, Points([[click] for click in clicks], masks="all"))
    masks = found.masks
    for number, (x, y) in enumerate(clicks):
        of_click = masks[found.prompt_index == number]
        areas = of_click.mean((1, 2))
        assert of_click[:, y, x].all()
        assert 0.002 < areas[0] < areas[1] < areas[2] < 0.6
    smallest = masks[found.ambiguity == 0]
    assert not (smallest[0] & smallest[2]).sum() > 0.5 * smallest[0].sum()


def test_automatic_masks_of_tiny_without_skips(models: ModuleType) -> None:
    torch.manual_seed(0)
    model = models.tiny()
    scene = models.encoded(model, models.photo(120, 180))
    assert scene.embedding.high_res_features == ()
    request = Everything(points_per_side=3, pred_iou_thresh=0, stability_score_thresh=0)
    found = EverythingAdapter()(scene, request)
    assert len(found) >= 5
    assert len(np.unique(found.areas)) >= 5
