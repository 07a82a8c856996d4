"""YOLO-seg and LabelMe files, read back by ultralytics' and supervision's own readers."""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import supervision as sv
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from adapters.polygons import Polygon, mask_to_polygons
from adapters.results import Instances
from adapters.rle import encode_mask
from composer.formats.base import Outcome
from composer.formats.labelme import LabelMeWriter
from composer.formats.supervision import to_detections
from composer.formats.yolo import YoloWriter, join
from composer.images import open_image
from composer.windows import outlines
from sam.errors import UsageError


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def filled(ring: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    canvas = np.zeros(size, np.uint8)
    cv2.fillPoly(canvas, [ring.round().astype(np.int32)], 1)
    return canvas.astype(bool)


# YOLO


@pytest.fixture
def dataset(tmp_path: Path, make_outcome: Callable, make_instances: Callable) -> tuple[Path, Outcome]:
    writer = YoloWriter()
    outcome = make_outcome(make_instances())
    written = writer.write("photo", outcome, tmp_path)
    writer.write("nothing", make_outcome(Instances.empty((60, 90))), tmp_path)
    assert writer.finish(tmp_path) == [tmp_path / "yolo" / "data.yaml"]
    assert sorted(path.relative_to(tmp_path).as_posix() for path in written) == [
        "yolo/data.yaml",
        "yolo/images/photo.jpg",
        "yolo/labels/photo.txt",
    ]
    return tmp_path / "yolo", outcome


def check_masks(found: np.ndarray, outcome: Outcome) -> None:
    """Exact where the mask is one piece without holes; else a slit may add a line of pixels."""
    for i, (got, expected) in enumerate(zip(found.astype(bool), outcome.instances.masks, strict=True)):
        if i in (1, 2, 3):
            assert not (expected & ~got).any(), i
            assert (got & ~expected).sum() < 36, i  # the two discs are 38 px apart
        else:
            np.testing.assert_array_equal(got, expected, err_msg=str(i))


def test_supervision_reads_yolo(dataset: tuple[Path, Outcome]) -> None:
    root, outcome = dataset
    read = sv.DetectionDataset.from_yolo(
        str(root / "images"), str(root / "labels"), str(root / "data.yaml"), force_masks=True
    )
    assert read.classes == ["dog", "red car", "object"]
    found = {Path(path).stem: detections for path, _, detections in read}
    check_masks(found["photo"].mask, outcome)
    names = [read.classes[i] for i in found["photo"].class_id]
    assert names == [label or "object" for label in outcome.instances.labels]
    assert len(found["nothing"]) == 0


def test_ultralytics_reads_yolo(dataset: tuple[Path, Outcome]) -> None:
    from ultralytics.data.utils import check_det_dataset, polygon2mask, verify_image_label

    root, outcome = dataset
    data = check_det_dataset(str(root / "data.yaml"), autodownload=False)
    assert data["names"] == {0: "dog", 1: "red car", 2: "object"}
    assert Path(data["train"]) == root / "images"
    arguments = (str(root / "images/photo.jpg"), str(root / "labels/photo.txt"), "", False, 3, 0, 0, False)
    _, labels, shape, segments, _, missing, found, empty, corrupt, message = verify_image_label(arguments)
    assert (missing, found, empty, corrupt, message) == (0, 1, 0, 0, "")
    assert tuple(shape) == (60, 90)
    assert labels[:, 0].astype(int).tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    masks = np.stack([polygon2mask((60, 90), [(s * (90, 60)).ravel()]) for s in segments])
    check_masks(masks, outcome)


def test_the_photo_lies_beside_its_label_upright(tmp_path: Path, make_instances: Callable) -> None:
    stored = np.zeros((90, 60, 3), np.uint8)
    stored[:45] = 255
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    path = tmp_path / "turned.jpg"
    Image.fromarray(stored).save(path, exif=exif, quality=100)
    outcome = Outcome(open_image(path), ())
    YoloWriter().write("turned", outcome, tmp_path / "out")
    with Image.open(tmp_path / "out/yolo/images/turned.jpg") as picture:
        assert picture.size == (90, 60)
        assert not dict(picture.getexif())
        assert abs(np.asarray(picture).astype(int) - outcome.image.pixels).max() < 8
    assert (tmp_path / "out/yolo/labels/turned.txt").read_bytes() == b""


def test_classes_go_on_from_an_earlier_run(
    tmp_path: Path, make_outcome: Callable, make_instances: Callable
) -> None:
    YoloWriter().write("a", make_outcome(make_instances(labels=["dog"] * 8)), tmp_path)
    YoloWriter().write("b", make_outcome(make_instances(labels=["cat", "dog"] * 4)), tmp_path)
    data = yaml.safe_load((tmp_path / "yolo/data.yaml").read_text())
    assert data["names"] == {0: "dog", 1: "cat"}
    classes = [line.split()[0] for line in (tmp_path / "yolo/labels/b.txt").read_text().splitlines()]
    assert classes == ["1", "0"] * 4


@pytest.mark.parametrize("text", ["names: [a, b]\n", "names: {1: a}\n", "names: dog\n"])
def test_a_data_yaml_of_someone_else_is_left_alone(tmp_path: Path, make_outcome: Callable, text: str) -> None:
    path = tmp_path / "yolo" / "data.yaml"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(UsageError, match=r"data\.yaml:1: names: expected 0, 1, 2"):
        YoloWriter().write("a", make_outcome(), tmp_path)
    assert path.read_text() == text


def test_labels_that_yaml_would_misread(
    tmp_path: Path, make_outcome: Callable, make_instances: Callable
) -> None:
    labels = ["no", "1", "a: b", "naïve", "'", "- x", "null", "#"]
    YoloWriter().write("a", make_outcome(make_instances(labels=labels)), tmp_path)
    YoloWriter().finish(tmp_path)
    names = yaml.safe_load((tmp_path / "yolo/data.yaml").read_text(encoding="utf-8"))["names"]
    assert list(names.values()) == labels


@given(st.integers(0, 2**31), st.integers(4, 40), st.integers(4, 40))
def test_any_mask_joined_to_one_outline_keeps_its_pixels(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    coarse = rng.random((height // 4 + 1, width // 4 + 1)) < 0.5
    mask = np.kron(coarse, np.ones((4, 4), bool))[:height, :width]
    polygons = mask_to_polygons(mask)
    if not polygons:
        assert not mask.any()
        return
    got = filled(join(polygons), (height, width))
    assert not (mask & ~got).any()


def plainly_joined(polygons: list[Polygon]) -> Polygon:
    ring = polygons[0]
    for polygon in polygons[1:]:
        squared = ((polygon[:, None] - ring[None]) ** 2).sum(-1)
        there, here = divmod(int(squared.argmin()), len(ring))
        turned = np.roll(polygon, -there, axis=0)
        ring = np.concatenate([ring[: here + 1], turned, turned[:1], ring[here:]])
    return ring


@given(st.integers(0, 2**31), st.integers(1, 60), st.integers(1, 60), st.sampled_from([0.1, 0.5, 0.8]))
def test_outlines_are_those_of_the_whole_image_and_joined_at_the_nearest_vertices(
    seed: int, height: int, width: int, share: float
) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    mask[: height // 4] = False  # the window is smaller than the image
    polygons = mask_to_polygons(mask)
    found = outlines(encode_mask(mask))
    assert [polygon.tolist() for polygon in found] == [polygon.tolist() for polygon in polygons]
    if polygons:
        np.testing.assert_array_equal(join(polygons), plainly_joined(polygons))


def test_equally_near_parts_are_joined_at_the_first_vertices() -> None:
    mask = np.zeros((40, 60), bool)
    mask[2::4, 2::4] = True
    mask[4:20, 9:31] = True
    polygons = mask_to_polygons(mask)
    np.testing.assert_array_equal(join(polygons), plainly_joined(polygons))


# LabelMe


def test_supervision_reads_labelme(tmp_path: Path, make_outcome: Callable) -> None:
    outcome = make_outcome()
    (path,) = LabelMeWriter().write("photo", outcome, tmp_path)
    assert path == tmp_path / "labelme" / "photo.json"
    Image.fromarray(outcome.image.pixels).save(tmp_path / "photo.png")
    read = sv.DetectionDataset.from_labelme(str(tmp_path), str(path.parent))
    ((_, _, detections),) = list(read)
    assert detections.mask.shape == (8, 60, 90)
    for got, expected in zip(detections.mask, outcome.instances.masks, strict=True):
        assert iou(got, expected) > 0.93
    names = [read.classes[i] for i in detections.class_id]
    assert names == [label or "object" for label in outcome.instances.labels]


def check_labelme_layout(content: dict[str, Any]) -> None:
    """What LabelMe 5's own ``LabelFile.load`` asks of a file."""
    assert set(content) == {
        "version",
        "flags",
        "shapes",
        "imagePath",
        "imageData",
        "imageHeight",
        "imageWidth",
    }
    for shape in content["shapes"]:
        assert set(shape) == {"label", "points", "group_id", "description", "shape_type", "flags"}
        assert isinstance(shape["label"], str)
        assert shape["shape_type"] == "polygon"
        assert len(shape["points"]) >= 3
        assert all(len(point) == 2 for point in shape["points"])
        assert shape["group_id"] is None or isinstance(shape["group_id"], int)


def test_layout_groups_and_simple_outlines(tmp_path: Path, make_outcome: Callable) -> None:
    (path,) = LabelMeWriter().write("photo", make_outcome(), tmp_path)
    content = json.loads(path.read_text())
    check_labelme_layout(content)
    assert (content["imageHeight"], content["imageWidth"]) == (60, 90)
    groups = [shape["group_id"] for shape in content["shapes"]]
    assert groups == [None, None, 2, 2, 3, 3, None, None, None, None]
    assert len(content["shapes"][0]["points"]) < 30
    assert content["shapes"][0]["description"] == "predicted_iou 0.950"


def test_the_photo_is_found_from_the_file(tmp_path: Path, make_outcome: Callable) -> None:
    made = make_outcome()
    photo = tmp_path / "photos" / "a.png"
    photo.parent.mkdir()
    Image.fromarray(made.image.pixels).save(photo)
    outcome = Outcome(open_image(photo), made.answers)
    (path,) = LabelMeWriter().write("a", outcome, tmp_path / "out")
    content = json.loads(path.read_text())
    assert content["imageData"] is None
    assert os.path.samefile(path.parent / content["imagePath"], photo)


def test_an_upload_carries_its_pixels(tmp_path: Path, make_outcome: Callable) -> None:
    outcome = make_outcome(file_name=None)
    (path,) = LabelMeWriter().write("a", outcome, tmp_path)
    content = json.loads(path.read_text())
    assert content["imagePath"] == "a.jpg"
    with Image.open(io.BytesIO(base64.b64decode(content["imageData"]))) as picture:
        assert picture.size == (90, 60)


# supervision


def test_detections_of_several_answers(
    make_outcome: Callable, make_instances: Callable, make_edges: Callable
) -> None:
    first, second = make_instances(labels=["b"] * 8), make_instances(labels=["a"] * 8)
    detections = to_detections(make_outcome(first, make_edges(), second.replace(score_kind="text_score")))
    assert detections.data["answer"].tolist() == [0] * 8 + [2] * 8
    assert detections.data["class_name"].tolist() == ["b"] * 8 + ["a"] * 8
    assert detections.class_id.tolist() == [1] * 8 + [0] * 8
    np.testing.assert_array_equal(detections.mask, np.concatenate([first.masks, second.masks]))
    assert len(to_detections(make_outcome(make_edges()))) == 0
