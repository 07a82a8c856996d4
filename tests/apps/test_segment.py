"""`segment`: what it writes, and what it does with every wrong input."""

from __future__ import annotations

import json
import os
import shutil
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image
from pycocotools.coco import COCO

from apps import segmenting
from composer import Composer, Points
from sam.checkpoints import file_digest, save_weights
from sam.image_encoder.compact import CompactConfig
from sam.inference import no_compiler
from sam.model import SegmentAnything
from sam.variants import DecoderConfig, ModelConfig, build_model

CLICK = ("--point", "20,15")
GRID = ("--everything", "--points-per-side", "2")


def report(path: Path) -> dict:
    return json.loads(path.read_text())


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def bomb() -> bytes:
    """A PNG that says that it has 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def test_what_a_detector_found(segment, photos: Path, tmp_path: Path, small_preset: Path) -> None:
    found = [
        {"image_id": 1, "category_id": 4, "bbox": [5, 5, 30, 20], "score": 0.75},
        {"image_id": 1, "category_id": 5, "bbox": [20, 10, 30, 30], "score": 0.1},
    ]
    (tmp_path / "results.json").write_text(json.dumps(found))
    about = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 60, "height": 45}],
        "categories": [{"id": 4, "name": "dog"}, {"id": 5, "name": "cat"}],
    }
    (tmp_path / "photos.json").write_text(json.dumps(about))
    options = ("--detector", tmp_path / "results.json", "--annotations", tmp_path / "photos.json")
    ended = segment(
        photos / "a.jpg", "--detect", *options, "--conf", "0", "--class", "dog", "--preset", "tiny"
    )
    assert (ended.code, ended.err) == (0, "")
    (result,) = report(tmp_path / "out/a.json")["results"]
    assert result["request"]["kind"] == "detect" and result["request"]["conf"] == 0
    assert [(one["label"], one["detector_score"]) for one in result["annotations"]] == [("dog", 0.75)]
    (companion,) = report(tmp_path / "out/a.json")["model"]["companions"]
    assert (companion["kind"], companion["name"]) == ("detector", "results.json")
    assert companion["sha256"] == file_digest(tmp_path / "results.json")
    assert companion["annotations_sha256"] == file_digest(tmp_path / "photos.json")
    ended = segment(photos / "a.jpg", "--everything", "--class", "dog")
    assert ended.code == 2 and "--class belongs to --detect" in ended.err
    ended = segment(photos / "a.jpg", "--detect", "--overwrite")
    assert ended.code == 2 and "preset 'small' has no detector of its own; name one" in ended.err


def test_one_results_file_serves_phrases_and_detect(
    segment, photos: Path, tmp_path: Path, clip_folders: dict[str, Path]
) -> None:
    """The photo's name has no number: only the annotations say which one it is, and what class 5 is."""
    found = [
        {"image_id": 1, "category_id": 4, "bbox": [5, 5, 30, 20], "score": 0.75},
        {"image_id": 1, "category_id": 5, "bbox": [20, 10, 30, 30], "score": 0.5},
    ]
    (tmp_path / "people.json").write_text(json.dumps(found))
    about = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 60, "height": 45}],
        "categories": [{"id": 4, "name": "person"}, {"id": 5, "name": "bus"}],
    }
    (tmp_path / "names.json").write_text(json.dumps(about))
    words = ("--text", "person", "--text", "bus", "--clip", clip_folders["softmax"], "--preset", "tiny")
    models = ("--detector", tmp_path / "people.json", "--annotations", tmp_path / "names.json")
    ended = segment(photos / "a.jpg", *words, "--detect", *models)
    assert (ended.code, ended.err) == (0, "")
    phrases, detected = report(tmp_path / "out/a.json")["results"]
    assert phrases["request"]["annotations"] == str(tmp_path / "names.json")
    named = [(a["label"], a["text_score"]) for a in phrases["annotations"] if a["route"] == "detect"]
    assert named == [("person", 0.75), ("bus", 0.5)]
    assert [one["label"] for one in detected["annotations"]] == ["person", "bus"]
    ended = segment(photos / "a.jpg", *CLICK, *models[2:])
    assert ended.code == 2 and "--annotations belongs to --detect or --text" in ended.err


