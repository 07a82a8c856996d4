"""Three formats of labelled photos give the same masks, and what is wrong with one is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from adapters.rle import decode_masks, encode_mask
from composer.evaluation.ground_truth import (
    GroundTruth,
    Segment,
    choose_segments,
    open_coco,
    open_mask_folder,
    open_panoptic,
)
from sam.errors import BadAnnotation, UsageError

SIZE = (48, 64)


def read(truth: GroundTruth, index: int = 0) -> np.ndarray:
    return decode_masks(truth.images[index].read_masks(SIZE), SIZE)


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    return sorted(m.tobytes() for m in found) == sorted(m.tobytes() for m in expected)


def ids_of(segments: np.ndarray, values: tuple[int, ...] = (1, 2, 3)) -> np.ndarray:
    return (segments * np.array(values).reshape(-1, 1, 1)).max(0)


def save_json(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def panoptic(folder: Path, segments: np.ndarray, crowd: bool = False) -> dict:
    """panoptic.json and a map with ids beyond one byte; image 7 is a.png, image 3 is b.png."""
    values = (5, 300, 70000)
    ids = ids_of(segments, values)
    coded = np.stack([ids % 256, ids // 256 % 256, ids // 65536], 2).astype(np.uint8)
    (folder / "panoptic").mkdir()
    annotations = []
    for image_id, name in ((7, "a.png"), (3, "b.png")):
        Image.fromarray(coded).save(folder / "panoptic" / name)
        infos = [
            {"id": v, "category_id": 1, "iscrowd": int(crowd and v == 5), "area": int((ids == v).sum())}
            for v in values
        ]
        annotations.append({"image_id": image_id, "file_name": name, "segments_info": infos})
    photos = [
        {"id": i, "file_name": name, "height": SIZE[0], "width": SIZE[1]}
        for i, name in ((7, "a.png"), (3, "b.png"))
    ]
    index = {
        "images": photos,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "thing", "isthing": 1}],
    }
    save_json(folder / "panoptic.json", index)
    return index


def coco(segmentations: list[object], crowd: tuple[int, ...] = ()) -> dict:
    return {
        "images": [{"id": 4, "file_name": "a.png"}, {"id": 9, "file_name": "b.png"}],
        "annotations": [
            {"id": i, "image_id": 4, "category_id": 1, "segmentation": s, "iscrowd": int(i in crowd)}
            for i, s in enumerate(segmentations)
        ],
        "categories": [{"id": 1, "name": "thing"}],
    }


def uncompressed(mask: np.ndarray) -> dict:
    flat = mask.ravel(order="F").astype(np.int8)
    runs = np.flatnonzero(np.diff(np.concatenate([[0], flat, [-1]])))
    return {"size": list(SIZE), "counts": np.diff(np.concatenate([[0], runs])).tolist()}


def compressed(mask: np.ndarray) -> dict:
    rle = encode_mask(mask)
    return {"size": list(SIZE), "counts": rle["counts"].decode()}


def test_panoptic(images: Path, segments: np.ndarray) -> None:
    panoptic(images.parent, segments)
    truth = open_panoptic(images.parent)
    assert [image.name for image in truth] == ["b.png", "a.png"]  # by image id
    assert same(read(truth), segments) and same(read(truth, 1), segments)
    assert len(truth.limited(1)) == 1 and len(truth.limited(None)) == 2


def test_panoptic_crowds_are_left_out(images: Path, segments: np.ndarray) -> None:
    panoptic(images.parent, segments, crowd=True)
    assert same(read(open_panoptic(images.parent)), segments[1:])


@pytest.mark.parametrize("encode", [uncompressed, compressed])
def test_coco_rle(images: Path, segments: np.ndarray, encode, tmp_path: Path) -> None:
    path = save_json(tmp_path / "i.json", coco([encode(mask) for mask in segments], crowd=(1,)))
    truth = open_coco(images, path)
    assert [image.name for image in truth] == ["a.png"]  # b.png has no instance
    assert same(read(truth), segments[[0, 2]])


def test_coco_polygons(images: Path, tmp_path: Path) -> None:
    parts = [[10, 10, 30, 10, 30, 20, 10, 20], [40.5, 5, 60, 5, 60, 15.25]]
    truth = open_coco(images, save_json(tmp_path / "i.json", coco([parts])))
    expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(parts, *SIZE))).astype(bool)
    assert same(read(truth), expected[None]) and 200 < expected.sum() < 400


@pytest.mark.parametrize("kind", ["grey8", "grey16", "palette", "rgb", "rgba", "folder"])
def test_mask_files(images: Path, segments: np.ndarray, kind: str) -> None:
    folder = images.parent / "masks"
    folder.mkdir()
    ids = ids_of(segments, (1, 2, 200)).astype(np.uint8)
    path = folder / "a.png"
    if kind == "grey8":
        Image.fromarray(ids).save(path)
    elif kind == "grey16":
        Image.fromarray(ids_of(segments, (1, 300, 60000)).astype(np.uint16)).save(path)
    elif kind == "palette":
        picture = Image.fromarray(ids, "P")
        picture.putpalette([7] * 768)  # one colour for all: the indices count
        picture.save(path)
    elif kind in ("rgb", "rgba"):
        alpha = [np.full_like(ids, 255)] if kind == "rgba" else []
        Image.fromarray(np.stack([np.zeros_like(ids), ids, ids // 2, *alpha], 2)).save(path)
    else:
        (folder / "a").mkdir()
        for i, mask in enumerate(segments):
            Image.fromarray((mask * 255).astype(np.uint8)).save(folder / "a" / f"{i}.png")
    truth = open_mask_folder(images.parent)
    assert [image.name for image in truth] == ["a.png"]
    assert same(read(truth), segments)


def test_overlapping_masks_of_a_folder_stay_whole(images: Path) -> None:
    folder = images.parent / "masks/b"
    folder.mkdir(parents=True)
    whole, part = np.ones(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    part[:9, :9] = 1
    Image.fromarray(whole).save(folder / "0.png")
    Image.fromarray(part).save(folder / "1.png")
    found = read(open_mask_folder(images.parent))
    assert [int(mask.sum()) for mask in found] == [whole.size, 81]


def test_a_map_of_another_size(images: Path, segments: np.ndarray) -> None:
    panoptic(images.parent, segments)
    Image.new("RGB", (10, 10)).save(images.parent / "panoptic/b.png")
    with pytest.raises(BadAnnotation, match=r"b\.png.*10"):
        open_panoptic(images.parent).images[0].read_masks(SIZE)
    (images.parent / "masks").mkdir()
    Image.new("L", (10, 10)).save(images.parent / "masks/a.png")
    with pytest.raises(BadAnnotation, match=r"a\.png: 10 x 10 pixels, but its photo has 64 x 48"):
        open_mask_folder(images.parent).images[0].read_masks(SIZE)


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        ({"size": [9, 9], "counts": [81]}, "9 x 9 pixels, but its photo has 64 x 48"),
        ({"size": list(SIZE), "counts": "??"}, "annotation 0"),
        ([], "must be an RLE or a list of polygons"),
        ([[1, 2, 3, 4]], "must be an RLE or a list of polygons"),
        ([[1, 2, 3, 4, 5, "x"]], "must be an RLE or a list of polygons"),
        ([[1, 2, 300, 4, 5, 6]], "outside its photo of 64 x 48"),
        (None, "must be an RLE or a list of polygons"),
    ],
)
def test_bad_segmentations(images: Path, tmp_path: Path, segmentation: object, reason: str) -> None:
    truth = open_coco(images, save_json(tmp_path / "i.json", coco([segmentation])))
    with pytest.raises(BadAnnotation) as caught:
        truth.images[0].read_masks(SIZE)
    assert reason in str(caught.value) and "i.json: annotation 0" in str(caught.value)


def test_bad_indexes(images: Path, tmp_path: Path, segments: np.ndarray) -> None:
    index = coco([compressed(segments[0])])
    for change, reason in (
        ({"annotations": []}, "no labelled photo"),
        ({"images": []}, "image 4 is annotated, but not listed"),
        ({"images": [{"id": 4, "file_name": "../../etc/passwd"}]}, "i.json"),
        ({"images": [{"id": "four", "file_name": "a.png"}]}, "i.json"),
        ({"annotations": 7}, "i.json"),
    ):
        with pytest.raises(BadAnnotation) as caught:
            open_coco(images, save_json(tmp_path / "i.json", {**index, **change}))
        assert reason in str(caught.value)
    (tmp_path / "i.json").write_text("{")
    with pytest.raises(BadAnnotation, match=r"i\.json"):
        open_coco(images, tmp_path / "i.json")
    with pytest.raises(BadAnnotation, match=r"panoptic\.json"):
        open_panoptic(images.parent)


def test_bad_mask_folders(images: Path) -> None:
    with pytest.raises(BadAnnotation, match="masks: cannot be listed"):
        open_mask_folder(images.parent)
    folder = images.parent / "masks"
    folder.mkdir()
    with pytest.raises(BadAnnotation, match="no labelled photo"):
        open_mask_folder(images.parent)
    (folder / "a.png").write_bytes(b"no picture")
    with pytest.raises(BadAnnotation, match="cannot be read as a PNG mask"):
        open_mask_folder(images.parent).images[0].read_masks(SIZE)
    (folder / "a").mkdir()
    with pytest.raises(BadAnnotation, match="a map and a folder"):
        open_mask_folder(images.parent)
    (folder / "a.png").unlink()
    with pytest.raises(BadAnnotation, match="no mask"):
        open_mask_folder(images.parent).images[0].read_masks(SIZE)
    Image.new("L", (64, 48)).save(folder / "c.png")
    with pytest.raises(BadAnnotation, match=r"c\.png: masks of a photo that is not in"):
        open_mask_folder(images.parent)
    (folder / "c.png").unlink()
    Image.new("L", (64, 48)).save(images / "a.jpg")
    with pytest.raises(BadAnnotation, match="a second photo named 'a'"):
        open_mask_folder(images.parent)


@pytest.mark.parametrize("opener", [open_panoptic, open_mask_folder, lambda p: open_coco(p, p / "x.json")])
def test_a_missing_folder(tmp_path: Path, opener) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        opener(tmp_path / "nowhere")


def test_masks_are_chosen_by_area(segments: np.ndarray) -> None:
    empty = np.zeros((1, *SIZE), bool)
    rles = [encode_mask(mask) for mask in np.concatenate([empty, segments])]
    order = sorted((int(mask.sum()) for mask in segments), reverse=True)

    def areas(*options: object) -> list[int]:
        return [int(s.area) for s in choose_segments(Segment.of_masks(rles), *options)]

    assert areas() == order  # never an empty one
    assert areas(0, 2) == order[:2]
    assert areas(order[1]) == order[:2]
    assert areas(order[0] + 1) == []
