"""Detections become labelled instances; what a detector may not do is one clear error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from adapters.base import Defaults, Scene
from adapters.boxes import Boxes, BoxesAdapter
from adapters.detect import Detect, DetectAdapter
from adapters.detections import Detections
from sam.errors import BadPrompt, UsageError

MakeScene = Callable[..., Scene]
FOUND = Detections(
    np.array([[5, 5, 30, 30], [-4, 10, 70, 39], [50, 50, 60, 60], [10, 10, 10.5, 30]], np.float32),
    np.array([0.5, 0.9, 0.8, 0.7], np.float32),
    ("dog", "person", "outside", "sliver"),
)


class FixedDetector:
    """Finds the same in every image, and remembers what it was asked."""

    def __init__(self, found: Detections) -> None:
        self.found, self.asked = found, {}

    def detector(self, name: str | None, *, trust: bool, annotations: str | None) -> FixedDetector:
        self.asked |= {"name": name, "trust": trust, "annotations": annotations}
        return self

    def detect(
        self, scene: Scene, *, classes: Sequence[str] | None, conf: float, iou: float, limit: int
    ) -> Detections:
        self.asked |= {"classes": classes, "conf": conf, "iou": iou, "limit": limit}
        return self.found


def with_detector(scene: Scene, found: Detections = FOUND) -> tuple[Scene, FixedDetector]:
    detector = FixedDetector(found)
    scene.companions = detector
    return scene, detector


def test_each_detection_is_an_instance_with_its_name(make_scene: MakeScene) -> None:
    scene, _ = with_detector(make_scene(40, 60))
    found = DetectAdapter()(scene, Detect())
    # Clipped to the image: one lies outside, one has no width. The rest by score.
    assert found.labels == ("person", "dog")
    np.testing.assert_allclose(found.scores, [0.9, 0.5])
    np.testing.assert_allclose(found.detector_score, [0.9, 0.5])
    assert found.score_kind == "detector_score"
    expected = BoxesAdapter()(scene, Boxes([[0, 10, 60, 39], [5, 5, 30, 30]], refine=1))
    assert found.rles == expected.rles
    np.testing.assert_allclose(found.predicted_iou, expected.predicted_iou)


def test_small_detections_in_windows_of_their_own(make_scene: MakeScene) -> None:
    small = Detections(
        np.array([[5, 5, 15, 15], [0, 0, 60, 39]], np.float32),
        np.array([0.5, 0.9], np.float32),
        ("dog", "sea"),
    )
    scene, _ = with_detector(make_scene(40, 60), small)
    found = DetectAdapter()(scene, Detect(zoom=2))
    expected = BoxesAdapter()(scene, Boxes([[0, 0, 60, 39], [5, 5, 15, 15]], refine=1, zoom=2))
    assert found.labels == ("sea", "dog") and found.rles == expected.rles
    assert found.rles != DetectAdapter()(scene, Detect()).rles


def test_from_which_score_a_detector_counts(make_scene: MakeScene) -> None:
    scene, detector = with_detector(make_scene(40, 60))
    asked = []
    for own in (Defaults.detector_conf, 0.1):
        scene.defaults = replace(scene.defaults, detector_conf=own)
        for request in (Detect(), Detect(detector="other.pt"), Detect(conf=0.4)):
            DetectAdapter()(scene, request)
            asked.append(detector.asked["conf"])
    # The preset's word is for its own detector, and a request's own goes before it.
    assert asked == [0.25, 0.25, 0.4, 0.1, 0.25, 0.4]


def test_the_request_reaches_the_detector(make_scene: MakeScene) -> None:
    scene, detector = with_detector(make_scene())
    request = Detect([" dog", "person", "dog"], 0.4, 0.6, "my.pt", True, "ann.json", 0, 7)
    found = DetectAdapter()(scene, request)
    assert detector.asked == {
        "name": "my.pt", "trust": True, "annotations": "ann.json",
        "classes": ("dog", "person"), "conf": 0.4, "iou": 0.6, "limit": 7,
    }  # fmt: skip
    unrefined = BoxesAdapter()(scene, Boxes([[0, 10, 60, 39], [5, 5, 30, 30]]))
    assert found.rles == unrefined.rles


def test_nothing_found_is_an_empty_answer(make_scene: MakeScene) -> None:
    nothing = Detections(np.zeros((0, 4)), np.zeros(0), ())
    scene, _ = with_detector(make_scene(), nothing)
    found = DetectAdapter()(scene, Detect())
    assert len(found) == 0 and found.score_kind == "detector_score"


def test_a_window_asks_the_same_companions(make_scene: MakeScene) -> None:
    scene, detector = with_detector(make_scene())
    assert scene.crop((0, 0, 20, 20)).companions is detector


def test_a_scene_without_companions_says_so(make_scene: MakeScene) -> None:
    with pytest.raises(UsageError, match="has no detector"):
        DetectAdapter()(make_scene(), Detect())


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"classes": "person"}, "must be names"),
        ({"classes": ["person", 3]}, "must be names"),
        ({"classes": 7}, "must be names"),
        ({"classes": []}, "0 classes"),
        ({"classes": ["  "]}, "has 0 characters"),
        ({"classes": ["x" * 10_000]}, "has 10000 characters"),
        ({"conf": 1.5}, "conf must be a number from 0 to 1"),
        ({"iou": "high"}, "iou must be"),
        ({"trust": "yes"}, "trust must be true or false"),
        ({"refine": -1}, "refine"),
        ({"limit": 0}, "limit"),
    ],
)
def test_bad_fields(fields: dict[str, object], says: str) -> None:
    with pytest.raises(BadPrompt, match=says):
        Detect(**fields)  # type: ignore[arg-type]


def test_detections_of_different_lengths() -> None:
    with pytest.raises(ValueError, match="1 boxes, 2 scores, 1 labels"):
        Detections(np.zeros((1, 4)), np.zeros(2), ("a",))