def test_a_pipelines_text_step_takes_the_annotations_too(
    segment, photos: Path, tmp_path: Path, clip_folders: dict[str, Path]
) -> None:
    found = [{"image_id": 1, "category_id": 4, "bbox": [5, 5, 30, 20], "score": 0.75}]
    (tmp_path / "people.json").write_text(json.dumps(found))
    about = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "categories": [{"id": 4, "name": "person"}],
    }
    (tmp_path / "names.json").write_text(json.dumps(about))
    (tmp_path / "steps.yaml").write_text("steps: [{name: people, text: {phrases: [person], route: detect}}]")
    models = ("--detector", tmp_path / "people.json", "--annotations", tmp_path / "names.json")
    options = ("--clip", clip_folders["softmax"], "--preset", "tiny")
    ended = segment(photos / "a.jpg", "--pipeline", tmp_path / "steps.yaml", *models, *options)
    assert (ended.code, ended.err) == (0, "")
    (result,) = report(tmp_path / "out/a.json")["results"]
    assert [one["label"] for one in result["annotations"]] == ["person"]


def test_a_click(segment, photos: Path, tmp_path: Path, small_preset: Path) -> None:
    ended = segment(photos / "a.jpg", *CLICK)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("1 image done: 1 mask in ") and str(tmp_path / "out") in ended.out
    assert names(tmp_path / "out") == {"a.json", "a.overlay.png", "sam-composer.json"}
    found = report(tmp_path / "out/a.json")
    assert found["image"]["file_name"] == "a.jpg"
    assert (found["image"]["width"], found["image"]["height"]) == (60, 45)
    assert found["model"]["preset"] == "small" and len(found["model"]["weights_sha256"]) == 64
    assert set(found["timings"]) == {"read", "encode", "points"}
    (result,) = found["results"]
    assert result["request"] == {"kind": "points", "points": [[[20, 15]]], "labels": [[1]], "masks": "best"}
    (annotation,) = result["annotations"]

    scene = Composer.load(small_preset, device="cpu").open(photos / "a.jpg")
    expected = scene.run(Points([[20, 15]]))
    assert annotation["area"] == expected.areas[0]
    assert annotation["score"] == pytest.approx(expected.scores[0], rel=1e-4)


def test_all_points_are_clicks_on_one_object_and_each_box_is_an_object(
    segment, photos: Path, tmp_path: Path
) -> None:
    boxes = ("--box", "1,2,30,40", "--box", "20,5,59,44")
    ended = segment(photos / "a.jpg", *CLICK, "--point", "30,20,0", *boxes, *GRID)
    assert ended.code == 0
    points, box, everything = report(tmp_path / "out/a.json")["results"]
    assert points["request"]["points"] == [[[20, 15], [30, 20]]]
    assert points["request"]["labels"] == [[1, 0]]
    assert len(points["annotations"]) == 1
    assert box["request"]["boxes"] == [[1, 2, 30, 40], [20, 5, 59, 44]]
    assert len(box["annotations"]) == 2
    assert everything["request"]["points_per_side"] == 2
    assert set(report(tmp_path / "out/a.json")["timings"]) == {
        "read",
        "encode",
        "points",
        "boxes",
        "everything",
    }


def test_all_masks_of_an_ambiguous_click(segment, photos: Path, tmp_path: Path) -> None:
    assert segment(photos / "a.jpg", *CLICK, "--masks", "all").code == 0
    (result,) = report(tmp_path / "out/a.json")["results"]
    assert {one["ambiguity"] for one in result["annotations"]} == {0, 1, 2}


