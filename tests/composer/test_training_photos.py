"""COCO instances, SA-1B folders and mask files as training sets: overlapping masks stay whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from adapters.rle import encode_mask, to_json
from composer.evaluation.sa1b_truth import open_sa1b
from composer.training_data import DataSet
from composer.training_photos import MAX_LAYERS, in_layers, labelled_photos
from composer.training_sets import Validation
from composer.training_validation import held_out
from sam.errors import BadAnnotation, UsageError
from sam.training.data import PackedSet, pack

Masks = npt.NDArray[np.bool_]
SIZE = (40, 60)


def masks_of(photo: int) -> Masks:
    """A large square, a small one inside of it, and a column beside them that moves with the photo."""
    masks = np.zeros((3, *SIZE), bool)
    masks[0, 5:35, 5:35], masks[1, 10:20, 10:20], masks[2, :, 40 + photo : 50] = True, True, True
    return masks


def pixels_of(photo: int) -> npt.NDArray[np.uint8]:
    pixels = np.zeros((*SIZE, 3), np.uint8)
    for value, mask in enumerate(masks_of(photo), 1):
        pixels[mask] = 60 * value
    return pixels


def save(path: Path, pixels: npt.NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_sa1b(folder: Path) -> DataSet:
    for photo in range(3):
        save(folder / f"sa_{photo}.png", pixels_of(photo))
        annotations = [
            {"id": i, "segmentation": to_json(encode_mask(m))} for i, m in enumerate(masks_of(photo))
        ]
        image = {"image_id": photo, "width": SIZE[1], "height": SIZE[0], "file_name": f"sa_{photo}.png"}
        (folder / f"sa_{photo}.json").write_text(json.dumps({"image": image, "annotations": annotations}))
    return DataSet("set", "sa1b", folder.name, 1.0)


def write_coco(folder: Path) -> DataSet:
    images, annotations = [], []
    for photo in range(3):
        save(folder / f"train/{photo}.png", pixels_of(photo))
        images.append({"id": photo, "file_name": f"{photo}.png", "width": SIZE[1], "height": SIZE[0]})
        for mask in masks_of(photo):
            rle = to_json(encode_mask(mask))
            annotations.append({"id": len(annotations) + 1, "image_id": photo, "segmentation": rle})
        crowd = {"segmentation": to_json(encode_mask(np.ones(SIZE, bool))), "iscrowd": 1}
        annotations.append({"id": len(annotations) + 1, "image_id": photo, **crowd})
    (folder / "notes").mkdir()
    (folder / "notes/train.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return DataSet("set", "coco", folder.name, 1.0, images="train", annotations="notes/train.json")


def write_masks(folder: Path) -> DataSet:
    for photo in range(3):
        save(folder / f"images/{photo}.png", pixels_of(photo))
        for number, mask in enumerate(masks_of(photo)):
            save(folder / f"masks/{photo}/{number}.png", mask.astype(np.uint8) * 255)
    return DataSet("set", "masks", folder.name, 1.0)


FORMS: dict[str, Callable[[Path], DataSet]] = {"sa1b": write_sa1b, "coco": write_coco, "masks": write_masks}


def segments(packed: PackedSet, photo: int) -> list[Masks]:
    layers = [packed.layer(photo, n) for n in range(packed.layers(photo))]
    return [layer == i for layer in layers for i in range(1, int(layer.max()) + 1)]


@pytest.mark.parametrize("form", FORMS)
def test_every_mask_is_there_and_whole(form: str, tmp_path: Path) -> None:
    one = FORMS[form](tmp_path / "photos")
    truth = one.open_truth(tmp_path / "photos")
    packed = pack(labelled_photos(truth, 0, 512), tmp_path / "packed")
    assert len(packed) == 3
    for photo in range(3):
        assert np.array_equal(packed.photo(photo), pixels_of(photo))
        found = segments(packed, photo)
        wanted = masks_of(photo)
        assert len(found) == 3
        assert all(any(np.array_equal(mask, other) for other in found) for mask in wanted)
    later = pack(labelled_photos(truth, 2, 512), tmp_path / "later")
    assert len(later) == 1 and np.array_equal(later.photo(0), pixels_of(2))


@pytest.mark.parametrize("form", FORMS)
def test_photos_are_shrunk_and_their_masks_with_them(form: str, tmp_path: Path) -> None:
    one = FORMS[form](tmp_path / "photos")
    packed = pack(labelled_photos(one.open_truth(tmp_path / "photos"), 0, 30), tmp_path / "packed")
    assert packed.photo(0).shape == (20, 30, 3)
    sizes = sorted(int(mask.sum()) for mask in segments(packed, 0))
    assert sizes == sorted(int(mask[1::2, 1::2].sum()) for mask in masks_of(0))


def test_layers_are_drawn_by_how_many_segments_they_have(tmp_path: Path) -> None:
    one = write_sa1b(tmp_path / "photos")
    packed = pack(labelled_photos(one.open_truth(tmp_path / "photos"), 0, 512), tmp_path / "packed")
    assert packed.counts is not None and packed.counts.tolist() == [[2, 1]] * 3
    rng = np.random.default_rng(0)
    drawn = [packed.draw_layer(0, rng) for _ in range(300)]
    assert 60 < sum(drawn) < 140  # the second layer has a third of the segments
    annotators = replace(packed, counts=None)
    assert 110 < sum(annotators.draw_layer(0, rng) for _ in range(300)) < 190


def test_the_first_photos_are_held_out(tmp_path: Path) -> None:
    one = write_coco(tmp_path / "photos")
    validation = Validation("coco", "photos", 2, None, one.images, one.annotations)  # type: ignore[arg-type]
    assert [image.name for image in held_out(tmp_path / "photos", validation)] == ["0.png", "1.png"]


def test_more_layers_than_there_may_be() -> None:
    nested = [np.arange(100) < 100 - number for number in range(MAX_LAYERS + 5)]
    layers = in_layers((mask[None] for mask in nested), (1, 100))
    assert len(layers) == MAX_LAYERS and int(layers[-1].sum()) == 100 - MAX_LAYERS + 1
    (nothing,) = in_layers([], (4, 5))
    assert nothing.shape == (4, 5) and not nothing.any()


class TestAFolderThatIsNotSa1b:
    def test_no_folder_or_nothing_in_it(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="none: no such folder"):
            open_sa1b(tmp_path / "none")
        with pytest.raises(BadAnnotation, match="no labelled photo"):
            open_sa1b(tmp_path)

    def test_masks_without_a_photo_and_two_photos_of_one_name(self, tmp_path: Path) -> None:
        write_sa1b(tmp_path / "a")
        (tmp_path / "a/sa_1.png").rename(tmp_path / "a/sa_9.png")
        with pytest.raises(BadAnnotation, match=r"sa_1\.json: masks of a photo that is neither"):
            open_sa1b(tmp_path / "a")
        write_sa1b(tmp_path / "b")
        save(tmp_path / "b/images/sa_1.jpg", pixels_of(1))
        with pytest.raises(BadAnnotation, match=r"sa_1\.jpg: a second photo named 'sa_1'"):
            open_sa1b(tmp_path / "b")

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"image": 3}, "expected an object under 'image'"),
            ({"image": {"width": 9, "height": 9}}, "masks of a photo of 9 x 9 pixels, but it has 60 x 40"),
            ({"annotations": 3}, "expected a list of objects under 'annotations'"),
            ({"annotations": [{"segmentation": [1, 2]}]}, r"annotations\[0\]: 'segmentation' must be an RLE"),
            ({"annotations": [{"segmentation": {"size": [9, 9], "counts": [81]}}]}, "a mask of 9 x 9 pixels"),
        ],
    )
    def test_a_damaged_file(self, tmp_path: Path, change: dict[str, Any], reason: str) -> None:
        write_sa1b(tmp_path / "a")
        path = tmp_path / "a/sa_1.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        with pytest.raises(BadAnnotation, match=reason) as caught:
            list(labelled_photos(open_sa1b(tmp_path / "a"), 0, 512))
        assert "sa_1.json" in str(caught.value)


def test_a_photo_is_labelled_the_way_up_in_which_it_is_shown(tmp_path: Path) -> None:
    one = write_sa1b(tmp_path / "set")
    stored = Image.fromarray(
        np.rot90(pixels_of(0))
    )  # as a camera held upright stores it: 90 degrees to the left
    exif = stored.getexif()
    exif[0x0112] = 6
    stored.save(tmp_path / "set/sa_0.png", exif=exif)
    upright, *_ = labelled_photos(one.open_truth(tmp_path / "set"), 0, 512)
    assert np.array_equal(upright.pixels, pixels_of(0))
