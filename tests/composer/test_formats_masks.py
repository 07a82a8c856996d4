"""Mask pictures, read back by Pillow and OpenCV."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from adapters.results import Instances
from composer.formats import FORMATS, make_writers
from composer.formats.masks import MasksWriter, id_map
from sam.errors import EnvironmentProblem, UsageError


def test_one_picture_for_each_mask(tmp_path: Path, make_outcome: Callable) -> None:
    outcome = make_outcome()
    written = MasksWriter().write("photo", outcome, tmp_path)
    names = [path.relative_to(tmp_path / "masks").as_posix() for path in written]
    assert names == [f"photo/{i:03d}.png" for i in range(8)] + ["photo.ids.png"]
    for path, mask in zip(written, outcome.instances.masks, strict=False):
        with Image.open(path) as picture:
            assert picture.mode == "1"
            np.testing.assert_array_equal(np.asarray(picture), mask)
        np.testing.assert_array_equal(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), mask * np.uint8(255))


def test_one_picture_for_all_with_small_over_large(tmp_path: Path, make_outcome: Callable) -> None:
    outcome = make_outcome()
    path = MasksWriter().write("photo", outcome, tmp_path)[-1]
    with Image.open(path) as picture:
        assert picture.mode == "L"
        ids = np.asarray(picture)
    masks, areas = outcome.instances.masks, outcome.instances.areas
    for y, x in [(4, 3), (50, 30), (30, 40), (59, 89), (0, 0), (15, 15), (30, 25)]:
        covering = np.flatnonzero(masks[:, y, x])
        assert ids[y, x] == covering[areas[covering].argmin()] + 1


def test_16_bits_beyond_255(tmp_path: Path, make_outcome: Callable, make_instances: Callable) -> None:
    masks = np.zeros((300, 20, 20), bool)
    masks[np.arange(300), np.arange(300) // 20, np.arange(300) % 20] = True
    outcome = make_outcome(make_instances(masks))
    path = MasksWriter().write("many", outcome, tmp_path)[-1]
    with Image.open(path) as picture:
        assert picture.mode == "I;16"
        np.testing.assert_array_equal(np.asarray(picture).ravel(), [*range(1, 301), *([0] * 100)])
    assert (tmp_path / "masks" / "many" / "299.png").is_file()


@pytest.mark.parametrize(("count", "dtype"), [(0, np.uint8), (255, np.uint8), (256, np.uint16)])
def test_dtype_of_the_map(make_instances: Callable, count: int, dtype: type) -> None:
    masks = np.zeros((count, 3, 4), bool)
    instances = make_instances(masks) if count else Instances.empty((3, 4))
    ids = id_map(instances)
    assert ids.dtype == dtype
    assert ids.shape == (3, 4)
    assert not ids.any()


def test_masks_of_an_earlier_run_do_not_stay(
    tmp_path: Path, make_outcome: Callable, make_instances: Callable
) -> None:
    writer = MasksWriter()
    writer.write("photo", make_outcome(), tmp_path)
    mine = tmp_path / "masks" / "photo" / "mine.png"
    mine.touch()
    full = make_instances()
    writer.write("photo", make_outcome(full[:2]), tmp_path)
    assert sorted(p.name for p in mine.parent.iterdir()) == ["000.png", "001.png", "mine.png"]
    writer.write("photo", make_outcome(Instances.empty((60, 90))), tmp_path)
    assert sorted(p.name for p in mine.parent.iterdir()) == ["mine.png"]


# The formats together


def test_every_format_is_made_by_name_once() -> None:
    assert len(make_writers(FORMATS)) == 6
    assert len(make_writers(["json", "json"])) == 1
    with pytest.raises(
        UsageError, match="unknown format 'voc'; known: json, coco, sa1b, yolo, labelme, masks"
    ):
        make_writers(["json", "voc"])


@pytest.mark.parametrize(
    "stem", ["coco", "yolo", "masks", "labelme", "data", "instances", "photo.edges", "a b ü"]
)
def test_no_name_of_an_image_clashes_with_a_file_of_a_format(
    tmp_path: Path, make_outcome: Callable, make_edges: Callable, make_instances: Callable, stem: str
) -> None:
    written: list[Path] = []
    for writer in make_writers(FORMATS):
        written += writer.write(stem, make_outcome(make_instances(), make_edges()), tmp_path)
        written += writer.write("photo", make_outcome(make_instances(), make_edges()), tmp_path)
        writer.finish(tmp_path)
    distinct = [path for path in written if path.name != "data.yaml"]
    assert len(set(distinct)) == len(distinct)
    assert all(path.is_file() for path in written)
    assert not list(tmp_path.rglob(".sam-composer-*"))


@pytest.mark.parametrize("name", FORMATS)
def test_an_output_folder_that_cannot_be_written(tmp_path: Path, make_outcome: Callable, name: str) -> None:
    (tmp_path / "out").write_text("a file, not a folder")
    (writer,) = make_writers([name])
    with pytest.raises(EnvironmentProblem, match=r"out.*: cannot be written") as caught:
        writer.write("photo", make_outcome(), tmp_path / "out")
        writer.finish(tmp_path / "out")
    assert caught.value.exit_code == 6
