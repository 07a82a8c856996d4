"""Labelled photos: which are left out, what a pixel's value is, and a clear word about every damaged set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from adapters.rle import decode_masks, encode_mask, encode_masks, to_json
from composer.evaluation.ground_truth import (
    GroundTruth,
    Segment,
    choose_segments,
    open_coco,
    open_mask_folder,
    open_panoptic,
)
from sam.errors import BadAnnotation

SIZE = (45, 60)
Masks = npt.NDArray[np.bool_]
PARTS = (
    ((5, 5, 20, 15),),
    ((30, 0, 60, 10), (30, 8, 36, 40)),  # to the corner of the photo; its parts overlap
    ((2, 20, 9, 30), (12, 33, 25, 45)),  # in two places
)
"""Three masks as rectangles x1, y1, x2, y2, which every format can hold exactly."""
IDS = (7, 300, 70_000)  # one for each byte of a colour


def drawn() -> Masks:
    masks = np.zeros((len(PARTS), *SIZE), bool)
    for mask, parts in zip(masks, PARTS, strict=True):
        for x1, y1, x2, y2 in parts:
            mask[y1:y2, x1:x2] = True
    return masks


def id_map(ids: tuple[int, ...] = IDS) -> npt.NDArray[np.int64]:
    return (drawn() * np.array(ids)[:, None, None]).sum(0)


def coloured(ids: npt.NDArray[np.int64]) -> Image.Image:
    return Image.fromarray(np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8))


def save(path: Path, image: Image.Image | npt.NDArray[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path)
    return path


def touched(path: Path) -> Path:
    """A photo: whoever opens a set looks at no pixel of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def written(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def assert_holds(truth: GroundTruth, expected: Masks) -> None:
    (image,) = truth
    assert (decode_masks(image.read_masks(SIZE), SIZE) == expected).all()


# ---- COCO panoptic -----------------------------------------------------------------------------------------


def panoptic_index(crowd: int | None = None) -> dict[str, Any]:
    segments = [{"id": i, "category_id": 1, "iscrowd": int(i == crowd)} for i in IDS]
    return {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": segments}],
    }


@pytest.fixture
def panoptic(tmp_path: Path) -> Path:
    save(tmp_path / "panoptic/a.png", coloured(id_map()))
    written(tmp_path / "panoptic.json", panoptic_index())
    return tmp_path


def test_panoptic_photos_go_by_id_and_photos_of_crowds_alone_are_left_out(panoptic: Path) -> None:
    annotations = [
        {"image_id": i, "file_name": "x.png", "segments_info": [{"id": 1, "iscrowd": int(i == 5)}]}
        for i in (9, 5, 10, 1)
    ]
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in (1, 10, 5, 9)]
    written(panoptic / "panoptic.json", {"images": images, "annotations": annotations})
    truth = open_panoptic(panoptic)
    assert [image.name for image in truth] == ["1.jpg", "9.jpg", "10.jpg"]
    assert [image.name for image in truth.limited(2)] == ["1.jpg", "9.jpg"]
    assert len(truth.limited(None)) == 3


@pytest.mark.parametrize(
    ("ids", "size", "reason"),
    [
        ((7, 300, 300), SIZE, "segment id 70000 is listed in panoptic.json, but no pixel has it"),
        ((7, 300, 70_001), SIZE, "segment id 70000 is listed"),
        (IDS, (45, 61), "60 x 45 pixels, but its photo has 61 x 45"),
    ],
)
def test_panoptic_maps_that_do_not_fit(panoptic: Path, ids, size: tuple[int, int], reason: str) -> None:
    path = save(panoptic / "panoptic/a.png", coloured(id_map(ids)))
    with pytest.raises(BadAnnotation) as caught:
        open_panoptic(panoptic).images[0].read_masks(size)
    assert str(caught.value).startswith(f"{path}: ") and reason in str(caught.value)


