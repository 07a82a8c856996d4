"""A COCO results file in a detector's place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from composer import Composer, Detect
from composer.recorded_detections import RecordedDetections
from sam.errors import BadAnnotation, UsageError

RESULTS = [
    {"image_id": 7, "category_id": 1, "bbox": [10, 10, 40, 30], "score": 0.9},
    {"image_id": 7, "category_id": 1, "bbox": [11, 10, 40, 30], "score": 0.8},
    {"image_id": 7, "category_id": 2, "bbox": [10, 10, 40, 30], "score": 0.7},
    {"image_id": 7, "category_id": 2, "bbox": [60, 20, 20, 20], "score": 0.1},
    {"image_id": 9, "category_id": 2, "bbox": [0, 0, 5, 5], "score": 0.9},
]
ANNOTATIONS = {
    "images": [
        {"id": 7, "file_name": "val/street_000007.jpg", "height": 60, "width": 90},
        {"id": 9, "file_name": "val/yard.jpg"},
    ],
    "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "person"}],
    "annotations": [],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "results.json").write_text(json.dumps(RESULTS))
    (tmp_path / "annotations.json").write_text(json.dumps(ANNOTATIONS))
    photo = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    for name in ("street_000007.jpg", "yard.jpg", "other.jpg"):
        Image.fromarray(photo).save(tmp_path / name)
    return tmp_path


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer.load("tiny")


def test_boxes_become_named_masks(folder: Path, composer: Composer) -> None:
    request = Detect(detector=f"{folder}/results.json", annotations=f"{folder}/annotations.json")
    found = composer.open(folder / "street_000007.jpg").run(request)
    assert found.labels == ("dog", "person")  # type: ignore[union-attr]
    np.testing.assert_allclose(found.scores, [0.9, 0.7])  # type: ignore[union-attr]


def test_photos_by_number_without_annotations(folder: Path, composer: Composer) -> None:
    detector = RecordedDetections(folder / "results.json")
    scene = composer.open(folder / "street_000007.jpg")
    found = detector.detect(scene, classes=["2"], conf=0, iou=0.7, limit=10)
    assert found.labels == ("2", "2")
    np.testing.assert_allclose(found.boxes, [[10, 10, 50, 40], [60, 20, 80, 40]])
    assert len(detector.detect(scene, classes=None, conf=0, iou=0.7, limit=1)) == 1
    with pytest.raises(BadAnnotation, match=r"which photo is 'yard\.jpg'"):
        detector.detect(composer.open(folder / "yard.jpg"), classes=None, conf=0, iou=0.7, limit=10)


def test_photos_of_one_name_are_not_taken_for_each_other(folder: Path, composer: Composer) -> None:
    images = [{"id": 7, "file_name": "a/yard.jpg"}, {"id": 9, "file_name": "b/yard.jpg"}]
    (folder / "annotations.json").write_text(json.dumps(ANNOTATIONS | {"images": images}))
    detector = RecordedDetections(folder / "results.json", folder / "annotations.json")
    with pytest.raises(BadAnnotation, match=r"has 2 photos named 'yard\.jpg', in different folders"):
        detector.detect(composer.open(folder / "yard.jpg"), classes=None, conf=0, iou=0.7, limit=10)


def test_photos_and_classes_that_the_files_lack(folder: Path, composer: Composer) -> None:
    detector = RecordedDetections(folder / "results.json", folder / "annotations.json")
    with pytest.raises(BadAnnotation, match=r"annotations\.json: has no photo named 'other\.jpg'"):
        detector.detect(composer.open(folder / "other.jpg"), classes=None, conf=0, iou=0.7, limit=10)
    with pytest.raises(UsageError, match="has no class 'cat'; it has dog, person"):
        detector.detect(composer.open(folder / "yard.jpg"), classes=["cat"], conf=0, iou=0.7, limit=10)
    Image.new("RGB", (80, 60)).save(folder / "street_000007.jpg")
    with pytest.raises(BadAnnotation, match="has 90 x 60 pixels, but it has 80 x 60"):
        detector.detect(composer.open(folder / "street_000007.jpg"), classes=None, conf=0, iou=0.7, limit=10)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"image_id": "7"}, "result 0: 'image_id' must be a whole number"),
        ({"image_id": 8}, "image 8 is not in"),
        ({"category_id": 5}, "category 5 is not in"),
        ({"bbox": [1, 2, 3]}, "'bbox' must be"),
        ({"bbox": None}, "'bbox' must be"),
        ({"bbox": [1, 2, -3, 4]}, "negative width"),
        ({"category_id": [1]}, "'category_id' must be a whole number"),
        ({"score": float("nan")}, "'score' must be a number"),
    ],
)
def test_malformed_results(folder: Path, change: dict[str, Any], says: str) -> None:
    (folder / "results.json").write_text(json.dumps([RESULTS[0] | change]))
    with pytest.raises(BadAnnotation, match=says):
        RecordedDetections(folder / "results.json", folder / "annotations.json")


def test_companions(folder: Path, composer: Composer) -> None:
    scene = composer.open(folder / "yard.jpg")
    with pytest.raises(UsageError, match="annotations belong to a COCO results file"):
        scene.run(Detect(detector="yolo11n.pt", annotations="a.json"))
    with pytest.raises(UsageError, match=r"COCO results file .*: name that too"):
        composer.companions.detector(None, trust=False, annotations="a.json")
    with pytest.raises(UsageError, match=r"detectors/yolo11n\.pt: reading a \.pt file runs"):
        scene.run(Detect(detector="yolo11n.pt"))
    first, second = (
        composer.companions.detector(f"{folder}/results.json", trust=False, annotations=None)
        for _ in range(2)
    )
    assert first is second
