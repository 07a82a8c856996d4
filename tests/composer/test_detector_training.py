"""A detector is trained on boxes of things, from a file that is checked, and kept without a pickle."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from adapters.detector import UltralyticsDetector
from composer import Composer, Detect, detector_training
from composer.detector_data import write_dataset
from composer.detector_training import is_detector_run, read_detector_run
from composer.training_data import DataSet, write_panoptic
from sam.checkpoints import read_weights
from sam.errors import CheckpointError, UsageError
from sam.training.data import LabelledPhoto
from sam.training.panoptic import read_photo
from sam.training.shapes import made_photos

ROOT = Path(__file__).parents[2]
TEXT = """\
detector: yolo11n.yaml
image_size: 64
epochs: 1
batch: 4
validation: {panoptic: shapes, limit_images: 4}
data: {root: ., long_side: 64, sets: {shapes: {panoptic: shapes, weight: 1, skip: 4}}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    write_panoptic(made_photos(12, seed=0), tmp_path / "shapes")
    path = tmp_path / "detector.yaml"
    path.write_text(TEXT)
    return path


def test_boxes_of_a_photo_that_is_shrunk(tmp_path: Path) -> None:
    ids = np.zeros((60, 120), np.uint8)
    ids[10:40, 20:80], ids[50:52, 0:3] = 1, 2  # the second too small to be taught
    pixels = np.random.default_rng(0).integers(0, 256, (60, 120, 3), dtype=np.uint8)
    write_panoptic([LabelledPhoto(pixels, (ids,), "a")] * 2, tmp_path / "set")
    path = write_dataset(
        [DataSet("set", "panoptic", "set", 3, skip=1)], ("set", 1), tmp_path, tmp_path / "out", long_side=60
    )
    about = yaml.safe_load(path.read_text())
    assert about["names"] == {0: "object"} and about["train"] == "train.txt"
    assert (tmp_path / "out/train.txt").read_text() == "./images/train/set-000001.jpg\n" * 3
    for kind in ("train", "val"):
        (label,) = (tmp_path / "out/labels" / kind).iterdir()
        (image,) = (tmp_path / "out/images" / kind).iterdir()
        assert image.stem == label.stem and read_photo(image).shape == (30, 60, 3)
        number, *box = (float(v) for v in label.read_text().split())
        assert number == 0
        np.testing.assert_allclose(box, [50 / 120, 25 / 60, 60 / 120, 30 / 60], atol=1e-5)
    before = path.stat().st_mtime_ns
    again = [DataSet("set", "panoptic", "set", 3, skip=1)]
    write_dataset(again, ("set", 1), tmp_path, tmp_path / "out", long_side=60)
    assert path.stat().st_mtime_ns == before
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/dataset.yaml").write_text("names: [cat]")
    with pytest.raises(UsageError, match="is no data set of ours"):
        write_dataset(again, ("set", 1), tmp_path, tmp_path / "theirs", long_side=60)
    # Of something else: nothing of what was there stays.
    write_dataset([], ("set", 1), tmp_path, tmp_path / "out", long_side=60)
    assert (tmp_path / "out/train.txt").read_text() == ""
    assert not list((tmp_path / "out/images/train").iterdir())


def test_a_run_from_its_file_to_its_weights(config: Path, tmp_path: Path) -> None:
    run = read_detector_run(config)
    told: list[tuple[str, int]] = []
    path = detector_training.train(
        run,
        tmp_path / "run",
        data=run.root,
        packed=tmp_path / "packed",
        device="cpu",
        on_set=lambda name, count: told.append((name, count)),
    )
    assert told == [("shapes", 8), ("held out", 4)]
    detector = UltralyticsDetector.load(path, trust=False)
    assert detector.names == ("object",) and not detector.open_vocabulary
    photo = next(iter(made_photos(1, seed=5))).pixels
    scene = Composer.load("tiny").open(photo)
    found = scene.run(Detect(detector=str(path), conf=0.0, limit=5))
    assert set(found.labels) <= {"object"}  # type: ignore[union-attr]
    # The run is over: asked again, nothing is trained.
    again = tmp_path / "run/ultralytics/weights/last.pt"
    before = again.stat().st_mtime_ns
    detector_training.train(run, tmp_path / "run", data=run.root, packed=tmp_path / "packed", device="cpu")
    assert again.stat().st_mtime_ns == before


def test_a_run_may_start_from_weights_of_ours(config: Path, tmp_path: Path) -> None:
    shutil.copy(ROOT / "sam/weights/tiny-detector.safetensors", tmp_path / "first.safetensors")
    chosen = "start: first.safetensors\nlearning_rate: 1.0e-9\nmosaic: 0\n"
    config.write_text(TEXT + chosen)
    run = read_detector_run(config)
    assert (run.learning_rate, run.mosaic) == (1e-9, 0)
    path = detector_training.train(
        run, tmp_path / "run", data=run.root, packed=tmp_path / "packed", device="cpu"
    )
    # At such a rate nothing is learnt: what comes out is what went in, at half precision.
    first, last = (read_weights(one).tensors for one in (tmp_path / "first.safetensors", path))
    assert first.keys() == last.keys()
    convolutions = [name for name in first if name.endswith("conv.weight")]
    assert len(convolutions) > 50
    for name in convolutions:
        torch.testing.assert_close(last[name].float(), first[name].float(), rtol=1e-2, atol=1e-4)
    told = json.loads((tmp_path / "run/run.json").read_text())
    assert told["start"] == "first.safetensors" and told["mosaic"] == 0
    with pytest.raises(UsageError, match="of another run"):  # from scratch, in the folder of this one
        detector_training.train(
            replace(run, start=None),
            tmp_path / "run",
            data=run.root,
            packed=tmp_path / "packed",
            device="cpu",
        )


def test_the_result_may_be_a_mean_with_its_start(config: Path, tmp_path: Path) -> None:
    start = tmp_path / "first.safetensors"
    shutil.copy(ROOT / "sam/weights/tiny-detector.safetensors", start)
    config.write_text(TEXT + "start: first.safetensors\nlearning_rate: 0.01\naverage: 0.25\n")
    mean, whole = read_detector_run(config), replace(read_detector_run(config), average=None)
    options = {"data": mean.root, "packed": tmp_path / "packed", "device": "cpu"}
    trained = read_weights(detector_training.train(whole, tmp_path / "run", **options)).tensors  # type: ignore[arg-type]
    found = read_weights(detector_training.train(mean, tmp_path / "run", **options)).tensors  # type: ignore[arg-type]
    before = read_weights(start).tensors
    moved = 0
    for name, tensor in found.items():
        if tensor.is_floating_point():
            expected = 0.75 * before[name].float() + 0.25 * trained[name].float()
            torch.testing.assert_close(tensor.float(), expected, rtol=2e-3, atol=2e-4)
            moved += not torch.equal(tensor, before[name])
    assert moved > 50
    assert (tmp_path / "run/log.csv").read_text().count("\n") == 2  # names, and one epoch
    with Image.open(tmp_path / "run/learning-curve.png") as curve:
        assert curve.size == (1080, 480)


def test_weights_of_another_architecture_are_no_start(config: Path, tmp_path: Path) -> None:
    shutil.copy(ROOT / "sam/weights/tiny-detector.safetensors", tmp_path / "first.safetensors")
    config.write_text(TEXT.replace("yolo11n.yaml", "yolov8n.yaml") + "start: first.safetensors\n")
    run = read_detector_run(config)
    with pytest.raises(CheckpointError, match=r"a yolo11n.yaml, where yolov8n.yaml is wanted"):
        detector_training.train(
            run, tmp_path / "run", data=run.root, packed=tmp_path / "packed", device="cpu"
        )


def test_the_folder_of_another_run_is_refused(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    began = {
        "detector": "yolo11n.yaml",
        "name": "object",
        "image_size": 32,
        "epochs": 1,
        "batch": 4,
        "seed": 0,
    }
    (folder / "run.json").write_text(json.dumps(began))
    with pytest.raises(UsageError, match=r"of another run \(image_size: 32\); choose another folder"):
        detector_training.train(
            read_detector_run(config), folder, data=tmp_path, packed=tmp_path / "packed", device="cpu"
        )


def test_which_file_is_about_a_detector(config: Path) -> None:
    assert is_detector_run(config)
    assert not is_detector_run(ROOT / "configs/training/tiny.yaml")
    shipped = read_detector_run(ROOT / "configs/training/tiny-detector.yaml")
    assert shipped.name == "object" and len(shipped.sets) > 5


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("epochs: 1", "epochs: 0", "epochs: expected a whole number, not 0"),
        ("epochs: 1", "epoch: 1", "unknown key"),
        ("detector: yolo11n.yaml", "detector: 3", "detector: expected a text"),
        ("validation: {panoptic: shapes, limit_images: 4}", "", "expected a mapping with `panoptic`"),
        ("epochs: 1", "learning_rate: 0", "expected a number above 0, to 0.1, not 0"),
        ("epochs: 1", "mosaic: 1.5", "expected a number from 0 to 1, not 1.5"),
        ("epochs: 1", "average: 0", "expected a number above 0, to 1, not 0"),
        ("epochs: 1", "average: 0.5", "there is nothing to average with"),
        ("epochs: 1", "start: 3", "expected a file, from this file's own folder, not 3"),
        ("epochs: 1", "start: none.safetensors", "no such file: "),
        ("weight: 1", "weight: 0.4", "how often an epoch has each photo, at least 1, not 0.4"),
        ("skip: 4", "skip: 3", "skip holds out 3 photos"),
        ("{panoptic: shapes, weight: 1", "{shapes: 20, weight: 1", "trained on `panoptic` sets"),
    ],
)
def test_a_bad_file_says_where(config: Path, old: str, new: str, says: str) -> None:
    config.write_text(TEXT.replace(old, new))
    with pytest.raises(UsageError, match=says):
        read_detector_run(config)
