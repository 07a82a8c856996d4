from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO

from adapters import rle
from adapters.results import EdgeMap, Instance, Instances

Blobs = Callable[[int, tuple[int, int], int], np.ndarray]
SIZE = (30, 40)


@pytest.fixture
def three(blobs: Blobs) -> Instances:
    rles = tuple(rle.encode_masks(blobs(3, SIZE, 1)))
    return Instances(
        image_size=SIZE,
        rles=rles,
        boxes=rle.bounding_boxes(rles),
        scores=np.array([0.9, 0.8, 0.7], np.float32),
        labels=("dog", None, "cat"),
        predicted_iou=np.array([0.9, 0.8, 0.7], np.float32),
        points=np.array([[3, 4], [5, 6], [7, 8]], np.float32),
        low_res_logits=torch.arange(12.0).reshape(3, 2, 2),
    )


def test_columns_that_were_not_given(three: Instances) -> None:
    assert np.isnan(three.stability).all() and np.isnan(three.detector_score).all()
    assert three.ambiguity.tolist() == [-1, -1, -1] and three.prompt_index.dtype == np.int64
    np.testing.assert_array_equal(three.crop_boxes, [[0, 0, 40, 30]] * 3)
    assert len(three.replace(labels=None).labels) == 3


def test_masks_and_areas(three: Instances, blobs: Blobs) -> None:
    np.testing.assert_array_equal(three.masks, blobs(3, SIZE, 1))
    assert three.masks.dtype == np.bool_
    assert three.areas.tolist() == blobs(3, SIZE, 1).sum((1, 2)).tolist()


def test_indexing(three: Instances) -> None:
    last = three[-1]
    assert isinstance(last, Instance)
    assert (last.label, last.score) == ("cat", pytest.approx(0.7))
    np.testing.assert_array_equal(last.mask, three.masks[2])
    assert last.area == three.areas[2]
    for index in ([2, 0], np.array([2, 0]), np.array([True, False, True])[::-1][[2, 1, 0]]):
        chosen = three[index]
        assert set(chosen.labels) == {"cat", "dog"}
        assert chosen.low_res_logits is not None and chosen.low_res_logits.shape == (2, 2, 2)
    assert three[1:].labels == (None, "cat")
    assert len(three[[]]) == 0 and len(three[np.zeros(3, bool)]) == 0
    assert [instance.label for instance in three] == ["dog", None, "cat"]
    with pytest.raises(IndexError):
        three[3]


def test_concatenate(three: Instances) -> None:
    both = Instances.concatenate([three[:1], Instances.empty(SIZE), three[1:]])
    assert both.labels == three.labels and both.rles == three.rles
    np.testing.assert_array_equal(both.points, three.points)
    assert both.low_res_logits is None, "one part had none"
    again = Instances.concatenate([three[:1], three[1:]])
    assert again.low_res_logits is not None and three.low_res_logits is not None
    torch.testing.assert_close(again.low_res_logits, three.low_res_logits)
    for parts in ([], [three, Instances.empty((1, 1))], [three, Instances.empty(SIZE, "text_score")]):
        with pytest.raises(ValueError, match=r"concatenate"):
            Instances.concatenate(parts)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"boxes": np.zeros((2, 4))}, "boxes must have shape"),
        ({"boxes": np.array([[5, 0, 4, 1]] * 3)}, "x1 <= x2"),
        ({"boxes": np.full((3, 4), np.nan)}, "finite"),
        ({"scores": np.array([1.0, 2.0])}, "scores must have shape"),
        ({"scores": np.array([1.0, np.nan, 2.0])}, "not NaN"),
        ({"labels": ("dog",)}, "1 labels for 3"),
        ({"image_size": (31, 40)}, "a mask of size"),
        ({"image_size": (0, 40)}, "at least one pixel"),
        ({"stability": np.zeros((3, 1))}, "stability must have shape"),
        ({"low_res_logits": torch.zeros(2, 4, 4)}, "2 low-resolution logits"),
    ],
)
def test_columns_that_disagree_are_refused(three: Instances, change: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        three.replace(**change)


def test_coco_records_are_read_by_pycocotools(three: Instances, tmp_path: Path) -> None:
    records = three.to_coco(image_id=7)
    truth = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 40, "height": 30}],
        "annotations": records,
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(three.class_names)],
    }
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(truth))
    coco = COCO(str(path))
    for record, mask, instance in zip(coco.loadAnns(coco.getAnnIds([7])), three.masks, three, strict=True):
        np.testing.assert_array_equal(coco.annToMask(record).astype(bool), mask)
        assert record["area"] == instance.area
        assert coco.cats[record["category_id"]]["name"] == (instance.label or "object")
        x, y, w, h = (int(v) for v in record["bbox"])
        assert mask[y : y + h, x : x + w].sum() == mask.sum()
    assert len(coco.loadRes([{k: v for k, v in r.items() if k != "id"} for r in records]).getAnnIds()) == 3