def test_a_panoptic_segment_that_is_not_listed(panoptic: Path) -> None:
    index = panoptic_index()
    del index["annotations"][0]["segments_info"][1]
    written(panoptic / "panoptic.json", index)
    with pytest.raises(BadAnnotation, match=r"a\.png: segment id 300 has pixels, but is not listed"):
        open_panoptic(panoptic).images[0].read_masks(SIZE)


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "no such file"), (b"text", "cannot be read as an image")]
)
def test_a_panoptic_map_that_is_none(panoptic: Path, content: bytes | None, reason: str) -> None:
    (panoptic / "panoptic/a.png").unlink()
    if content is not None:
        (panoptic / "panoptic/a.png").write_bytes(content)
    with pytest.raises(BadAnnotation, match=rf"a\.png: .*{reason}"):
        open_panoptic(panoptic).images[0].read_masks(SIZE)


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        (None, "no such annotation file"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "expected a JSON object, not a list"),
        ("{}", "a list of objects under 'images'"),
        ('{"images": [], "annotations": 3}', "a list of objects under 'annotations'"),
        ('{"images": [], "annotations": []}', "no labelled photo"),
        ('{"images": [{"id": "1"}], "annotations": []}', "'id' must be a whole number, not '1'"),
        ('{"images": [], "annotations": [{"image_id": 4}]}', "image 4 is annotated, but not listed"),
        (
            '{"images": [{"id": 4, "file_name": "../a.jpg"}],'
            ' "annotations": [{"image_id": 4, "file_name": "a.png", "segments_info": []}]}',
            "a name inside images/, not '../a.jpg'",
        ),
    ],
)
def test_a_panoptic_index_that_is_none(panoptic: Path, index: str | None, reason: str) -> None:
    (panoptic / "panoptic.json").unlink()
    if index is not None:
        (panoptic / "panoptic.json").write_text(index)
    with pytest.raises(BadAnnotation) as caught:
        open_panoptic(panoptic)
    assert str(caught.value).startswith(str(panoptic)) and reason in str(caught.value)


# ---- COCO instances ----------------------------------------------------------------------------------------


def polygons(parts: tuple[tuple[int, int, int, int], ...]) -> list[list[float]]:
    return [[x1, y1, x2, y1, x2, y2, x1, y2] for x1, y1, x2, y2 in parts]


def plain_runs(mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Uncompressed: lengths of background, object, background ... down the columns."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return {"size": list(SIZE), "counts": [0, *counts] if flat[0] else counts}


def coco_index(segmentations: list[Any]) -> dict[str, Any]:
    return {
        "images": [{"id": 4, "file_name": "a.jpg"}],
        "annotations": [
            {"id": 11 + i, "image_id": 4, "category_id": 1, "iscrowd": 0, "segmentation": value}
            for i, value in enumerate(segmentations)
        ],
    }


SEGMENTATIONS = {
    "polygons": [polygons(parts) for parts in PARTS],
    "compressed": [to_json(rle) for rle in encode_masks(drawn())],
    "uncompressed": [plain_runs(mask) for mask in drawn()],
}


@pytest.mark.parametrize("how", list(SEGMENTATIONS))
def test_coco(tmp_path: Path, how: str) -> None:
    truth = open_coco(tmp_path, written(tmp_path / "ann.json", coco_index(SEGMENTATIONS[how])))
    assert truth.source == str(tmp_path / "ann.json")
    assert (truth.images[0].name, truth.images[0].path) == ("a.jpg", tmp_path / "a.jpg")
    assert_holds(truth, drawn())


def test_coco_photos_go_by_id_and_photos_without_instances_are_left_out(tmp_path: Path) -> None:
    images = [{"id": i, "file_name": f"sub/{i}.jpg"} for i in (10, 3, 9, 1)]
    annotations = [{"id": i, "image_id": i, "iscrowd": int(i == 3)} for i in (9, 3, 10)]
    path = written(tmp_path / "ann.json", {"images": images, "annotations": annotations})
    truth = open_coco(tmp_path, path)
    assert [image.name for image in truth] == ["9.jpg", "10.jpg"]
    assert truth.images[0].path == tmp_path / "sub/9.jpg"


RLE = SEGMENTATIONS["compressed"][0]


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        (None, "must be an RLE or a list of polygons"),
        ([], "must be an RLE or a list of polygons"),
        ([[1, 2, 3, 4]], "must be an RLE or a list of polygons"),
        ([[1, 2, 3, 4, 5, 6, 7]], "must be an RLE or a list of polygons"),
        ([[1, 2, 3, 4, 5, "6"]], "must be an RLE or a list of polygons"),
        ([[1, 2, 3, 4, 5, float("nan")]], "must be an RLE or a list of polygons"),
        ([[1, 2, 3, 4, 5, True]], "must be an RLE or a list of polygons"),
        ([[0, 0, 90, 0, 90, 20]], "a polygon reaches 90, 20, outside its photo of 60 x 45"),
        ([[0, 0, 20, 0, 20, 50]], "a polygon reaches 20, 50, outside its photo of 60 x 45"),
        ({}, "RLE size must be"),
        ({**RLE, "size": [60, 45], "counts": [60 * 45]}, "a mask of 45 x 60 pixels, but its photo has 60 x"),
        ({**RLE, "counts": [1, 2]}, "RLE runs add up to 3 pixels, but its size is 45 x 60"),
        ({**RLE, "counts": 5}, "RLE counts must be"),
        ({**RLE, "counts": RLE["counts"][:-1]}, "RLE"),
    ],
)
def test_coco_segmentations_that_are_none(tmp_path: Path, segmentation: Any, reason: str) -> None:
    path = written(tmp_path / "ann.json", coco_index([segmentation]))
    with pytest.raises(BadAnnotation) as caught:
        open_coco(tmp_path, path).images[0].read_masks(SIZE)
    assert str(caught.value).startswith(f"{path}: annotation 11: ") and reason in str(caught.value)