def test_the_grid_options_reach_the_request(segment, photos: Path, tmp_path: Path) -> None:
    options = {
        "pred_iou_thresh": 0.5,
        "stability_score_thresh": 0.25,
        "crop_n_layers": 1,
        "min_mask_region_area": 9,
    }
    flags = [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", value)]
    assert segment(photos / "a.jpg", *GRID, *flags).code == 0
    (result,) = report(tmp_path / "out/a.json")["results"]
    assert result["request"] | options == result["request"]


def test_every_format(segment, photos: Path, tmp_path: Path) -> None:
    ended = segment(photos, *CLICK, "--format", "coco,sa1b,yolo,labelme,masks", "--no-overlay")
    assert ended.code == 0
    out = tmp_path / "out"
    folders = {"coco", "sa1b", "yolo", "labelme", "masks"}
    assert names(out) == {"a.json", "b.json", "c.json", "sam-composer.json"} | folders
    dataset = COCO(out / "coco/instances.json")
    assert len(dataset.imgs) == 3 and len(dataset.anns) == 3


def test_one_bad_file_of_three_costs_itself_only(segment, photos: Path, tmp_path: Path) -> None:
    (photos / "b.jpg").write_bytes((photos / "b.jpg").read_bytes()[:600])
    ended = segment(photos, *CLICK, "--format", "coco")
    assert ended.code == 4
    assert ended.error.startswith(f"error: {photos / 'b.jpg'}: damaged or cut off")
    assert ended.out.startswith("2 of 3 images done, 1 failed: 2 masks")
    assert {"a.json", "c.json"} <= names(tmp_path / "out")
    assert not [name for name in names(tmp_path / "out") if name.startswith("b")]
    assert len(report(tmp_path / "out/coco/instances.json")["images"]) == 2


def test_where_none_of_several_can_be_done_the_code_says_what_was_wrong(
    segment, photos: Path, tmp_path: Path
) -> None:
    ended = segment(photos, "--point", "500,15")
    assert ended.code == 3
    assert len(ended.err.splitlines()) == 3 and "outside the image" in ended.err
    assert names(tmp_path / "out") == set()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"I am no picture", "no image format"),
        (b"", "0 bytes"),
        (bomb(), "too large"),
        (b"%PDF-1.7", "PDF"),
    ],
    ids=["text", "empty", "bomb", "pdf"],
)
def test_what_is_no_picture(segment, tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "x.jpg").write_bytes(content)
    ended = segment(tmp_path / "x.jpg", *CLICK)
    assert ended.code == 3 and ended.out == ""
    assert ended.error.startswith(f"error: {tmp_path / 'x.jpg'}: ") and reason in ended.error


def test_files_that_are_none(segment, photos: Path, tmp_path: Path) -> None:
    os.mkfifo(photos / "pipe.jpg")
    (photos / "dangling.jpg").symlink_to(tmp_path / "gone.jpg")
    (photos / "loop.jpg").symlink_to(photos / "loop.jpg")
    ended = segment(photos, *CLICK)
    assert ended.code == 4
    assert [Path(line.split(": ")[1]).name for line in ended.err.splitlines()] == [
        "dangling.jpg",
        "loop.jpg",
        "pipe.jpg",
    ]
    assert ended.out.startswith("3 of 6 images done, 3 failed")


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        (("--point", "60,15"), 3, "outside the image, 60 px wide and 45 px high"),
        (("--box", "5,5,90,20"), 3, "outside the image"),
        (("--box", "5,5,3,20"), 3, "x2 must exceed x1"),
        (("--point", "5,5,2"), 3, "label 2"),
        (("--point", "nan,5"), 3, "finite"),
        (("--point", "5"), 2, "X,Y,LABEL"),
        (("--point", "a,b"), 2, "X,Y,LABEL"),
        (("--box", "5,5,3"), 2, "X1,Y1,X2,Y2"),
        ((), 2, "--point X,Y, --box X1,Y1,X2,Y2, --text PHRASE, --detect"),
        (("--points-per-side", "4"), 2, "--points-per-side belongs to --everything"),
        (("--everything", "--points-per-side", "0"), 3, "points_per_side"),
        (("--everything", "--points-per-side", "x"), 2, "--points-per-side"),
        (("--zoom", "2", *CLICK), 2, "--zoom belongs to --box or --detect"),
        (("--zoom", "1", "--box", "1,1,9,9"), 3, "zoom must be 0 (no windows), or from 1.25 to 16, not 1.0"),
        (("--zoom", "2", "--pipeline", "text-edges"), 2, "--zoom and --pipeline"),
        ((*CLICK, "--masks", "some"), 2, "--masks"),
        ((*CLICK, "--preset", "tinny"), 2, "did you mean 'tiny'?"),
        ((*CLICK, "--preset", "no.yaml"), 2, "no.yaml: no such file"),
        ((*CLICK, "--format", "json,cocoo"), 2, "'cocoo'; known: json, coco"),
        ((*CLICK, "--device", "tpu"), 2, "auto, cpu, cuda"),
        ((*CLICK, "--device", "cuda:99"), 6, "not available"),
        ((*CLICK, "--precision", "fp8"), 2, "fp8"),
        ((*CLICK, "--checkpoint", "none.pth"), 5, "none.pth: no such weights file"),
        ((*CLICK, "--pont", "1,2"), 2, "--pont"),
        ((*CLICK, "--out"), 2, "--out"),
    ],
)
def test_wrong_options(segment, photos: Path, options: tuple[str, ...], code: int, reason: str) -> None:
    ended = segment(photos / "a.jpg", *options)
    assert ended.code == code and ended.out == ""
    assert ended.error.startswith("error: ") and reason in ended.error


