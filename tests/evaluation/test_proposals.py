"""Average recall: the same as pycocotools' COCOeval, on made sets with crowds and all sizes."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from adapters.base import Scene
from adapters.proposals import Proposals
from adapters.results import Instances
from adapters.rle import RLE, areas, bounding_boxes, encode_mask
from composer import Composer
from composer.evaluation.ground_truth import Segment, open_coco
from composer.evaluation.proposals import (
    COUNTS,
    ProposalEvaluation,
    counts_within,
    evaluate_proposals,
    score_proposals,
)
from sam.errors import BadAnnotation

SIZE = (200, 260)


def rectangles(rng: np.random.Generator, count: int) -> list[RLE]:
    """Masks from a few pixels to half the photo."""
    rles = []
    for _ in range(count):
        side = np.exp(rng.uniform(np.log(6), np.log(190), 2)).astype(int)
        y, x = (int(rng.integers(0, SIZE[i] - min(side[i], SIZE[i] - 1))) for i in (0, 1))
        mask = np.zeros(SIZE, bool)
        mask[y : y + side[0], x : x + side[1]] = True
        rles.append(encode_mask(mask))
    return rles


def moved(rng: np.random.Generator, rles: list[RLE], count: int) -> list[RLE]:
    """Masks that resemble those, more or less."""
    found = []
    for _ in range(count):
        x1, y1, x2, y2 = bounding_boxes([rles[int(rng.integers(len(rles)))]])[0].astype(int)
        shift = (rng.normal(0, 0.12, 4) * [x2 - x1, y2 - y1, x2 - x1, y2 - y1]).astype(int)
        mask = np.zeros(SIZE, bool)
        mask[max(0, y1 + shift[1]) : max(1, y2 + shift[3]), max(0, x1 + shift[0]) : max(1, x2 + shift[2])] = (
            True
        )
        if mask.any():
            found.append(encode_mask(mask))
    return found


def as_text(rle: RLE) -> dict[str, Any]:
    counts = rle["counts"]
    return {"size": list(rle["size"]), "counts": counts.decode() if isinstance(counts, bytes) else counts}


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, dict[str, list[RLE]]]:
    """Six photos: a COCO file with crowds and two categories, and proposals for each photo, best first."""
    rng = np.random.default_rng(3)
    images, annotations, proposals = [], [], {}
    for number in range(6):
        name = f"{number}.png"
        Image.new("RGB", SIZE[::-1]).save(tmp_path / name)
        images.append({"id": number, "file_name": name, "height": SIZE[0], "width": SIZE[1]})
        objects = rectangles(rng, 1 + 3 * number)
        for i, rle in enumerate(objects):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1 + i % 2,
                    "segmentation": as_text(rle),
                    "area": float(areas([rle])[0]),
                    "bbox": [0, 0, 1, 1],
                    "iscrowd": int(i > 0 and rng.random() < 0.2),
                }
            )
        proposals[name] = moved(rng, objects, 130) + objects[:2]
    categories = [{"id": 1, "name": "a", "frequency": "f"}, {"id": 2, "name": "b", "frequency": "r"}]
    path = tmp_path / "coco.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path, proposals


def ours(path: Path, proposals: dict[str, list[RLE]]) -> ProposalEvaluation:
    class Opened:
        def __init__(self, name: str) -> None:
            self.name, self.size = name, SIZE

    def propose(scene: Any) -> Instances:
        rles = proposals[scene.name]
        scores = np.linspace(1, 0, len(rles), dtype=np.float32)
        return Instances(SIZE, tuple(rles), bounding_boxes(rles), scores)

    return evaluate_proposals(lambda p: Opened(p.name), open_coco(path.parent, path), propose=propose)  # type: ignore[arg-type, return-value]


def test_recall_is_that_of_cocoeval(made: tuple[Path, dict[str, list[RLE]]]) -> None:
    path, proposals = made
    found = ours(path, proposals)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        ids = {entry["file_name"]: entry["id"] for entry in truth.dataset["images"]}
        results = [
            {
                "image_id": ids[name],
                "category_id": 1,
                "segmentation": rle,
                "score": float(score),
            }
            for name, rles in proposals.items()
            for rle, score in zip(rles, np.linspace(1, 0, len(rles)), strict=True)
        ]
        reference = COCOeval(truth, truth.loadRes(results), "segm")
        reference.params.useCats = 0
        reference.params.maxDets = list(COUNTS)
        reference.evaluate()
        reference.accumulate()
    recall = reference.eval["recall"]  # thresholds, categories, areas, counts
    for column, count in enumerate(COUNTS):
        for row, size in enumerate(("all", "small", "medium", "large")):
            expected = recall[:, 0, row, column].mean()
            assert found.average_recall(count, size) == pytest.approx(expected, abs=1e-9), (count, size)
    assert 0.1 < (found.average_recall(10) or 0) < (found.average_recall(1000) or 0) < 1


def test_recall_by_frequency_covers_all_objects(made: tuple[Path, dict[str, list[RLE]]]) -> None:
    path, proposals = made
    found = ours(path, proposals)
    groups = found.recall_by_frequency(1000)
    assert groups.keys() == {"frequent", "rare"}
    shares = np.array([f for image in found.images for f in image.frequency])
    mean = sum(groups[name] * (shares == key).sum() for key, name in (("f", "frequent"), ("r", "rare")))
    assert mean / len(shares) == pytest.approx(found.average_recall(1000))
    report = found.to_json()
    assert {
        "ar@10",
        "ar@100",
        "ar@1000",
        "ar@1000_small",
        "ar@1000_rare",
        "images",
        "objects",
    } <= report.keys()
    assert report["objects"] == found.objects == len(shares)


def test_only_what_the_limit_allows_is_reported() -> None:
    assert counts_within(1000) == COUNTS
    assert counts_within(2000) == (*COUNTS, 2000)
    assert counts_within(100) == (10, 100)
    assert counts_within(50) == (10, 50)
    assert counts_within(5) == (5,)


def test_a_crowd_is_neither_found_nor_in_the_way() -> None:
    half, dot = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
    half[:, :130], dot[5:15, 200:210] = True, True
    segments = [Segment(encode_mask(half), 26000, crowd=True), Segment(encode_mask(dot), 100)]
    found = score_proposals("a", [encode_mask(half), encode_mask(dot)], segments)
    assert found.ranks["all"].shape == (10, 1) and (found.ranks["all"] == 1).all()
    assert found.ranks["large"].shape == (10, 0)


def test_no_proposals_find_nothing() -> None:
    dot = np.zeros(SIZE, bool)
    dot[5:15, 200:210] = True
    found = ProposalEvaluation((score_proposals("a", [], Segment.of_masks([encode_mask(dot)])),))
    assert found.average_recall(1000) == 0 and found.average_recall(1000, "large") is None


def test_with_a_model_and_without_objects(
    small_preset: Path, photo: npt.NDArray[np.uint8], tmp_path: Path
) -> None:
    Image.fromarray(photo).save(tmp_path / "a.png")
    composer = Composer.load(small_preset)
    box = {"id": 1, "image_id": 1, "segmentation": [[10, 10, 90, 10, 90, 70, 10, 70]], "iscrowd": 0}

    def listed(annotation: dict[str, Any]) -> Path:
        path = tmp_path / "coco.json"
        images = [{"id": 1, "file_name": "a.png"}]
        path.write_text(json.dumps({"images": images, "annotations": [annotation]}))
        return path

    request = Proposals(limit=20, points_per_side=4)

    def opened(path: Path) -> Scene:
        return composer.open(path)

    found = evaluate_proposals(opened, open_coco(tmp_path, listed(box)), request)
    assert found.objects == 1 and found.images[0].proposals <= 20
    with pytest.raises(BadAnnotation, match="nothing to evaluate"):
        open_coco(tmp_path, listed(box | {"iscrowd": 1}))


def test_lvis_photos_are_found_by_their_address(tmp_path: Path) -> None:
    entry = {"id": 5, "coco_url": "http://images.example.org/val2017/000005.jpg"}
    annotation = {"id": 1, "image_id": 5, "segmentation": [[0, 0, 4, 0, 4, 4]]}
    path = tmp_path / "lvis.json"
    path.write_text(json.dumps({"images": [entry], "annotations": [annotation]}))
    assert open_coco(tmp_path, path).images[0].path == tmp_path / "000005.jpg"
    (tmp_path / "val2017").mkdir()
    assert open_coco(tmp_path, path).images[0].path == tmp_path / "val2017/000005.jpg"
