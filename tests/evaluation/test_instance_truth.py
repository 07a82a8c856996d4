"""COCO instance files and results files: what COCOeval needs, and a clear word about every damaged entry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.rle import encode_mask, to_json
from composer.evaluation.detected_masks import masks_of_boxes
from composer.evaluation.instance_truth import InstanceTruth
from composer.evaluation.instances import evaluate_instances, instance_table
from sam.errors import BadAnnotation

SIZE = (45, 60)
Index = dict[str, Any]


def rectangle(x: int, y: int) -> dict[str, Any]:
    """20 x 15 pixels, as a COCO RLE."""
    mask = np.zeros(SIZE, bool)
    mask[y : y + 15, x : x + 20] = True
    return to_json(encode_mask(mask))


def index(**change: Any) -> Index:
    """Two photos with two instances each; ``change`` goes to the annotation 11."""
    annotations = [
        {"id": 10 + i, "image_id": i // 2, "category_id": 1 + i % 2, "segmentation": rectangle(5 + 9 * i, 20)}
        for i in range(4)
    ]
    annotations[1] |= change
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": 45, "width": 60} for i in range(2)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }


def opened(folder: Path, content: Index) -> InstanceTruth:
    path = folder / "ann.json"
    path.write_text(json.dumps(content))
    return InstanceTruth.open(folder, path)


def results_of(content: Index, *keys: str) -> list[dict[str, Any]]:
    """What finds every instance, with these of its parts."""
    wanted = ("image_id", "category_id", *keys)
    return [{key: one[key] for key in wanted} | {"score": 0.9} for one in content["annotations"]]


def read(truth: InstanceTruth, results: Any, **options: bool) -> Any:
    path = truth.path.with_name("results.json")
    path.write_text(json.dumps(results))
    return truth.read_results(path, **options)


def test_what_is_missing_comes_from_the_mask(tmp_path: Path) -> None:
    polygon = [[5.0, 20.0, 25.0, 20.0, 25.0, 35.0, 5.0, 35.0]]
    truth = opened(tmp_path, index(segmentation=polygon, area=None, bbox=None, iscrowd=None))
    for one in truth.coco.anns.values():
        assert one["area"] == 300 and one["bbox"][1:] == [20, 20, 15] and one["iscrowd"] == 0
    assert truth.unmasked is None
    found = evaluate_instances(truth, read(truth, results_of(index(), "segmentation")[2:]))
    assert found.masks is not None and found.masks["ap"] == pytest.approx(0.5, abs=0.01)
    assert found.masks["ar"] == pytest.approx(0.5), "one of two"
    given = opened(tmp_path, index(area=7, bbox=[1, 2, 3, 4], iscrowd=1)).coco.anns[2]
    assert (given["area"], given["bbox"], given["iscrowd"]) == (7, [1, 2, 3, 4], 1)


def test_an_annotation_with_the_id_0_can_be_found(tmp_path: Path) -> None:
    content = index(id=0)  # which COCOeval takes for "not matched"
    found = evaluate_instances(
        truth := opened(tmp_path, content), read(truth, results_of(content, "segmentation"))
    )
    assert found.masks is not None and found.masks["ap"] == 1


RLE = rectangle(5, 20)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image_id": 7}, "annotation 11: image_id 7 is not listed under 'images'"),
        ({"image_id": [1]}, "annotation 11: 'image_id' must be a whole number, not [1]"),
        ({"category_id": 9}, "annotation 11: category_id 9 is not listed under 'categories'"),
        ({"category_id": None}, "annotation 11: 'category_id' must be a whole number, not None"),
        ({"id": 10}, "annotations[1]: a second entry with the id 10"),
        ({"id": None}, "annotations[1]: 'id' must be a whole number"),
        (
            {"segmentation": {"size": [60, 45], "counts": [2700]}},
            "a mask of 45 x 60 pixels, but its photo has",
        ),
        ({"segmentation": RLE | {"counts": RLE["counts"][:-1]}}, "annotation 11: RLE"),
        (
            {"segmentation": RLE | {"counts": [10**30]}},
            "annotation 11: RLE counts hold a number of more than 32",
        ),
        ({"segmentation": [[1, 2]]}, "annotation 11: 'segmentation' must be an RLE or a list of polygons"),
        ({"segmentation": "x"}, "annotation 11: 'segmentation' must be an RLE or a list of polygons"),
        ({"segmentation": None}, "annotation 11: has neither 'segmentation' nor 'bbox'"),
        ({"segmentation": [], "bbox": []}, "annotation 11: has neither 'segmentation' nor 'bbox'"),
        ({"bbox": [1, 2, 3]}, "annotation 11: 'bbox' must be [x, y, width, height]"),
        ({"bbox": [1, 2, -3, 4]}, "annotation 11: 'bbox' [1, 2, -3, 4] has a negative width or height"),
        ({"area": "large"}, "annotation 11: 'area' must be pixels"),
        ({"area": -1}, "annotation 11: 'area' must be pixels"),
        ({"iscrowd": 2}, "annotation 11: 'iscrowd' must be 0 or 1, not 2"),
        ({"iscrowd": [0]}, "annotation 11: 'iscrowd' must be 0 or 1"),
    ],
)
def test_annotations_that_do_not_fit(tmp_path: Path, change: Index, reason: str) -> None:
    with pytest.raises(BadAnnotation) as caught:
        opened(tmp_path, index(**change))
    assert str(caught.value).startswith(f"{tmp_path / 'ann.json'}: ") and reason in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("images", [{"id": 0, "height": 45, "width": 60}] * 2, "images[1]: a second entry with the id 0"),
        ("images", [{"id": 0, "width": 60}], "image 0: 'height' must be a whole number, not None"),
        ("images", [{"id": 0, "height": 45, "width": 0}], "image 0: a photo of 0 x 45 pixels"),
        ("categories", [{"id": 1}, {"id": 1}], "categories[1]: a second entry with the id 1"),
        ("categories", None, "expected a list of objects under 'categories'"),
        ("annotations", [], "no instance in it that is no crowd"),
    ],
)
def test_files_that_contradict_themselves(tmp_path: Path, key: str, value: Any, reason: str) -> None:
    with pytest.raises(BadAnnotation) as caught:
        opened(tmp_path, index() | {key: value})
    assert reason in str(caught.value)


def test_crowds_alone_are_nothing_to_evaluate_on(tmp_path: Path) -> None:
    content = index()
    for one in content["annotations"][:2]:
        one["iscrowd"] = 1
    truth = opened(tmp_path, content)
    with pytest.raises(BadAnnotation, match="no instance in it of its first 1 photos that is no crowd"):
        truth.limited(1)
    for one in content["annotations"]:
        one["iscrowd"] = 1
    with pytest.raises(BadAnnotation, match="no instance in it that is no crowd"):
        opened(tmp_path, content)


def test_of_boxes_alone_only_boxes_are_measured_and_that_is_said(tmp_path: Path) -> None:
    content = index(segmentation=[], bbox=[14, 20, 20, 15])
    truth = opened(tmp_path, content)
    found = evaluate_instances(truth, read(truth, results_of(index(), "segmentation")))
    assert found.masks is None and found.boxes is not None and found.boxes["ap"] == 1
    assert found.note == "masks not measured: annotation 11 of ann.json has a box, but no mask"
    assert found.to_json()["note"] == found.note and found.note in str(instance_table(found, "x").caption)
    with pytest.raises(BadAnnotation, match=r"annotation 11 has a box, but no mask.* with --results"):
        masks_of_boxes(lambda path: None, truth, [])  # type: ignore[arg-type, return-value]


def test_names_of_categories(tmp_path: Path) -> None:
    assert opened(tmp_path, index()).category_ids() == {"a": 1, "b": 2}
    truth = opened(tmp_path, index() | {"categories": [{"id": 1, "name": "a"}, {"id": 2}]})
    with pytest.raises(BadAnnotation, match="category 2 needs a 'name'"):
        truth.category_ids()
    truth = opened(tmp_path, index() | {"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]})
    with pytest.raises(BadAnnotation, match="categories 1 and 2 are both named 'a'"):
        truth.category_ids()


def test_missing_photos_are_said_before_the_first_is_opened(tmp_path: Path) -> None:
    content = index()
    content["images"] = [content["images"][0] | {"id": i, "file_name": f"{i}.jpg"} for i in range(5)]
    truth = opened(tmp_path, content)
    (tmp_path / "0.jpg").touch()
    with pytest.raises(BadAnnotation) as caught:
        truth.check_photos(truth.image_ids)
    missing = ", ".join(str(tmp_path / f"{i}.jpg") for i in (1, 2, 3))
    assert str(caught.value) == (
        f"{missing} and 1 more: are annotated in {tmp_path / 'ann.json'}, but there are no such photos"
    )
    boxes = [{"image_id": i, "category_id": 1, "score": 1, "bbox": [0, 0, 9, 9]} for i in range(2)]
    with pytest.raises(BadAnnotation, match=r"1\.jpg: is annotated in .* but there is no such photo"):
        masks_of_boxes(pytest.fail, truth, boxes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image_id": [1]}, "'image_id' must be a whole number, not [1]"),
        ({"category_id": [1]}, "'category_id' must be a whole number, not [1]"),
        ({"image_id": True}, "'image_id' must be a whole number, not True"),
        ({"segmentation": [[1, 2, 3, 4, 5, 6]]}, "'segmentation' of a result must be an RLE, not [[1, 2"),
        ({"segmentation": "abc"}, "'segmentation' of a result must be an RLE, not 'abc'"),
        (
            {"segmentation": {"size": [9, 9], "counts": [81]}},
            "a mask of 9 x 9 pixels, but its photo has 60 x 45",
        ),
        ({"bbox": [1, 2, 3, -4]}, "has a negative width or height"),
        ({"bbox": "abcd"}, "'bbox' must be [x, y, width, height]"),
        ({"bbox": None}, "result 1: has a mask, but the results before it have a mask and a box"),
        ({"segmentation": None}, "result 1: has a box, but the results before it have a mask and a box"),
        ({"segmentation": None, "bbox": None}, "has no 'segmentation' or 'bbox'"),
    ],
)
def test_results_that_do_not_fit(tmp_path: Path, change: Index, reason: str) -> None:
    truth = opened(tmp_path, index())
    results = results_of(index(), "segmentation")
    for result in results:
        result["bbox"] = [0, 0, 9, 9]
    results[1] |= change
    with pytest.raises(BadAnnotation) as caught:
        read(truth, results)
    assert str(caught.value).startswith(f"{tmp_path / 'results.json'}: result 1: ")
    assert reason in str(caught.value)


def test_null_is_as_good_as_nothing(tmp_path: Path) -> None:
    truth = opened(tmp_path, index())
    masks = [one | {"bbox": None} for one in results_of(index(), "segmentation")]
    found = evaluate_instances(truth, read(truth, masks))
    assert found.masks is not None and found.masks["ap"] == found.boxes["ap"] == 1  # type: ignore[index]
    boxes = [one | {"bbox": [5, 20, 20, 15], "segmentation": None} for one in results_of(index())]
    found = evaluate_instances(truth, read(truth, boxes))
    assert found.masks is None and found.boxes is not None
    mixed = [masks[0] | {"bbox": [0, 0, 9, 9]}, boxes[1]]
    assert [set(one) for one in read(truth, mixed, boxes_only=True)] == [
        {"image_id", "category_id", "score", "bbox"}
    ] * 2
