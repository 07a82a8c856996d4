"""Readers of public formats, what they refuse, and the packed store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from sam.errors import BadAnnotation
from sam.training.data import LabelledPhoto, PackedSet, pack, read_bsds, read_panoptic
from sam.training.shapes import made_photos


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "panoptic.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))


def test_panoptic_photos_come_as_they_were_made(panoptic: Path) -> None:
    for read, made in zip(read_panoptic(panoptic), made_photos(4, side=32), strict=True):
        assert np.array_equal(read.pixels, made.pixels)
        # Segments are renumbered, largest first; the partition is the same.
        pairs = {*zip(read.layers[0].ravel().tolist(), made.layers[0].ravel().tolist(), strict=True)}
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
        assert (0, 0) in pairs
        sizes = np.bincount(read.layers[0].ravel())[1:]
        assert (np.diff(sizes) <= 0).all()


def test_held_out_photos_are_the_first_by_image_id(panoptic: Path) -> None:
    edit(panoptic, lambda index: index["annotations"].reverse())
    assert [photo.name for photo in read_panoptic(panoptic, skip=3)] == ["00003.png"]


def test_crowds_are_unlabelled(panoptic: Path) -> None:
    edit(panoptic, lambda index: index["annotations"][0]["segments_info"][0].update(iscrowd=1))
    before, after = next(made_photos(1, side=32)).layers[0], next(read_panoptic(panoptic)).layers[0]
    crowd = before == np.unique(before[before > 0])[0]
    assert (after[crowd] == 0).all() and (after[(before > 0) & ~crowd] > 0).all()


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no index": (lambda f: (f / "panoptic.json").unlink(), "no such annotation file"),
    "no json": (lambda f: (f / "panoptic.json").write_text("{"), "not JSON"),
    "a list": (lambda f: (f / "panoptic.json").write_text("[]"), "expected a JSON object"),
    "no images": (lambda f: edit(f, lambda i: i.pop("images")), "under 'images'"),
    "image not listed": (lambda f: edit(f, lambda i: i["images"].pop(0)), "not listed under 'images'"),
    "text as id": (lambda f: edit(f, lambda i: i["images"][0].update(id="1")), "'id' must be a whole number"),
    "photo missing": (lambda f: (f / "images/00000.png").unlink(), "no such file"),
    "map missing": (lambda f: (f / "panoptic/00000.png").unlink(), "no such file"),
    "photo damaged": (lambda f: (f / "images/00000.png").write_bytes(b"no"), "cannot be read as an image"),
    "other size": (
        lambda f: Image.new("RGB", (31, 32)).save(f / "panoptic/00000.png"),
        "31 x 32 pixels, but its photo has 32 x 32",
    ),
    "id without pixels": (
        lambda f: edit(f, lambda i: i["annotations"][0]["segments_info"][0].update(id=77)),
        "has pixels, but is not listed|no pixel has it",
    ),
    "pixels without id": (
        lambda f: edit(f, lambda i: i["annotations"][0]["segments_info"].pop()),
        "has pixels, but is not listed",
    ),
    "outside": (
        lambda f: edit(f, lambda i: i["images"][0].update(file_name="../../etc/passwd")),
        "must be a name inside images/",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_set_is_refused_with_the_file_that_is_wrong(panoptic: Path, name: str) -> None:
    break_it, message = BROKEN[name]
    break_it(panoptic)
    with pytest.raises(BadAnnotation, match=message) as caught:
        list(read_panoptic(panoptic))
    assert str(panoptic) in str(caught.value)


def write_bsds(root: Path, maps: list[np.ndarray[Any, Any]], size: tuple[int, int] = (12, 16)) -> None:
    (root / "data/images/train").mkdir(parents=True)
    (root / "data/groundTruth/train").mkdir(parents=True)
    Image.new("RGB", (size[1], size[0]), (10, 200, 30)).save(root / "data/images/train/7.jpg")
    cells = np.empty((1, len(maps)), dtype=object)
    for i, ids in enumerate(maps):
        cells[0, i] = {"Segmentation": ids.astype(np.uint16), "Boundaries": np.zeros(size, np.uint8)}
    savemat(root / "data/groundTruth/train/7.mat", {"groundTruth": cells})


def test_bsds_has_a_layer_for_each_annotator_up_to_three(tmp_path: Path) -> None:
    maps = [np.full((12, 16), 1) for _ in range(5)]
    maps[1][:, 10:] = 2
    write_bsds(tmp_path, maps)
    (photo,) = read_bsds(tmp_path, ["train"])
    assert photo.pixels.shape == (12, 16, 3) and len(photo.layers) == 3
    assert np.unique(photo.layers[0]).tolist() == [1]
    assert photo.layers[1][0, [0, 9, 10, 15]].tolist() == [1, 1, 2, 2]


def test_bsds_that_is_broken(tmp_path: Path) -> None:
    with pytest.raises(BadAnnotation, match="no photos"):
        list(read_bsds(tmp_path, ["train"]))
    write_bsds(tmp_path, [np.ones((12, 15))])
    with pytest.raises(BadAnnotation, match=r"7\.mat"):
        list(read_bsds(tmp_path, ["train"]))
    (tmp_path / "data/groundTruth/train/7.mat").write_bytes(b"nonsense")
    with pytest.raises(BadAnnotation, match="not a BSDS ground truth"):
        list(read_bsds(tmp_path, ["train"]))
    (tmp_path / "data/groundTruth/train/7.mat").unlink()
    with pytest.raises(BadAnnotation, match="no such ground truth"):
        list(read_bsds(tmp_path, ["train"]))


def test_a_pack_gives_back_what_went_in(tmp_path: Path) -> None:
    photos = [*made_photos(3, side=40)]
    two_layers = LabelledPhoto(photos[1].pixels, (photos[1].layers[0], photos[2].layers[0]), "two")
    pack([photos[0], two_layers], tmp_path / "some")
    packed = PackedSet.open(tmp_path / "some")
    assert packed.name == "some" and len(packed) == 2
    assert [packed.layers(i) for i in range(2)] == [1, 2]
    assert np.array_equal(packed.photo(0), photos[0].pixels)
    assert np.array_equal(packed.photo(1), photos[1].pixels)
    assert np.array_equal(packed.layer(1, 0), photos[1].layers[0])
    assert np.array_equal(packed.layer(1, 1), photos[2].layers[0])


def test_large_photos_are_shrunk_and_small_ones_left(tmp_path: Path) -> None:
    layer = np.zeros((40, 80), np.uint8)
    layer[:, 40:] = 1
    photo = LabelledPhoto(np.full((40, 80, 3), 99, np.uint8), (layer,), "x")
    packed = pack([photo], tmp_path / "x", long_side=20)
    assert packed.photo(0).shape == (10, 20, 3) and (packed.photo(0) == 99).all()
    assert packed.layer(0, 0).mean() == 0.5 and set(np.unique(packed.layer(0, 0))) == {0, 1}


def test_more_segments_than_a_byte_holds_keep_the_largest(tmp_path: Path) -> None:
    from sam.training.data import MAX_SEGMENTS, _renumber

    ids = np.repeat(np.arange(1, 301), np.arange(1, 301)).astype(np.uint32)[None]
    numbered = _renumber(ids, range(1, 301))
    assert numbered.max() == MAX_SEGMENTS == 254
    assert numbered[0, -1] == 1 and numbered[0, 0] == 0
    assert (numbered == 0).sum() == sum(range(1, 301 - MAX_SEGMENTS))
