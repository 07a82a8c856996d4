"""Labels of the present model's own: sure ones alone, in a set that training reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adapters.results import Instances
from adapters.rle import bounding_boxes, encode_masks
from composer import self_labels
from composer.composer import Composer, Scene
from composer.self_labels import Trust, agreement, label_photos, sure_masks
from composer.training_data import DataSet
from composer.training_photos import labelled_photos
from sam.errors import UsageError

SIZE = (40, 60)


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer.load("tiny", device="cpu", precision="fp32")


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Two photos of one name in two folders, and a file that is none."""
    paths = [tmp_path / "a/x.png", tmp_path / "b/x.png", tmp_path / "broken.png"]
    for value, path in enumerate(paths[:2]):
        path.parent.mkdir()
        Image.fromarray(np.full((*SIZE, 3), 50 + 100 * value, np.uint8)).save(path)
    paths[2].write_bytes(b"what?")
    return paths


def instances(*columns: slice) -> Instances:
    masks = np.zeros((len(columns), *SIZE), bool)
    for mask, where in zip(masks, columns, strict=True):
        mask[10:30, where] = True
    rles = tuple(encode_masks(masks))
    scores = np.linspace(0.9, 0.8, len(rles), dtype=np.float32)
    return Instances(SIZE, rles, bounding_boxes(rles), scores, predicted_iou=scores, stability=scores)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[Instances, Instances], None]:
    """What the model finds, and what the boxes of that give in the mirrored photo."""

    def set_up(everything: Instances, boxes: Instances) -> None:
        monkeypatch.setattr(
            Scene, "run", lambda self, request: everything if request.kind == "everything" else boxes
        )

    return set_up


LEFT, RIGHT, MIDDLE = slice(0, 10), slice(50, 60), slice(20, 40)


def test_masks_on_which_the_mirrored_photo_agrees(composer: Composer, photos: list[Path], answers) -> None:
    answers(instances(LEFT, MIDDLE, RIGHT), instances(RIGHT, slice(20, 30), LEFT))
    scene = composer.open(photos[0])
    assert agreement(composer, scene, scene.run(self_labels.Everything())).tolist() == [1, 0.5, 1]
    found = sure_masks(composer, scene, Trust(agreement=0.8))
    assert [box[0] for box in found.boxes] == [0, 50]
    assert len(sure_masks(composer, scene, Trust(agreement=0.5))) == 3
    assert len(sure_masks(composer, scene, Trust(agreement=0, max_masks=1))) == 1


def test_a_set_that_training_reads(composer: Composer, photos: list[Path], answers, tmp_path: Path) -> None:
    answers(instances(LEFT, MIDDLE), instances(RIGHT, MIDDLE))
    told: list[str] = []
    found = label_photos(composer, photos, tmp_path / "own", Trust(), lambda path, text: told.append(text))
    assert (found.photos, found.masks, found.unlabelled, found.broken) == (2, 4, 0, 1)
    assert told[:2] == ["2 masks", "2 masks"] and told[2].startswith("left out: ")
    truth = DataSet("own", "sa1b", "own", 1.0).open_truth(tmp_path / "own")
    read = list(labelled_photos(truth, 0, 512))
    assert [photo.name for photo in read] == ["a-x_png.jpg", "b-x_png.jpg"]
    for photo, value in zip(read, (50, 150), strict=True):
        assert abs(photo.pixels.astype(int) - value).max() <= 2
        assert sorted(np.unique(photo.layers[0])) == [0, 1, 2]
    record = json.loads((tmp_path / "own/a-x_png.json").read_text())["annotations"][0]
    assert record["predicted_iou"] == pytest.approx(0.9) and record["bbox"] == [0, 10, 10, 20]

    answers(instances(LEFT), instances(RIGHT))
    again = label_photos(composer, photos, tmp_path / "own", Trust())
    assert (again.photos, again.masks) == (2, 0)  # they were done
    other = label_photos(composer, photos, tmp_path / "few", Trust())
    assert (other.photos, other.unlabelled) == (0, 2) and not list((tmp_path / "few").iterdir())
    with pytest.raises(UsageError, match="none of the 1 photos can be read"):
        label_photos(composer, photos[2:], tmp_path / "none", Trust())


def test_photos_are_not_written_over(composer: Composer, tmp_path: Path) -> None:
    path = tmp_path / "photos/a.png"
    path.parent.mkdir()
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(path)
    with pytest.raises(UsageError, match=r"holds the photo a\.png; give the set a folder of its own"):
        label_photos(composer, [path], tmp_path / "photos", Trust())
    assert [one.name for one in (tmp_path / "photos").iterdir()] == ["a.png"]


def test_a_photo_that_has_gone_stops_nothing(
    composer: Composer, photos: list[Path], answers, tmp_path: Path
) -> None:
    answers(instances(LEFT, MIDDLE), instances(RIGHT, MIDDLE))
    photos[0].unlink()
    found = label_photos(composer, photos, tmp_path / "own", Trust())
    assert (found.photos, found.broken) == (1, 2)
