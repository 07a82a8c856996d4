"""Detectors of ultralytics, made here with random weights: read, refused, asked, kept in a file of ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from adapters.base import Scene
from adapters.detector import UltralyticsDetector
from sam.errors import CheckpointError, EnvironmentProblem, UsageError

MakeScene = Callable[..., Scene]
ASK: dict[str, Any] = {"classes": None, "conf": 0.0, "iou": 0.7, "limit": 5}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``yolo11n`` as ultralytics saves it."""
    from ultralytics import YOLO

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("detector") / "random.pt"
    model = YOLO("yolo11n.yaml")
    model.model.names = dict(enumerate(["person", "dog", "bus", *(f"thing {i}" for i in range(77))]))
    model.save(str(path))
    return path


@pytest.fixture(scope="module")
def detector(weights: Path) -> UltralyticsDetector:
    return UltralyticsDetector.load(weights, trust=True)


def test_boxes_in_pixels_of_the_image(detector: UltralyticsDetector, make_scene: MakeScene) -> None:
    scene = make_scene(90, 200)
    found = detector.detect(scene, **ASK)
    assert len(found) == 5 and found.boxes.dtype == np.float32
    assert (found.boxes >= 0).all() and (found.boxes[:, [0, 2]] <= 200).all()
    assert (found.boxes[:, [1, 3]] <= 90).all() and (np.diff(found.scores) <= 0).all()
    assert set(found.labels) <= set(detector.names) and len(detector.names) == 80
    # What ultralytics itself gives for the picture, blue first.
    plain = detector._model.predict(
        np.ascontiguousarray(scene.image[..., ::-1]), conf=0.0, iou=0.7, max_det=5, verbose=False, save=False
    )[0]
    np.testing.assert_allclose(found.boxes, plain.boxes.xyxy.numpy(), atol=1e-3)


def test_the_number_of_threads_is_left_alone(weights: Path, make_scene: MakeScene) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        UltralyticsDetector.load(weights, trust=True).detect(make_scene(), **ASK)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_classes_by_name(detector: UltralyticsDetector, make_scene: MakeScene) -> None:
    scene = make_scene(90, 200)
    one = detector.detect(scene, **ASK).labels[0]
    found = detector.detect(scene, **ASK | {"classes": [one]})
    assert len(found) and set(found.labels) == {one}
    with pytest.raises(UsageError, match=r"no class 'persn'; did you mean 'person'\? it knows per") as caught:
        detector.detect(make_scene(), **ASK | {"classes": ["persn"]})
    assert caught.value.code == "class_unknown"


def test_a_pickle_needs_trust(weights: Path) -> None:
    with pytest.raises(UsageError, match="runs whatever code its author put into it") as caught:
        UltralyticsDetector.load(weights, trust=False)
    assert caught.value.code == "detector_untrusted"


@pytest.mark.parametrize("name", ["yolo11n", "./yolo11n", "x.pt ", "weights.bin", "x.engine"])
def test_whatever_may_be_a_pickle_needs_trust(name: str) -> None:
    with pytest.raises(UsageError, match="runs whatever code its author put into it") as caught:
        UltralyticsDetector.load(Path(name), trust=False)
    assert caught.value.code == "detector_untrusted"


@pytest.mark.parametrize("trust", [False, True])
def test_an_architecture_is_never_read(tmp_path: Path, trust: bool) -> None:
    path, trace = tmp_path / "evil.yaml", tmp_path / "trace"
    path.write_text(
        f"activation: __import__('pathlib').Path({str(trace)!r}).touch()\nbackbone: []\nhead: []\n"
    )
    with pytest.raises(UsageError, match="an architecture, which has no weights"):
        UltralyticsDetector.load(path, trust=trust)
    assert not trace.exists()


