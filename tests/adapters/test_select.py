"""Choosing among instances: every filter, their order, and mask arithmetic equal to numpy's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from adapters import overlaps
from adapters.base import Scene
from adapters.edges import Edges, EdgesAdapter
from adapters.overlaps import grown
from adapters.results import Instances
from adapters.rle import bounding_boxes, complement, decode_mask, encode_mask, encode_masks, union
from adapters.select import Select, SelectAdapter
from adapters.selection import mask_boxes
from sam.errors import BadPrompt

MakeScene = Callable[..., Scene]
Masks = npt.NDArray[np.bool_]
SIZE = (40, 60)
NAN = float("nan")


def squares(*corners: tuple[int, int, int, int], size: tuple[int, int] = SIZE) -> Masks:
    """A filled ``x1, y1, x2, y2`` each."""
    masks = np.zeros((len(corners), *size), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, corners, strict=True):
        mask[y1:y2, x1:x2] = True
    return masks


def instances(masks: Masks, labels: Sequence[str | None] | None = None, **columns: Any) -> Instances:
    rles = tuple(encode_masks(masks))
    scores = columns.pop("scores", np.linspace(0.9, 0.1, len(masks)))
    names = None if labels is None else tuple(labels)
    size = (masks.shape[1], masks.shape[2])
    return Instances(size, rles, bounding_boxes(rles), np.asarray(scores, np.float32), names, **columns)


FOUND = instances(
    squares((0, 0, 10, 10), (5, 5, 25, 25), (30, 0, 34, 4), (30, 20, 60, 40)),
    ["dog", "cat", "dog", None],
    scores=[0.5, 0.9, 0.7, 0.6],
    text_score=[0.2, NAN, 0.8, 0.4],
)


@pytest.fixture
def choose(make_scene: MakeScene) -> Callable[..., Instances]:
    scene = make_scene(*SIZE)
    return lambda found=FOUND, **fields: SelectAdapter()(scene, Select(found, **fields))


def which(kept: Instances, found: Instances = FOUND) -> list[int]:
    """Numbers of the instances that were kept, told by their masks."""
    return [found.rles.index(rle) for rle in kept.rles]


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({}, [0, 1, 2, 3]),
        ({"labels": ["dog"]}, [0, 2]),
        ({"labels": ["dog", " cat "]}, [0, 1, 2]),
        ({"labels": ["Dog"]}, []),
        ({"exclude": ["dog"]}, [1, 3]),
        ({"labels": ["dog", "cat"], "exclude": ["cat"]}, [0, 2]),
        ({"min_score": 0.6}, [1, 2, 3]),
        ({"min_score": 0.6, "max_score": 0.75}, [2, 3]),
        ({"score": "text_score", "min_score": 0.0}, [0, 2, 3]),
        ({"score": "text_score", "max_score": 1.0}, [0, 2, 3]),
        ({"score": "detector_score", "min_score": -1.0}, []),
        ({"min_area": 100}, [0, 1, 3]),
        ({"min_area": 100, "max_area": 400}, [0, 1]),
        ({"min_area": 0.25, "area_unit": "share"}, [3]),
        ({"max_area": 100 / 2400, "area_unit": "share"}, [0, 2]),
        ({"largest": 2}, [3, 1]),
        ({"best": 2}, [1, 2]),
        ({"best": 4, "score": "text_score"}, [2, 3, 0]),
        ({"largest": 3, "best": 1}, [1]),
        ({"labels": ["dog"], "largest": 1}, [0]),
    ],
)
def test_filters(choose: Callable[..., Instances], fields: dict[str, Any], kept: list[int]) -> None:
    assert which(choose(**fields)) == kept


def test_everything_about_an_instance_stays_with_it(choose: Callable[..., Instances]) -> None:
    chosen = choose(best=2)
    assert chosen.labels == ("cat", "dog") and chosen.scores.tolist() == FOUND.scores[[1, 2]].tolist()
    np.testing.assert_array_equal(chosen.boxes, FOUND.boxes[[1, 2]])
    np.testing.assert_array_equal(chosen.text_score, FOUND.text_score[[1, 2]])


OTHER = instances(squares((0, 0, 10, 10), (10, 10, 25, 25), (36, 0, 40, 4)))


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"min_overlap": 0.5}, [0, 1]),  # 1: 225 of 400 pixels of one mask, not with the sum of both
        ({"min_overlap": 0.6}, [0]),
        ({"max_overlap": 0.5}, [2, 3]),
        ({"min_inside": 0.625}, [0, 1]),  # 1: 25 + 225 of 400, in the union
        ({"min_inside": 0.63}, [0]),
        ({"max_inside": 0}, [2, 3]),
        ({"touching": 0}, [0, 1]),
        ({"touching": 1}, [0, 1]),
        ({"touching": 2}, [0, 1, 2]),
        ({"touching": 5}, [0, 1, 2, 3]),  # columns 25 to 29 are between
        ({"touching": 4}, [0, 1, 2]),
        ({"touching": 1000}, [0, 1, 2, 3]),
        ({"touching": 2, "max_inside": 0.9}, [1, 2]),
    ],
)
def test_relations(choose: Callable[..., Instances], fields: dict[str, Any], kept: list[int]) -> None:
    assert which(choose(other=OTHER, **fields)) == kept


def test_corners_touch(choose: Callable[..., Instances]) -> None:
    found = instances(squares((10, 10, 12, 12), (11, 10, 13, 12)))
    assert which(choose(found, other=instances(squares((8, 8, 10, 10))), touching=0), found) == [0]


def test_nothing_to_compare_with(choose: Callable[..., Instances]) -> None:
    nothing = Instances.empty(SIZE)
    for passes_none in ({"min_overlap": 0.1}, {"min_inside": 0.1}, {"touching": 1000}):
        assert len(choose(other=nothing, **passes_none)) == 0
    for passes_all in ({"max_overlap": 0}, {"max_inside": 0}, {"operation": "subtract"}):
        assert which(choose(other=nothing, **passes_all)) == [0, 1, 2, 3]
    assert which(choose(other=nothing, operation="union")) == [0, 1, 2, 3]
    assert len(choose(other=nothing, operation="intersect")) == 0


@pytest.mark.parametrize("fields", [{"best": 1}, {"largest": 1}, {"merge": True}, {"labels": ["x"]}])
def test_nothing_to_choose_from(choose: Callable[..., Instances], fields: dict[str, Any]) -> None:
    chosen = choose(Instances.empty(SIZE, "detector_score"), other=FOUND, operation="union", **fields)
    assert len(chosen) == 0 and chosen.score_kind == "detector_score"


masks_of = st.integers(0, 4).flatmap(lambda n: arrays(np.bool_, (n, 7, 9)))
OPERATIONS = {
    "union": lambda mask, region: mask | region,
    "subtract": lambda mask, region: mask & ~region,
    "intersect": lambda mask, region: mask & region,
}


@given(masks_of, masks_of, st.sampled_from(sorted(OPERATIONS)))
def test_mask_arithmetic_is_numpys(mine: Masks, theirs: Masks, operation: str) -> None:
    photo = np.zeros((7, 9, 3), np.uint8)
    scene: Any = type("Photo", (), {"image": photo, "size": (7, 9)})
    request: Any = Select(instances(mine), other=instances(theirs), operation=operation)  # type: ignore[arg-type]
    got = SelectAdapter()(scene, request)
    region = theirs.any(0)
    expected = [mask for mask in (OPERATIONS[operation](m, region) for m in mine) if mask.any()]
    assert got.rles == tuple(encode_mask(mask) for mask in expected)  # byte for byte
    np.testing.assert_array_equal(got.boxes, mask_boxes(np.array(expected).reshape(-1, 7, 9)))
    joined = SelectAdapter()(scene, Select(instances(mine), merge=True))
    assert [decode_mask(rle).tolist() for rle in joined.rles] == (
        [mine.any(0).tolist()] if mine.any() else []
    )


@given(masks_of, masks_of, st.integers(0, 4))
def test_relations_are_numpys(mine: Masks, theirs: Masks, gap: int) -> None:
    one, other = encode_masks(mine), encode_masks(theirs)
    both, either = (mine[:, None] & theirs[None]).sum((2, 3)), (mine[:, None] | theirs[None]).sum((2, 3))
    iou = (both / np.maximum(either, 1)).max(1, initial=0)
    np.testing.assert_array_equal(overlaps.highest_iou(one, other), iou)
    region = union(other, (7, 9))
    area = np.maximum(mine.sum((1, 2)), 1)
    inside = (mine & theirs.any(0)).sum((1, 2)) / area
    np.testing.assert_array_equal(overlaps.share_inside(one, region), inside)
    np.testing.assert_array_equal(
        overlaps.touches(one, region, gap), [near(mask, theirs.any(0), gap) for mask in mine]
    )
    assert decode_mask(complement(region)).tolist() == (~theirs.any(0)).tolist()
    assert complement(complement(region)) == region


def near(mask: Masks, region: Masks, gap: int) -> bool:
    here, there = np.argwhere(mask), np.argwhere(region)
    if not len(here) or not len(there):
        return False
    return bool((np.abs(here[:, None] - there[None]).max(2) <= gap + 1).any())


def test_more_pairs_than_are_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = np.random.default_rng(0).random((300, 6, 8)) > 0.5
    rles = encode_masks(masks)
    whole = overlaps.highest_iou(rles, rles[:7])
    monkeypatch.setattr(overlaps, "PAIRS_AT_A_TIME", 20)
    np.testing.assert_array_equal(overlaps.highest_iou(rles, rles[:7]), whole)


def test_a_mask_that_has_changed_has_no_logits(choose: Callable[..., Instances]) -> None:
    import torch

    found = FOUND.replace(low_res_logits=torch.zeros(4, 8, 8))
    assert choose(found, best=2).low_res_logits.shape == (2, 8, 8)
    assert choose(found, other=OTHER, operation="subtract").low_res_logits is None


def test_joining(choose: Callable[..., Instances]) -> None:
    (joined,) = choose(labels=["dog"], merge=True)
    assert joined.label == "dog" and joined.area == 116 and joined.score == pytest.approx(0.7)
    np.testing.assert_array_equal(joined.box, [0, 0, 34, 10])
    (joined,) = choose(merge=True)
    assert joined.label is None and joined.score == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("fields", "field", "said"),
    [
        ({"candidates": [1]}, "candidates", "must be Instances"),
        ({"labels": "dog"}, "labels", "names"),
        ({"labels": []}, "labels", "0 labels"),
        ({"labels": 7}, "labels", "names"),
        ({"exclude": [" "]}, "exclude", "names"),
        ({"score": "iou"}, "score", "one of score, predicted_iou"),
        ({"min_score": NAN}, "min_score", "number"),
        ({"min_score": 1, "max_score": 0}, "min_score", "nothing could pass"),
        ({"min_area": -1}, "min_area", "number"),
        ({"max_area": 2, "area_unit": "share"}, "max_area", "from 0 to 1"),
        ({"area_unit": "percent"}, "area_unit", "one of pixels, share"),
        ({"min_overlap": 0.5}, "other", "min_overlap needs other"),
        ({"operation": "subtract"}, "other", "operation needs other"),
        ({"other": FOUND}, "other", "does nothing"),
        ({"other": 3, "touching": 1}, "other", "must be Instances"),
        ({"other": FOUND, "min_inside": 2}, "min_inside", "from 0 to 1"),
        ({"other": FOUND, "touching": 1.5}, "touching", "whole number"),
        ({"other": FOUND, "touching": 1001}, "touching", "from 0 to 1000"),
        ({"other": FOUND, "operation": "xor"}, "operation", "one of union, subtract"),
        ({"largest": 0}, "largest", "whole number"),
        ({"best": True}, "best", "whole number"),
        ({"merge": 1}, "merge", "true or false"),
    ],
)
def test_a_wrong_value_is_named(fields: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(BadPrompt, match=said) as error:
        Select(**({"candidates": FOUND} | fields))
    assert error.value.field == field


def test_instances_of_another_image(make_scene: MakeScene) -> None:
    with pytest.raises(BadPrompt, match="candidates are of an image of 60 x 40 px, and this one has 50 x 30"):
        SelectAdapter()(make_scene(30, 50), Select(FOUND))
    with pytest.raises(BadPrompt, match="within are of an image of 60 x 40"):
        EdgesAdapter()(make_scene(30, 50), Edges(within=FOUND))


def test_edges_within_masks(make_scene: MakeScene) -> None:
    scene = make_scene(*SIZE)
    whole = EdgesAdapter()(scene, Edges(points_per_side=3)).values
    region = FOUND.masks[:1].any(0)
    for margin in (0, 2):
        cut = EdgesAdapter()(scene, Edges(points_per_side=3, within=FOUND[:1], within_margin=margin)).values
        assert np.array_equal(cut, np.where(grown(region, margin), whole, 0))
    assert grown(region, 2).sum() == 12 * 12
    nothing = EdgesAdapter()(scene, Edges(points_per_side=2, within=Instances.empty(SIZE)))
    assert not nothing.values.any()
    with pytest.raises(BadPrompt, match="within must be Instances"):
        Edges(within=[1])  # type: ignore[arg-type]
    with pytest.raises(BadPrompt, match="within_margin"):
        Edges(within_margin=-1)