def test_small_boxes_in_windows_of_their_own(segment, photos: Path, tmp_path: Path) -> None:
    """Two boxes apart, and one that is large: two windows beside the photo as a whole."""
    boxes = ("--box", "2,2,10,10", "--box", "45,30,55,40", "--box", "0,0,60,45")
    assert segment(photos / "a.jpg", *boxes, "--zoom", "2").code == 0
    found = report(tmp_path / "out/a.json")
    assert found["encoder_passes"] == 3
    (result,) = found["results"]
    assert result["request"]["zoom"] == 2 and [one["prompt_index"] for one in result["annotations"]] == [
        0,
        1,
        2,
    ]


def test_a_missing_folder_a_missing_file_and_a_folder_without_images(segment, tmp_path: Path) -> None:
    assert (segment(tmp_path / "nowhere", *CLICK)).code == 2
    ended = segment(tmp_path / "nowhere.jpg", *CLICK)
    assert ended.code == 2 and "no such file" in ended.error
    (tmp_path / "void").mkdir()
    ended = segment(tmp_path / "void", *CLICK)
    assert ended.code == 3 and "no images found" in ended.error


def test_a_checkpoint_of_another_model(segment, photos: Path, tmp_path: Path) -> None:
    encoder = CompactConfig("regnetx_002", 64, 24, 8, 1, 2)
    other = ModelConfig("other", encoder, DecoderConfig(24, 2, 2, 32, 16, 4))
    save_weights(build_model(other), tmp_path / "other.safetensors")
    ended = segment(photos / "a.jpg", *CLICK, "--checkpoint", tmp_path / "other.safetensors")
    assert ended.code == 5
    assert "does not fit the model" in ended.error