def test_an_open_vocabulary_forgets_what_was_asked_before(
    detector: UltralyticsDetector, make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    class Open:
        names: ClassVar = {0: "person", 1: "dog"}
        set_classes = staticmethod(asked.append)
        predict = detector._model.predict

    own = UltralyticsDetector(Open(), "open")
    own.detect(make_scene(90, 200), **ASK | {"classes": ["a red car"]})
    own.detect(make_scene(90, 200), **ASK)
    assert asked == [["a red car"], ["person", "dog"]] and own.names == ("person", "dog")

    def without_clip(names: list[str]) -> None:
        raise ModuleNotFoundError("No module named 'clip'", name="clip")

    monkeypatch.setattr(Open, "set_classes", staticmethod(without_clip))
    with pytest.raises(EnvironmentProblem, match=r"pip install git\+https://github\.com/ultralytics/CLIP"):
        own.detect(make_scene(90, 200), **ASK | {"classes": ["cat"]})


def test_a_description_in_the_working_folder_is_not_read(
    detector: UltralyticsDetector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector.save(tmp_path / "ours.safetensors", image_size=64)
    trace = tmp_path / "trace"
    (tmp_path / "yolo11n.yaml").write_text(f"activation: open({str(trace)!r}, 'w')\nbackbone: []\nhead: []\n")
    monkeypatch.chdir(tmp_path)
    assert UltralyticsDetector.load(Path("ours.safetensors"), trust=False).names == detector.names
    assert not trace.exists()


def test_a_file_of_ours_gives_the_same_without_trust(
    detector: UltralyticsDetector, make_scene: MakeScene, tmp_path: Path
) -> None:
    path = tmp_path / "ours.safetensors"
    detector.save(path, image_size=640)
    again = UltralyticsDetector.load(path, trust=False)
    assert again.names == detector.names
    scene = make_scene(90, 200)
    first, second = (one.detect(scene, **ASK) for one in (detector, again))
    # Half precision: the order of noise may change, its scores do not.
    np.testing.assert_allclose(second.scores, first.scores, rtol=0.05)


@pytest.mark.parametrize(
    ("about", "says"),
    [
        ({}, "its metadata lacks architecture, names, image_size"),
        (
            {"architecture": "/tmp/evil.pt", "names": "[]", "image_size": "64"},
            "not the name of an",
        ),
        ({"architecture": "yolo11n.yaml", "names": '["a"]', "image_size": "64"}, "other.safetensors"),
        (
            {"architecture": "yolo11n.yaml", "names": '["a"]', "image_size": "big"},
            "metadata of this detector is d",
        ),
        (
            {"architecture": "yolo11n.yaml", "names": "[]", "image_size": "64"},
            "metadata of this detector is damaged",
        ),
        (
            {"architecture": "yolo11n.yaml", "names": "{", "image_size": "64"},
            "metadata of this detector is damaged",
        ),
        (
            {"architecture": "nosuch.yaml", "names": '["a"]', "image_size": "64"},
            "has no architecture 'nosuch.yaml'",
        ),
    ],
)
def test_files_that_are_no_detector_of_ours(tmp_path: Path, about: dict[str, str], says: str) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(1)}, path, metadata=about)
    with pytest.raises(CheckpointError, match=says):
        UltralyticsDetector.load(path, trust=False)


def test_files_that_are_no_detector(tmp_path: Path) -> None:
    text = tmp_path / "text.pt"
    text.write_text("not weights")
    with pytest.raises(CheckpointError, match="not a detector that ultralytics can read") as caught:
        UltralyticsDetector.load(text, trust=True)
    assert caught.value.code == "detector_invalid"
    other = tmp_path / "sam.pt"
    torch.save({"weight": torch.zeros(2)}, other)
    with pytest.raises(CheckpointError, match=r"sam\.pt: not a detector"):
        UltralyticsDetector.load(other, trust=True)


def test_a_classifier_is_no_detector(tmp_path: Path) -> None:
    from ultralytics import YOLO

    path = tmp_path / "classifier.pt"
    YOLO("yolo11n-cls.yaml").save(str(path))
    with pytest.raises(CheckpointError, match="model for 'classify'; a detector is for one of detect"):
        UltralyticsDetector.load(path, trust=True)


def test_names_are_kept_as_text(detector: UltralyticsDetector, tmp_path: Path) -> None:
    from safetensors import safe_open

    path = tmp_path / "ours.safetensors"
    detector.save(path, image_size=416, metadata={"steps": "3"})
    with safe_open(path, "pt") as file:
        about = file.metadata()
    assert json.loads(about["names"])[0] == "person"
    assert about["architecture"] == "yolo11n.yaml" and about["image_size"] == "416" and about["steps"] == "3"
