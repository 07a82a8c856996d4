"""What is read off low-resolution masks agrees with the masks drawn, and held logits with decoded ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from adapters import grid_masks
from adapters.base import Scene
from adapters.crops import point_grid
from adapters.decoding import drawer_of
from adapters.grid_masks import GridMasks, decode_grid
from sam.prompts import Prompts

MakeScene = Callable[..., Scene]


def grid(scene: Scene, per_side: int = 4, batch: int = 5) -> GridMasks:
    return decode_grid(scene, torch.from_numpy(point_grid(per_side) * np.array(scene.size[::-1])), batch)


@pytest.mark.parametrize("size", [(40, 60), (300, 200), (64, 64)])
def test_boxes_and_stability_are_nearly_those_of_the_masks_drawn(
    make_scene: MakeScene, size: tuple[int, int]
) -> None:
    scene = make_scene(*size)
    found = grid(scene)
    logits = torch.cat([part for _, part in found.logits_of(np.arange(len(found.boxes)))])
    drawn = drawer_of(scene).draw(logits)
    exact = np.array([mask.box for mask in drawn], np.float32)
    np.testing.assert_array_equal(found.boxes[:, 2] > 0, exact[:, 2] > 0)
    cell = max(size) / logits.shape[-1]
    assert np.abs(found.boxes - exact).max() <= max(1.0, cell)
    assert np.abs(found.stability - [mask.stability for mask in drawn]).max() < 0.1


def test_logits_held_and_decoded_again_are_the_same(
    make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = grid(make_scene())
    monkeypatch.setattr(grid_masks, "HELD_LOGITS_BUDGET", 0)
    again = grid(make_scene())
    assert held.held is not None and again.held is None
    chosen = np.array([46, 3, 17, 4, 0])
    parts = [list(masks.logits_of(chosen)) for masks in (held, again)]
    numbers = [np.concatenate([part[0] for part in found]).tolist() for found in parts]
    assert numbers[0] == numbers[1] == [0, 3, 4, 17, 46]
    logits = [torch.cat([part[1] for part in found]) for found in parts]
    torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(30, 90), (90, 30), (64, 64), (1, 128)])
def test_what_is_left_undrawn_is_padding(make_scene: MakeScene, size: tuple[int, int]) -> None:
    scene = make_scene(*size)
    found = grid(scene)
    labels = torch.ones(len(found.clicks.points), 1, dtype=torch.int64)
    whole = scene.decode(Prompts(points=found.clicks.points[:, None], labels=labels)).low_res_logits()
    every = np.arange(len(found.boxes))
    drawn = torch.cat([part for _, part in found.logits_of(every)])
    assert drawn.shape == whole.shape
    torch.testing.assert_close(scene.upsample(drawn), scene.upsample(whole), rtol=1e-4, atol=1e-4)


def test_none_wanted_is_none(make_scene: MakeScene) -> None:
    assert list(grid(make_scene()).logits_of(np.zeros(0, np.int64))) == []


def test_duplicates_and_empty_masks_are_not_distinct(make_scene: MakeScene) -> None:
    found = grid(make_scene())
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10.4], [20, 0, 30, 10], [0, 0, 0, 0]], np.float32)
    few = GridMasks(found.clicks, boxes, np.array([0.5, 0.6, 0.1, 0.9], np.float32), np.ones(4), None)
    assert few.distinct(0.9).tolist() == [1, 2]
    assert few.distinct(0.99).tolist() == [1, 0, 2]