def test_a_damaged_checkpoint(segment, photos: Path, tmp_path: Path, small_preset: Path) -> None:
    whole = small_preset.with_name("small.safetensors").read_bytes()
    (tmp_path / "half.safetensors").write_bytes(whole[: len(whole) // 2])
    ended = segment(photos / "a.jpg", *CLICK, "--checkpoint", tmp_path / "half.safetensors")
    assert ended.code == 5 and "damaged" in ended.error


def test_an_output_that_cannot_be_written(segment, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file/below", "/proc/nowhere"):
        ended = segment(photos / "a.jpg", *CLICK, "--out", out)
        assert ended.code == 6
        assert str(out) in ended.error and "cannot be written" in ended.error


def test_an_output_that_fails_on_the_way_ends_the_run_and_keeps_what_is_done(
    segment, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "out/b.overlay.png").mkdir(parents=True)  # a folder where a picture should go
    ended = segment(photos, *CLICK, "--format", "coco", "--overwrite")
    assert ended.code == 6 and "b.overlay.png: cannot be written" in ended.error
    assert ended.out.startswith("1 of 3 images done")
    assert "a.json" in names(tmp_path / "out") and "b.json" not in names(tmp_path / "out")
    assert len(report(tmp_path / "out/coco/instances.json")["images"]) == 1


def test_a_folder_of_another_run_is_refused_until_overwrite(segment, photos: Path, tmp_path: Path) -> None:
    assert segment(photos / "a.jpg", *CLICK).code == 0
    before = report(tmp_path / "out/a.json")
    assert segment(photos / "b.jpg", *CLICK).code == 0  # the same configuration: another photo joins
    ended = segment(photos / "a.jpg", "--point", "1,1")
    assert ended.code == 2 and "another run" in ended.error and "--overwrite" in ended.error
    assert report(tmp_path / "out/a.json") == before
    assert segment(photos / "a.jpg", "--point", "1,1", "--overwrite").code == 0
    assert report(tmp_path / "out/a.json")["results"] != before["results"]
    assert segment(photos / "a.jpg", *CLICK).code == 2


def test_another_photo_of_the_same_name_is_not_overwritten(segment, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "day2").mkdir()
    shutil.copy(photos / "b.jpg", tmp_path / "day2/a.jpg")
    assert segment(photos / "a.jpg", *CLICK, "--format", "coco").code == 0
    before = report(tmp_path / "out/a.json")
    ended = segment(tmp_path / "day2/a.jpg", *CLICK, "--format", "coco")
    assert ended.code == 2 and "a.json: has the results of another photo called a.jpg" in ended.error
    ended = segment(tmp_path / "day2/a.jpg", photos / "b.jpg", *CLICK, "--format", "coco")
    assert ended.code == 4 and report(tmp_path / "out/a.json") == before
    images = report(tmp_path / "out/coco/instances.json")["images"]
    assert sorted(image["file_name"] for image in images) == ["a.jpg", "b.jpg"]
    assert segment(photos / "a.jpg", *CLICK, "--format", "coco").code == 0  # the same photo again
    assert segment(tmp_path / "day2/a.jpg", *CLICK, "--overwrite").code == 0
    assert report(tmp_path / "out/a.json")["image"] != before["image"]


def test_files_that_are_not_ours_are_not_overwritten(segment, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.json").write_text("labels drawn by hand")
    ended = segment(photos / "a.jpg", *CLICK)
    assert ended.code == 2 and "a.json: exists" in ended.error
    assert (tmp_path / "out/a.json").read_text() == "labels drawn by hand"
    assert segment(photos / "b.jpg", *CLICK).code == 0


@pytest.mark.parametrize("content", ["", "[]", "nonsense", "[" * 100_000])
def test_a_damaged_manifest_is_no_crash(segment, photos: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/sam-composer.json").write_text(content)
    ended = segment(photos / "a.jpg", *CLICK)
    assert ended.code == 2 and "--overwrite" in ended.error
    assert segment(photos / "a.jpg", *CLICK, "--overwrite").code == 0


def test_images_of_one_name_get_outputs_of_their_own(segment, photos: Path, tmp_path: Path) -> None:
    Image.new("RGB", (60, 45)).save(photos / "a.png")
    Image.new("RGB", (60, 45)).save(photos / "sam-composer.png")
    assert segment(photos, *CLICK, "--no-overlay").code == 0
    assert names(tmp_path / "out") == {
        "a_jpg.json", "a_png.json", "b.json", "c.json", "sam-composer_png.json", "sam-composer.json"
    }  # fmt: skip
    assert "preset" in report(tmp_path / "out/sam-composer.json")


def test_results_inside_the_photo_folder_are_not_taken_for_photos(segment, photos: Path) -> None:
    for _ in range(2):
        ended = segment(photos, *CLICK, "--out", photos / "out", "--format", "masks,yolo")
        assert ended.code == 0 and ended.out.startswith("3 of 3 images done")
    ended = segment(photos, *CLICK, "--out", photos)
    assert ended.code == 2 and "folder of the photos" in ended.error


def test_a_file_name_cannot_break_the_line_or_the_terminal(segment, photos: Path) -> None:
    (photos / "x\n\x1b[31mred.jpg").write_bytes(b"text")
    ended = segment(photos, *CLICK)
    assert ended.code == 4
    assert "\x1b" not in ended.err and "red.jpg" in ended.error


def test_ctrl_c_keeps_what_is_done(
    segment, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = segmenting.Run.answer

    def interrupted(run: segmenting.Run, path: Path):
        if path.name == "c.png":
            raise KeyboardInterrupt
        return answer(run, path)

    monkeypatch.setattr(segmenting.Run, "answer", interrupted)
    ended = segment(photos, *CLICK, "--format", "coco")
    assert ended.code == 130 and ended.error == "interrupted"
    assert ended.out.startswith("2 of 3 images done")
    assert len(report(tmp_path / "out/coco/instances.json")["images"]) == 2


def test_a_bug_in_one_image_is_told_as_such_and_the_others_are_done(
    segment, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = segmenting.Run.answer

    def faulty(run: segmenting.Run, path: Path):
        if path.name == "b.jpg":
            raise ZeroDivisionError("oops")
        return answer(run, path)

    monkeypatch.setattr(segmenting.Run, "answer", faulty)
    ended = segment(photos, *CLICK)
    assert ended.code == 1 and ended.out.startswith("2 of 3 images done, 1 failed")
    assert "b.jpg: a bug of sam-composer: ZeroDivisionError: oops" in ended.error
    ended = segment(photos, *CLICK, "--debug")
    assert "Traceback" in ended.err and "in faulty" in ended.err


def test_memory_that_does_not_suffice_costs_that_image_only(
    segment, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = segmenting.Run.answer

    def greedy(run: segmenting.Run, path: Path):
        if path.name == "b.jpg":
            raise MemoryError
        return answer(run, path)

    monkeypatch.setattr(segmenting.Run, "answer", greedy)
    ended = segment(photos, *CLICK)
    assert ended.code == 4 and "b.jpg: not enough memory" in ended.error
    ended = segment(photos / "b.jpg", *CLICK)
    assert ended.code == 6 and "not enough memory" in ended.error


def test_edges_and_proposals(segment, photos: Path, tmp_path: Path) -> None:
    ended = segment(photos / "a.jpg", "--edges", "--edge-source", "head", "--thin", "--proposals", 7)
    assert (ended.code, ended.err) == (0, "")
    out = tmp_path / "out"
    assert names(out) == {
        "a.json", "a.edges.png", "a.overlay.png", "a.edges.overlay.png", "sam-composer.json"
    }  # fmt: skip
    proposals, edges = report(out / "a.json")["results"]
    assert proposals["request"]["limit"] == 7 and len(proposals["annotations"]) <= 7
    assert all(a["score_kind"] == "proposal_score" for a in proposals["annotations"])
    assert (edges["kind"], edges["file"]) == ("edges", "a.edges.png")
    assert (edges["request"]["source"], edges["request"]["thin"]) == ("head", True)
    with Image.open(out / "a.edges.png") as picture:
        assert picture.mode.startswith("I;16") and picture.size == (60, 45)


@pytest.mark.parametrize("options", [("--proposals", "--no-overlay"), ("--no-overlay", "--proposals")])
def test_proposals_without_a_number_are_a_thousand(
    segment, photos: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    assert segment(photos / "a.jpg", *options).code == 0
    (result,) = report(tmp_path / "out/a.json")["results"]
    assert result["request"]["limit"] == 1000


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--point", "1,1", "--thin"), "--thin belongs to --edges"),
        (("--point", "1,1", "--edge-source", "head"), "--edge-source belongs to --edges"),
        (("--proposals", 0), "Invalid value for '--proposals'"),
        (("--proposals", "10001"), "--proposals"),
        (("--edges", "--edge-source", "sobel"), "--edge-source"),
        (("--proposals", "-3"), "Invalid value for '--proposals'"),
        ((), "--proposals, --edges or --pipeline"),
    ],
)
def test_wrong_options_of_edges_and_proposals(
    segment, photos: Path, options: tuple[str, ...], reason: str
) -> None:
    ended = segment(photos / "a.jpg", *options)
    assert ended.code in (2, 3) and ended.out == "" and reason in ended.error


def test_another_file_of_the_same_name_is_another_run(segment, photos: Path, tmp_path: Path) -> None:
    photo, results = (photos / "a.jpg").rename(photos / "1.jpg"), tmp_path / "results.json"
    found = {"image_id": 1, "category_id": 4, "bbox": [5, 5, 30, 20], "score": 0.75}
    asked = (photo, "--detect", "--detector", results)
    results.write_text(json.dumps([found]))
    assert segment(*asked).code == 0
    assert segment(*asked).code == 0
    results.write_text(json.dumps([found | {"score": 0.5}]))
    ended = segment(*asked)
    assert ended.code == 2 and "results of another run, by results.json (sha256 " in ended.error
    assert segment(*asked, "--overwrite").code == 0
    (companion,) = report(tmp_path / "out/1.json")["model"]["companions"]
    assert companion["sha256"] == file_digest(results)


def test_encoder_passes_are_counted(segment, photos: Path, tmp_path: Path) -> None:
    ended = segment(photos / "a.jpg", *CLICK, "--edges")
    assert ended.code == 0 and " s, 1 encoder pass (and " in ended.out
    assert report(tmp_path / "out/a.json")["encoder_passes"] == 1
    ended = segment(
        photos / "a.jpg", photos / "b.jpg", *GRID, "--crop-n-layers", "1", "--out", tmp_path / "more"
    )
    assert ended.code == 0 and " s, 10 encoder passes (and " in ended.out
    assert report(tmp_path / "more/b.json")["encoder_passes"] == 5


def test_words_at_the_terminal(segment, photos: Path, tmp_path: Path, clip_folders: dict[str, Path]) -> None:
    clip = ("--clip", clip_folders["sigmoid"], "--text-threshold", "0")
    words = (
        "--synonym",
        "sofa=couch",
        "--synonym",
        "sofa = settee",
        "--max-instances",
        "1",
        "--hint",
        "20,15",
        "--text-threshold",
        "sofa=0.25",
    )
    ended = segment(photos / "a.jpg", "--text", "sofa", *words, *clip)
    assert ended.code == 0, ended.err
    (result,) = report(tmp_path / "out/a.json")["results"]
    assert result["request"]["synonyms"] == {"sofa": ["couch", "settee"]}
    assert result["request"]["max_instances"] == 1 and result["request"]["hint_point"] == [20, 15]
    assert result["request"]["threshold"] == 0 and result["request"]["thresholds"] == {"sofa": 0.25}
    (companion,) = report(tmp_path / "out/a.json")["model"]["companions"]
    assert (companion["kind"], companion["name"]) == ("clip", clip_folders["sigmoid"].name)
    assert companion["sha256"] == file_digest(clip_folders["sigmoid"] / "open_clip_model.safetensors")


def test_what_phrases_name(
    segment, photos: Path, tmp_path: Path, small_preset: Path, clip_folders: dict[str, Path]
) -> None:
    # A random text-image model names nothing well, so a detector names it, by its class: a number.
    photo = (photos / "a.jpg").rename(photos / "1.jpg")
    found = [{"image_id": 1, "category_id": 4, "bbox": [5, 5, 30, 20], "score": 0.75}]
    (tmp_path / "results.json").write_text(json.dumps(found))
    clip = ("--clip", clip_folders["softmax"], "--detector", tmp_path / "results.json")
    asked = ("--text", "4", "--text", "cat", "--text-threshold", "0.5")
    ended = segment(photo, *asked, *clip, "--preset", "tiny")
    assert ended.code == 0, ended.err
    (result,) = report(tmp_path / "out/1.json")["results"]
    assert result["request"]["phrases"] == ["4", "cat"] and result["request"]["negatives"] == []
    (one,) = [one for one in result["annotations"] if one["label"] == "4"]
    assert one["route"] == "detect" and one["prompt_index"] == 0
    assert one["score_kind"] == "text_score" and one["score"] == one["text_score"] == 0.75
    assert one["detector_score"] == 0.75 and one["predicted_iou"] is not None
    asked = ("--text", "dog", "--negative", "toy", "--text-threshold", "1")
    ended = segment(photo, *asked, *clip[:2], "--overwrite")
    (result,) = report(tmp_path / "out/1.json")["results"]
    assert ended.code == 0 and result["annotations"] == [] and result["request"]["negatives"] == ["toy"]


def test_one_run_answers_words_and_edges_with_one_encoder_pass(
    segment, photos: Path, tmp_path: Path, clip_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = []
    encode = Composer.encode
    monkeypatch.setattr(Composer, "encode", lambda self, *args: (encoded.append(1), encode(self, *args))[1])
    ended = segment(
        photos / "a.jpg", "--text", "dog", "--text", "cat", "--clip", clip_folders["sigmoid"], "--edges"
    )
    assert ended.code == 0, ended.err
    kinds = [result["kind"] for result in report(tmp_path / "out/a.json")["results"]]
    assert kinds == ["instances", "edges"] and len(encoded) == 1


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--text", ""), 3, "a phrase is empty"),
        (("--text", "sofa", "--synonym", "couch"), 2, "--synonym 'couch': expected PHRASE=WORD"),
        (("--text", "sofa", "--synonym", "bed=cot"), 3, "synonyms: "),
        (("--text", "sofa", "--hint", "3"), 2, "--hint '3': expected X,Y"),
        (("--everything", "--synonym", "a=b"), 2, "--synonym belongs to --text"),
        (("--everything", "--max-instances", "2"), 2, "--max-instances belongs to --text"),
        (("--pipeline", "text-edges", "--hint", "1,2"), 2, "--hint and --pipeline"),
        (("--text", "x" * 10_240), 3, "10,240 characters; give at most 1,000"),
        (("--text", "dog"), 2, "preset 'small' has no text-image model of its own; name one (clip=, --clip)"),
        (("--text", "dog", "--clip", "ViT-B-33", "--pretrained", "openai"), 2, "near: ViT-B-32"),
        (("--text", "dog", "--clip", "ViT-B-32", "--pretrained", "opnai"), 2, "its tags: openai"),
        (("--text", "dog", "--text", "dog"), 3, "'dog' is given twice"),
        (("--text", "dog", "--text-threshold", "2"), 3, "threshold must be a number from 0 to 1"),
        (("--text", "dog", "--text-threshold", "dog=2"), 3, "thresholds must be a number from 0 to 1"),
        (("--text", "dog", "--text-threshold", "cat=.2"), 3, "thresholds"),
        (("--text", "dog", "--text-threshold", "dog"), 2, "'dog': expected T or PHRASE=T"),
        (("--text", "dog", "--text-threshold", ".2", "--text-threshold", ".3"), 2, "a second one for all"),
        (("--negative", "dog", *CLICK), 2, "--negative belongs to --text"),
        (("--conf", "0.3", "--text", "dog"), 2, "--conf belongs to --detect"),
    ],
)
def test_what_is_wrong_with_phrases(
    segment, photos: Path, options: tuple[str, ...], code: int, message: str
) -> None:
    ended = segment(photos / "a.jpg", *options)
    assert ended.code == code and message in ended.err, ended.err


def test_the_token_route_without_a_text_slot(segment, photos: Path, clip_folders: dict[str, Path]) -> None:
    ended = segment(photos / "a.jpg", "--text", "dog", "--route", "token", "--clip", clip_folders["softmax"])
    assert ended.code == 3 and "trained with a text slot" in ended.err


def test_compile_is_passed_on_and_a_missing_compiler_is_one_line(
    segment, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(model: SegmentAnything, *, compile: bool) -> None:
        if compile:
            raise no_compiler(RuntimeError("No working C++ compiler found\nin any of: g++"))

    monkeypatch.setattr(SegmentAnything, "prepare", refuse)
    assert segment(photos / "a.jpg", *CLICK).code == 0
    ended = segment(photos / "a.jpg", *CLICK, "--compile", "--overwrite")
    assert ended.code == 6
    assert "No working C++ compiler found" in ended.error and "load without compiling" in ended.error