def test_a_category_that_is_no_number_matters_only_where_frequencies_are_known(tmp_path: Path) -> None:
    index = coco_index(SEGMENTATIONS["compressed"])
    index["annotations"][1]["category_id"] = [1]
    assert_holds(open_coco(tmp_path, written(tmp_path / "ann.json", index)), drawn())
    index["categories"] = [{"id": 1, "frequency": "r"}]
    path = written(tmp_path / "ann.json", index)
    with pytest.raises(
        BadAnnotation, match=r"annotation 12: 'category_id' must be a whole number, not \[1\]"
    ):
        open_coco(tmp_path, path).images[0].read_masks(SIZE)


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        ("no", "not JSON"),
        ('{"images": []}', "a list of objects under 'annotations'"),
        ('{"images": [{"id": 1}], "annotations": []}', "no labelled photo"),
        ('{"images": [{"id": 1}, {"id": 1}], "annotations": []}', "images[1]: a second entry with the id 1"),
        ('{"images": [{"id": 1}], "annotations": [{"image_id": 2}]}', "image 2 is annotated, but not listed"),
        ('{"images": [{"id": 1}], "annotations": [{"image_id": 1}]}', "'file_name' must be a name inside"),
        (
            '{"images": [{"id": 1, "file_name": "/a.jpg"}], "annotations": [{"image_id": 1}]}',
            "'file_name' must be a name inside",
        ),
    ],
)
def test_a_coco_file_that_is_none(tmp_path: Path, index: str, reason: str) -> None:
    (tmp_path / "ann.json").write_text(index)
    with pytest.raises(BadAnnotation) as caught:
        open_coco(tmp_path, tmp_path / "ann.json")
    assert str(caught.value).startswith(f"{tmp_path / 'ann.json'}: ") and reason in str(caught.value)


# ---- plain files -------------------------------------------------------------------------------------------


def palette_map() -> Image.Image:
    image = Image.fromarray(id_map((1, 2, 9)).astype(np.uint8), "L").convert("P")
    image.putdata(id_map((1, 2, 9)).ravel().tolist())
    image.putpalette([200, 200, 200] * 10)  # all of one colour: the index is what counts
    return image


def seen_through() -> Image.Image:
    image = coloured(id_map()).convert("RGBA")
    image.putalpha(0)
    return image


def grey_seen_through() -> Image.Image:
    image = Image.fromarray(id_map((1, 128, 255)).astype(np.uint8)).convert("LA")
    image.putalpha(0)
    return image


MAPS = {
    "8-bit": ("L", lambda: Image.fromarray(id_map((1, 128, 255)).astype(np.uint8))),
    "16-bit": ("I;16", lambda: Image.fromarray(id_map((1, 300, 65_535)).astype(np.uint16))),
    "palette": ("P", palette_map),
    "RGB": ("RGB", lambda: coloured(id_map((65_536 * 3, 65_536 * 3 + 256, 65_536 * 4)))),
    "RGBA": ("RGBA", seen_through),
    "grey and alpha": ("LA", grey_seen_through),
}


