"""`eval text`: what is asked, how answers count, and the whole over a small set."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adapters.results import Instances
from adapters.rle import bounding_boxes, encode_mask
from adapters.text import Text
from adapters.text_routes.naming import Named
from adapters.text_routes.vocabulary import Vocabulary
from composer import Composer
from composer.category_names import spoken_name
from composer.evaluation.ground_truth import GroundTruth, Segment, open_coco, open_panoptic
from composer.evaluation.text import Question, TextProtocol, available_routes, evaluate_text, sweep
from composer.evaluation.text_phrases import phrases_about, vocabulary_of
from composer.evaluation.text_report import save_text_plot, text_table
from composer.evaluation.text_scores import Asked, TextScores, score_answer
from sam.errors import BadAnnotation

Masks = np.ndarray
CATEGORIES = [
    {"id": 1, "name": "person", "isthing": 1},
    {"id": 2, "name": "wall-other-merged", "isthing": 0},
    {"id": 3, "name": "Dining_Table", "isthing": 1},
    {"id": 4, "name": "zebra", "isthing": 1},
]


@pytest.fixture
def panoptic(tmp_path: Path, images: Path, segments: Masks) -> Path:
    """Two photos; the disc is a person, the box a wall, the ring a crowd of tables in the second photo."""
    (tmp_path / "panoptic").mkdir()
    ids = np.zeros((*segments.shape[1:], 3), np.uint8)
    for number, mask in enumerate(segments, 1):
        ids[mask, 0] = number
    annotations = []
    for image_id, name in enumerate(("a", "b"), 1):
        Image.fromarray(ids).save(tmp_path / f"panoptic/{name}.png")
        info = [
            {"id": 1, "category_id": 1, "iscrowd": 0},
            {"id": 2, "category_id": 2, "iscrowd": 0},
            {"id": 3, "category_id": 3, "iscrowd": image_id - 1},
        ]
        annotations.append({"image_id": image_id, "file_name": f"{name}.png", "segments_info": info})
    index = {
        "images": [{"id": i, "file_name": f"{n}.png"} for i, n in ((1, "a"), (2, "b"))],
        "annotations": annotations,
        "categories": CATEGORIES,
    }
    (tmp_path / "panoptic.json").write_text(json.dumps(index))
    return tmp_path


def of_masks(*masks: Masks) -> Instances:
    rles = tuple(encode_mask(mask) for mask in masks)
    size = masks[0].shape
    return Instances(size, rles, bounding_boxes(rles), np.ones(len(masks), np.float32))


def test_names_as_a_person_would_say_them() -> None:
    names = [
        "wall-other-merged",
        "door-stuff",
        "Dining_Table",
        " hot dog",
        "window-blind",
        "food-other-merged",
        "Granny Smith",
        "-other",
    ]
    assert [spoken_name(name) for name in names] == [
        "wall", "door", "dining table", "hot dog", "window blind", "food", "granny smith", "",
    ]  # fmt: skip


def test_categories_come_with_the_segments(panoptic: Path, tmp_path: Path, segments: Masks) -> None:
    truth = open_panoptic(panoptic)
    assert truth.categories == {
        "person": True, "wall-other-merged": False, "Dining_Table": True, "zebra": True
    }  # fmt: skip
    found = truth.images[1].read_segments((48, 64))
    assert [s.category for s in found] == ["person", "wall-other-merged", "Dining_Table"]
    assert [s.crowd for s in found] == [False, False, True]
    about = {
        "images": [{"id": 7, "file_name": "a.png"}],
        "categories": [{"id": 5, "name": "cat"}, {"id": 6, "name": "sky", "isthing": 0}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 5, "segmentation": [[0, 0, 9, 0, 9, 9]], "iscrowd": 0}
        ],
    }
    (tmp_path / "coco.json").write_text(json.dumps(about))
    coco = open_coco(tmp_path / "images", tmp_path / "coco.json")
    assert coco.categories == {"cat": True, "sky": False}
    assert coco.images[0].read_segments((48, 64))[0].category == "cat"


def test_what_is_asked_about_a_photo(panoptic: Path) -> None:
    truth = open_panoptic(panoptic)
    vocabulary = vocabulary_of(truth, False)
    first, second = (image.read_segments((48, 64)) for image in truth)
    asked = phrases_about(first, vocabulary, 5, random.Random(0))
    assert {phrase: len(some) for phrase, some in asked.items()} == {
        "person": 1, "wall": 1, "dining table": 1, "zebra": 0
    }  # fmt: skip
    # A crowd alone is neither there nor absent.
    assert set(phrases_about(second, vocabulary, 5, random.Random(0))) == {"person", "wall", "zebra"}
    things = vocabulary_of(truth, True)
    assert set(phrases_about(first, things, 0, random.Random(0))) == {"person", "dining table"}
    unnamed = GroundTruth("set", truth.images)
    with pytest.raises(BadAnnotation, match="names no categories"):
        vocabulary_of(unnamed, False)


def test_answers_are_scored_by_their_union(segments: Masks) -> None:
    disc, box, ring = segments
    truth = [Segment(encode_mask(disc), 0), Segment(encode_mask(box), 0)]
    whole = score_answer("x", of_masks(disc | box), truth)
    assert whole.iou == 1 and whole.segments == 2 and whole.answered
    assert whole.matched == int(max(disc.sum(), box.sum()) / (disc | box).sum() >= 0.5)
    each = score_answer("x", of_masks(disc, box, disc), truth)
    assert (each.iou, each.matched) == (1, 2)
    half = score_answer("x", of_masks(disc, ring), truth)
    assert half.iou == pytest.approx(disc.sum() / (disc | box | ring).sum()) and half.matched == 1
    nothing = score_answer("x", Instances.empty(disc.shape), truth)
    assert (nothing.iou, nothing.matched, nothing.answered) == (0, 0, False)
    absent = score_answer("x", of_masks(disc), [])
    assert not absent.present and absent.answered


def test_what_lies_in_a_crowd_counts_neither_way(segments: Masks) -> None:
    disc, _, ring = segments
    truth = [Segment(encode_mask(disc), 0), Segment(encode_mask(ring), 0, crowd=True)]
    assert score_answer("x", of_masks(disc, ring), truth).iou == 1
    assert score_answer("x", of_masks(disc), truth).iou == 1


def test_the_three_figures() -> None:
    asked = [
        Asked("a", True, 0.8, 1, 2, True), Asked("b", True, 0.0, 0, 1, False),
        Asked("c", False, 0, 0, 0, True), Asked("d", False, 0, 0, 0, False),
    ]  # fmt: skip
    scores = TextScores.of(asked)
    assert scores.to_json() == {
        "present_miou": 0.4, "instance_recall": round(1 / 3, 6), "false_alarm_rate": 0.5
    }  # fmt: skip
    assert scores.balance == pytest.approx(2 * 0.4 * 0.5 / 0.9)
    assert TextScores.of(asked[:1]).false_alarm_rate is None
    assert TextScores.of([]).balance == 0 and TextScores.of(asked[2:]).present_miou is None


class Words:
    """A text-image model for which all phrases are alike."""

    scale, bias, name = 10.0, None, "words"

    def encode_phrases(self, phrases: list[str]) -> torch.Tensor:
        return torch.eye(2)[[0] * len(phrases)]


def test_thresholds_are_compared_by_the_rule_of_the_run(segments: Masks) -> None:
    disc, box, _ = segments
    words = Vocabulary.of(Words(), ["person"])  # type: ignore[arg-type]
    truth = [Segment(encode_mask(disc), 0)]

    def scored(mask: Masks, score: float, known: bool = False) -> Named:
        return Named(of_masks(mask), np.array([[score]], np.float32), np.array([[known]]))

    # Where nothing passes though something is close, there is a second look, at what fits better.
    looked_twice = Question("person", truth, words, scored(box, 0.3), scored(disc, 0.8))
    request = Text("anything")
    assert looked_twice.at(0.2, request).iou < 1 and looked_twice.at(0.5, request).iou == 1
    assert looked_twice.at(0.7, request).answered is False  # too far off to look again
    # What a detector knows needs no threshold, but for one that the request names.
    known = Question("person", truth, words, scored(disc, 0.3, True))
    assert known.at(0.9, request).iou == 1
    assert known.at(0.9, Text("anything", threshold=0.4)).answered is False
    found = sweep([looked_twice, known], 0.45, request)
    assert list(found) == sorted(found) and min(found) == pytest.approx(0.3)
    assert found[float(np.float32(0.45))].present_miou == 1


def test_a_set_from_end_to_end(
    panoptic: Path, small_preset: Path, clip_folders: dict[str, Path], tmp_path: Path
) -> None:
    composer = Composer.load(small_preset, device="cpu")
    request = Text("anything", clip=str(clip_folders["softmax"]))
    truth = open_panoptic(panoptic)
    routes = available_routes(composer.open(truth.images[0].path), request)
    assert routes == ("auto", "rank", "points")
    encoded = []
    encode = composer.model.encode
    composer.model.encode = lambda images: (encoded.append(1), encode(images))[1]  # type: ignore[method-assign]
    protocol = TextProtocol(request, routes, baselines=True, absent=1, seed=1)
    found = evaluate_text(composer.open, truth, protocol)
    assert len(encoded) <= len(truth)
    report = found.to_json()
    assert set(report["routes"]) == {"auto", "rank", "points", "fastsam", "largest"}
    assert report["route"] == "auto" and report["images"] == 2 and report["questions"] == 7
    for name in ("fastsam", "largest"):
        assert report["routes"][name]["false_alarm_rate"] == 1  # they always answer
    assert report["present_miou"] == report["routes"]["auto"]["present_miou"]
    assert report["phrases"]["zebra"]["present"] == 0 and report["phrases"]["zebra"]["absent"] == 2
    levels = [row["threshold"] for row in report["thresholds"]]
    assert levels == sorted(levels) and levels
    alarms = [row["false_alarm_rate"] for row in report["thresholds"]]
    assert alarms == sorted(alarms, reverse=True)
    assert found.best_threshold in found.sweep
    used = float(np.float32(found.threshold))
    assert found.sweep[used] == TextScores.of(found.routes["auto"]), "the curve passes through the run"
    again = evaluate_text(composer.open, truth, protocol)
    assert again.to_json() == report
    save_text_plot(tmp_path / "text.png", found, "text")
    assert (tmp_path / "text.png").read_bytes().startswith(b"\x89PNG")
    assert text_table(found, "text").row_count == 5
