"""The things of a panoptic set as instances."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adapters.rle import encode_mask, to_json
from composer.evaluation.instances import evaluate_instances
from composer.evaluation.panoptic_instances import things_of_panoptic
from sam.errors import BadAnnotation, UsageError

CATEGORIES = [
    {"id": 4, "name": "sky", "isthing": 0},
    {"id": 7, "name": "dog", "isthing": 1},
    {"id": 9, "name": "cat", "isthing": 1},
]


@pytest.fixture
def ids() -> np.ndarray:
    """A dog on the left, a cat on the right, and sky elsewhere; in the second photo, the cat is a crowd."""
    found = np.full((45, 60), 3, np.uint8)
    found[5:25, 5:25], found[5:25, 30:50] = 1, 2
    return found


@pytest.fixture
def folder(tmp_path: Path, ids: np.ndarray) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "panoptic").mkdir()
    photos, annotations = [], []
    for number in (0, 1):
        Image.fromarray(np.stack([ids] * 3, 2) * 50).save(tmp_path / f"images/{number}.png")
        Image.fromarray(np.stack([ids, ids * 0, ids * 0], 2)).save(tmp_path / f"panoptic/{number}.png")
        photos.append({"id": 10 + number, "file_name": f"{number}.png", "height": 45, "width": 60})
        infos = [
            {"id": 1, "category_id": 7, "iscrowd": 0},
            {"id": 2, "category_id": 9, "iscrowd": number},
            {"id": 3, "category_id": 4, "iscrowd": 0},
        ]
        annotations.append({"image_id": 10 + number, "file_name": f"{number}.png", "segments_info": infos})
    write(tmp_path, {"images": photos, "annotations": annotations, "categories": CATEGORIES})
    return tmp_path


def write(folder: Path, index: dict[str, Any]) -> None:
    (folder / "panoptic.json").write_text(json.dumps(index))


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "panoptic.json").read_text())


def test_things_and_no_stuff(folder: Path) -> None:
    truth = things_of_panoptic(folder)
    assert truth.category_ids() == {"dog": 1, "cat": 2} and truth.image_ids == (0, 1)
    assert [(a["category_id"], a["iscrowd"]) for a in truth.coco.anns.values()] == [
        (1, 0),
        (2, 0),
        (1, 0),
        (2, 1),
    ]
    assert {a["area"] for a in truth.coco.anns.values()} == {400} and truth.unmasked is None
    assert truth.coco.anns[1]["bbox"] == [5, 5, 20, 20] and truth.photo(1) == folder / "images/1.png"
    assert things_of_panoptic(folder, 1).image_ids == (0,)


def test_average_precision_with_classes_and_without(folder: Path, ids: np.ndarray) -> None:
    truth = things_of_panoptic(folder)

    def found(photo: int, number: int, category: int) -> dict[str, Any]:
        mask = to_json(encode_mask(ids == number))
        return {"image_id": photo, "category_id": category, "segmentation": mask, "score": 0.5}

    right = [found(0, 1, 1), found(0, 2, 2), found(1, 1, 1)]
    evaluation = evaluate_instances(truth, right)
    assert evaluation.masks is not None and evaluation.masks["ap"] == 1 and not evaluation.class_agnostic
    assert evaluation.masks["ar"] == 1
    misnamed = [one | {"category_id": 1} for one in right]
    of_class = evaluate_instances(truth, misnamed)
    of_any = evaluate_instances(truth, misnamed, class_agnostic=True)
    assert of_class.masks is not None and of_class.masks["ap"] < 0.6
    assert of_any.masks is not None and of_any.masks["ap"] == 1 and of_any.to_json()["class_agnostic"]


def test_a_set_without_categories(folder: Path) -> None:
    index = read(folder)
    del index["categories"]
    write(folder, index)
    truth = things_of_panoptic(folder)
    assert truth.category_ids() == {"object": 1} and len(truth.coco.anns) == 6


def test_nothing_to_evaluate_on(folder: Path) -> None:
    index = read(folder)
    write(folder, index | {"categories": [one | {"isthing": 0} for one in CATEGORIES]})
    with pytest.raises(BadAnnotation, match="no thing among its categories"):
        things_of_panoptic(folder)
    with pytest.raises(UsageError, match="no such folder"):
        things_of_panoptic(folder / "nowhere")