@pytest.mark.parametrize("kind", list(MAPS))
def test_a_map(tmp_path: Path, kind: str) -> None:
    mode, draw = MAPS[kind]
    touched(tmp_path / "images/a.JPG")
    path = save(tmp_path / "masks/a.png", draw())
    with Image.open(path) as image:
        assert image.mode == mode
    assert_holds(open_mask_folder(tmp_path), drawn())


@pytest.mark.parametrize("kind", ["1-bit", "8-bit", "RGB"])
def test_a_folder_of_files(tmp_path: Path, kind: str) -> None:
    touched(tmp_path / "images/a.jpg")
    touched(tmp_path / "masks/a/notes.txt")
    for i, mask in enumerate(drawn()):
        grey = (mask * 255).astype(np.uint8)
        image = {"1-bit": mask, "8-bit": (mask * (3 + i)).astype(np.uint8), "RGB": np.stack([grey] * 3, -1)}
        save(tmp_path / f"masks/a/{i}.png", image[kind])
    assert_holds(open_mask_folder(tmp_path), drawn())


def test_photos_go_by_name_and_photos_without_masks_are_left_out(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "d.tif", "c.webp", ".hidden.jpg", "notes.txt"):
        touched(tmp_path / "images" / name)
    save(tmp_path / "masks/d.png", id_map((1, 2, 3)).astype(np.uint8))
    save(tmp_path / "masks/b.png", id_map((1, 2, 3)).astype(np.uint8))
    save(tmp_path / "masks/a/1.png", drawn()[0])
    touched(tmp_path / "masks/.DS_Store")
    touched(tmp_path / "masks/notes.txt")
    assert [image.name for image in open_mask_folder(tmp_path)] == ["a.jpg", "b.png", "d.tif"]


def test_an_unlabelled_map_has_no_masks(tmp_path: Path) -> None:
    touched(tmp_path / "images/a.jpg")
    save(tmp_path / "masks/a.png", np.zeros(SIZE, np.uint8))
    assert open_mask_folder(tmp_path).images[0].read_masks(SIZE) == []


def refused(folder: Path, culprit: str, reason: str) -> None:
    with pytest.raises(BadAnnotation) as caught:
        open_mask_folder(folder).images[0].read_masks(SIZE)
    assert str(caught.value).startswith(f"{folder / culprit}: ") and reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_mask_files_that_do_not_fit(tmp_path: Path) -> None:
    touched(tmp_path / "images/a.jpg")
    path = save(tmp_path / "masks/a.png", np.ones((60, 45), np.uint8))
    refused(tmp_path, "masks/a.png", "45 x 60 pixels, but its photo has 60 x 45")
    path.write_bytes(b"text")
    refused(tmp_path, "masks/a.png", "cannot be read as a PNG mask")
    save(path, id_map((1, 2, 3)).astype(np.uint8))
    path.write_bytes(path.read_bytes()[:60])
    refused(tmp_path, "masks/a.png", "cannot be read as a PNG mask")
    with path.open("wb") as file:
        Image.new("L", (60, 45), 1).save(file, "JPEG")
    refused(tmp_path, "masks/a.png", "cannot be read as a PNG mask")


# ---- all of them -------------------------------------------------------------------------------------------


def test_the_masks_to_evaluate() -> None:
    sizes = [4, 0, 9, 1, 4, 25]
    masks = []
    for i, size in enumerate(sizes):
        mask = np.zeros((6, 6), bool)
        mask.flat[i : i + size] = True  # so that the two of 4 differ
        masks.append(encode_mask(mask))
    segments = Segment.of_masks(masks)

    def chosen(**options: int) -> list[int]:
        return [segments.index(one) for one in choose_segments(segments, **options)]

    assert chosen() == [5, 2, 0, 4, 3]  # equals in their order, empty ones out
    assert chosen(min_area=4) == [5, 2, 0, 4]
    assert chosen(min_area=5) == [5, 2]
    assert chosen(limit=3) == [5, 2, 0]
    assert chosen(min_area=26) == choose_segments([]) == []
