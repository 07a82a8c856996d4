"""COCO datasets and SA-1B files, read back by pycocotools."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from adapters.results import Instances
from composer.formats.base import Outcome
from composer.formats.coco import CocoWriter
from composer.formats.sa1b import Sa1bWriter
from composer.images import open_image
from sam.errors import EnvironmentProblem


def write(folder: Path, *outcomes: Outcome) -> Path:
    writer = CocoWriter()
    for i, outcome in enumerate(outcomes):
        assert writer.write(f"photo{i}", outcome, folder) == []
    (path,) = writer.finish(folder)
    assert os.listdir(path.parent) == ["instances.json"]
    return path


def test_pycocotools_reads_every_mask_back(
    tmp_path: Path, make_outcome: Callable, make_instances: Callable
) -> None:
    second = make_instances(labels=["cat", "dog", "cat", "dog", None, None, None, "zebra"])
    outcomes = [make_outcome(file_name="a.jpg"), make_outcome(second, file_name="b.jpg")]
    coco = COCO(str(write(tmp_path, *outcomes)))
    assert [coco.imgs[i]["file_name"] for i in sorted(coco.imgs)] == ["a.jpg", "b.jpg"]
    names = {c["id"]: c["name"] for c in coco.cats.values()}
    assert list(names.values()) == ["dog", "red car", "object", "cat", "zebra"]
    for image_id, outcome in zip(sorted(coco.imgs), outcomes, strict=True):
        found = coco.loadAnns(sorted(coco.getAnnIds(imgIds=image_id)))
        instances = outcome.instances
        assert len(found) == len(instances) == 8
        for annotation, instance in zip(found, instances, strict=True):
            np.testing.assert_array_equal(coco.annToMask(annotation).astype(bool), instance.mask)
            assert names[annotation["category_id"]] == (instance.label or "object")
            assert annotation["area"] == instance.area
            assert annotation["score"] == instance.score
            x, y, w, h = annotation["bbox"]
            np.testing.assert_array_equal([x, y, x + w, y + h], instance.box)
    assert sorted(coco.anns) == list(range(1, 17))


def test_a_later_run_keeps_the_images_that_it_does_not_have(
    tmp_path: Path, make_outcome: Callable, make_instances: Callable
) -> None:
    dogs, cats, birds = (make_instances(labels=[name] * 8) for name in ("dog", "cat", "bird"))
    empty = Instances.empty(dogs.image_size)
    first = [make_outcome(dogs, file_name="a.jpg"), make_outcome(cats, file_name="b.jpg")]
    write(tmp_path, *first, make_outcome(empty, file_name="c.jpg"))
    again = [make_outcome(birds, file_name="a.jpg"), make_outcome(cats, file_name="d.jpg")]
    write(tmp_path, *again)
    coco = COCO(str(write(tmp_path, make_outcome(cats, file_name="e.jpg"))))
    assert [coco.imgs[i]["file_name"] for i in sorted(coco.imgs)] == [
        "e.jpg", "a.jpg", "d.jpg", "b.jpg", "c.jpg",
    ]  # fmt: skip
    expected = {"e.jpg": cats, "a.jpg": birds, "d.jpg": cats, "b.jpg": cats, "c.jpg": empty}
    for image_id, image in coco.imgs.items():
        found = coco.loadAnns(sorted(coco.getAnnIds(imgIds=image_id)))
        wanted = expected[image["file_name"]]
        assert [coco.cats[one["category_id"]]["name"] for one in found] == list(wanted.labels)
        for one, instance in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(coco.annToMask(one).astype(bool), instance.mask)
    assert sorted(coco.anns) == list(range(1, 33))


@pytest.mark.parametrize("content", ["", "{}", '{"images": [], "annotations": []}', "nonsense"])
def test_a_dataset_that_is_not_ours_is_replaced(tmp_path: Path, make_outcome: Callable, content: str) -> None:
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco/instances.json").write_text(content)
    assert len(COCO(str(write(tmp_path, make_outcome(file_name="a.jpg")))).imgs) == 1


def test_cocos_own_evaluation_takes_it_as_truth_and_as_results(
    tmp_path: Path, make_outcome: Callable, make_instances: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = COCO(str(write(tmp_path, make_outcome(make_instances(labels=["a", "b", "c", "d"] * 2)))))
    evaluation = COCOeval(truth, truth.loadRes(list(truth.anns.values())), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)
    assert "Average Precision" in capsys.readouterr().out


def test_images_without_instances_and_no_images_at_all(tmp_path: Path, make_outcome: Callable) -> None:
    empty = COCO(str(write(tmp_path / "none")))
    assert (empty.imgs, empty.anns, empty.cats) == ({}, {}, {})
    bare = COCO(str(write(tmp_path / "bare", make_outcome(Instances.empty((5, 7))))))
    assert bare.imgs[1] == {"id": 1, "file_name": "photo.png", "width": 7, "height": 5}
    assert bare.anns == {}


def test_answers_of_several_requests_come_together(
    tmp_path: Path, make_outcome: Callable, make_instances: Callable, make_edges: Callable
) -> None:
    other = make_instances(labels=["sign"] * 8).replace(score_kind="detector_score")
    coco = COCO(str(write(tmp_path, make_outcome(make_instances(), make_edges(), other))))
    assert len(coco.anns) == 16
    assert len(coco.getAnnIds(catIds=coco.getCatIds(catNms=["sign"]))) == 8


def test_two_files_of_one_name_stay_apart(tmp_path: Path, make_outcome: Callable) -> None:
    paths = [tmp_path / folder / "a.png" for folder in "xy"]
    outcomes = []
    for path in paths:
        path.parent.mkdir()
        made = make_outcome()
        Image.fromarray(made.image.pixels).save(path)
        outcomes.append(Outcome(open_image(path), made.answers))
    content = json.loads(write(tmp_path, *outcomes).read_text())
    assert [image["file_name"] for image in content["images"]] == ["a.png", paths[1].as_posix()]


def test_a_run_broken_off_writes_what_is_done_and_a_killed_one_leaves_the_old_file(
    tmp_path: Path, make_outcome: Callable
) -> None:
    old = write(tmp_path, make_outcome()).read_bytes()
    writer = CocoWriter()
    for _ in range(3):
        writer.write("photo", make_outcome(), tmp_path)
        assert (tmp_path / "coco" / "instances.json").read_bytes() == old
        assert os.listdir(tmp_path / "coco") == ["instances.json"]  # the collected lines have no name
    (path,) = writer.finish(tmp_path)
    assert len(COCO(str(path)).imgs) == 3


def test_the_same_run_gives_the_same_bytes(tmp_path: Path, make_outcome: Callable) -> None:
    assert (
        write(tmp_path / "1", make_outcome()).read_bytes()
        == write(tmp_path / "2", make_outcome()).read_bytes()
    )


def test_a_full_disk_loses_one_image_and_not_the_dataset(
    tmp_path: Path, make_outcome: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    import composer.formats.coco as module

    writer = CocoWriter()
    writer.write("a", make_outcome(file_name="a.jpg"), tmp_path)
    real = module._append

    class Full:
        """The file, until 100 bytes have gone in; then the disk is full."""

        def __init__(self, file: object) -> None:
            self.file = file
            self.room = 100

        def write(self, data: memoryview) -> int:
            if not self.room:
                raise OSError(28, "No space left on device")
            count: int = self.file.write(data[: self.room])  # type: ignore[attr-defined]
            self.room -= count
            return count

        def __getattr__(self, name: str) -> object:
            return getattr(self.file, name)

    monkeypatch.setattr(module, "_append", lambda spool, data: real(Full(spool), data))  # type: ignore[arg-type]
    with pytest.raises(EnvironmentProblem, match=r"instances\.json: cannot be written: the disk is full"):
        writer.write("b", make_outcome(file_name="b.jpg"), tmp_path)
    monkeypatch.setattr(module, "_append", real)
    writer.write("c", make_outcome(file_name="c.jpg"), tmp_path)
    coco = COCO(str(writer.finish(tmp_path)[0]))
    assert [image["file_name"] for image in coco.imgs.values()] == ["a.jpg", "c.jpg"]
    assert len(coco.anns) == 16
    assert {a["image_id"] for a in coco.anns.values()} == {1, 2}


def test_sa1b(tmp_path: Path, make_outcome: Callable, make_instances: Callable) -> None:
    instances = make_instances(predicted_iou=np.full(8, 0.9), stability=np.full(8, 0.97))
    outcome = make_outcome(instances)
    (path,) = Sa1bWriter().write("photo", outcome, tmp_path)
    assert path == tmp_path / "sa1b" / "photo.json"
    content = json.loads(path.read_text())
    image = content["image"]
    assert (image["file_name"], image["width"], image["height"]) == ("photo.png", 90, 60)
    assert 0 <= image["image_id"] < 2**31
    for record, instance in zip(content["annotations"], instances, strict=True):
        np.testing.assert_array_equal(coco_mask.decode(record["segmentation"]).astype(bool), instance.mask)
        assert record["area"] == coco_mask.area(record["segmentation"])
        assert record["predicted_iou"] == pytest.approx(0.9)
        assert record["stability_score"] == pytest.approx(0.97)
        assert record["crop_box"] == [0, 0, 90, 60]
    assert Sa1bWriter().write("photo", make_outcome(seed=1), tmp_path / "other")
    other = json.loads((tmp_path / "other" / "sa1b" / "photo.json").read_text())
    assert other["image"]["image_id"] != image["image_id"]