def test_sa1b_record(three: Instances) -> None:
    content = json.loads(json.dumps(three.to_sa1b("sa_1.jpg", image_id=1)))
    assert content["image"] == {"image_id": 1, "width": 40, "height": 30, "file_name": "sa_1.jpg"}
    assert [a["id"] for a in content["annotations"]] == [1, 2, 3]
    first = content["annotations"][0]
    assert set(first) == {
        "id",
        "segmentation",
        "bbox",
        "area",
        "predicted_iou",
        "stability_score",
        "crop_box",
        "point_coords",
    }
    assert first["crop_box"] == [0, 0, 40, 30] and first["point_coords"] == [[3, 4]]
    assert first["stability_score"] is None, "not computed, and NaN is no JSON"
    np.testing.assert_array_equal(rle.decode_mask(rle.from_json(first["segmentation"])), three.masks[0])
    without = three.replace(points=None).to_sa1b("sa_1.jpg")["annotations"][0]
    assert without["point_coords"] == []


def test_supervision(three: Instances) -> None:
    detections = three.to_supervision()
    np.testing.assert_array_equal(detections.mask, three.masks)
    np.testing.assert_array_equal(detections.xyxy, three.boxes)
    assert detections.data["class_name"].tolist() == ["dog", "object", "cat"]
    assert [three.class_names[i] for i in detections.class_id] == ["dog", "object", "cat"]
    np.testing.assert_allclose(detections.confidence, three.scores)
    assert len(Instances.empty(SIZE).to_supervision()) == 0


def test_edge_map() -> None:
    values = np.linspace(0, 1, 12).reshape(3, 4)
    edges = EdgeMap(values)
    assert edges.values.dtype == np.float32 and edges.image_size == (3, 4)
    for wrong in (values * 2, values - 0.5, values * np.nan, values.ravel(), np.zeros((0, 4))):
        with pytest.raises(ValueError, match="edge"):
            EdgeMap(wrong)


def test_routes_and_suggestions_go_with_the_answer() -> None:
    size = (4, 6)
    rles = tuple(rle.encode_mask(np.eye(4, 6, k, dtype=bool)) for k in range(2))
    boxes, scores = np.array([[0, 0, 4, 4], [1, 0, 5, 4]], np.float32), np.array([0.5, 0.4], np.float32)
    found = Instances(size, rles, boxes, scores, routes=("rank", "points"))
    assert found.suggested_points is None and found[1].route == "points" and found[[1]].routes == ("points",)
    unsure = found.with_suggestions(np.array([[3.0, 2.0]], np.float32), np.array([1]))
    assert unsure[:0].suggested_prompts is not None and unsure[:0].suggested_prompts.tolist() == [1]
    both = Instances.concatenate([found, unsure, unsure])
    assert both.routes == ("rank", "points") * 3
    np.testing.assert_array_equal(both.suggested_points, [[3, 2], [3, 2]])
    assert Instances.concatenate([found, found]).suggested_points is None
    assert (
        unsure.with_suggestions(np.zeros((0, 2), np.float32), np.zeros(0, np.int64)).suggested_points is None
    )
    with pytest.raises(ValueError, match="go together"):
        found.replace(suggested_points=np.zeros((2, 2), np.float32), suggested_prompts=np.zeros(1, np.int64))
    with pytest.raises(ValueError, match="1 routes for 2 masks"):
        found.replace(routes=("rank",))


def test_a_tuple_of_rows_is_a_list_of_rows(three: Instances) -> None:
    assert three[(0, 2)].labels == ("dog", "cat") and len(three[(1,)]) == 1 and len(three[()]) == 0
