"""`segment --pipeline` and `pipeline`: what they write, print and refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from composer.pipeline_files import pipeline_names

STEPS = """\
description: Objects, and the edges of the largest.
steps:
  - {name: all, everything: {points_per_side: 2}}
  - {name: largest, select: {candidates: {from: all}, largest: 1}}
  - {name: again, boxes: {boxes: {from: largest}}}
  - {name: lines, edges: {within: {from: largest}, points_per_side: 2}}
output: [again, lines]
"""


@pytest.fixture
def steps(tmp_path: Path) -> Path:
    path = tmp_path / "steps.yaml"
    path.write_text(STEPS)
    return path


def report(path: Path) -> dict:
    return json.loads(path.read_text())


def test_a_folder_by_a_pipeline(segment, photos: Path, steps: Path, tmp_path: Path) -> None:
    ended = segment(photos, "--pipeline", steps)
    assert (ended.code, ended.err) == (0, "") and ended.out.startswith("3 of 3 images done: 3 masks")
    out = tmp_path / "out"
    for stem in ("a", "b", "c"):
        found = report(out / f"{stem}.json")
        again, lines = found["results"]
        assert (again["name"], again["kind"], again["request"]["boxes"]) == (
            "again",
            "instances",
            {"from": "largest"},
        )
        assert len(again["annotations"]) == 1
        assert (lines["name"], lines["kind"], lines["file"]) == ("lines", "edges", f"{stem}.edges.png")
        assert [step["name"] for step in found["pipeline"]["steps"]] == ["all", "largest", "again", "lines"]
        assert {"read", "encode", "steps.all", "steps.lines"} <= set(found["timings"])
        for name in (f"{stem}.overlay.png", f"{stem}.edges.overlay.png", f"{stem}.edges.png"):
            with Image.open(out / name) as picture:
                assert picture.size == (60, 45)
    manifest = report(out / "sam-composer.json")
    assert manifest["requests"] == [] and manifest["pipeline"] == found["pipeline"]


def test_a_report_without_a_pipeline_says_nothing_of_one(segment, photos: Path, tmp_path: Path) -> None:
    assert segment(photos / "a.jpg", "--point", "20,15").code == 0
    found = report(tmp_path / "out/a.json")
    assert "pipeline" not in found and "name" not in found["results"][0]


def test_a_folder_of_another_pipeline_is_refused(segment, photos: Path, steps: Path) -> None:
    photo = photos / "a.jpg"
    assert segment(photo, "--pipeline", steps).code == 0
    copy = steps.with_name("copy.yaml")
    copy.write_text(STEPS)
    assert segment(photo, "--pipeline", copy).code == 0  # another name for the same steps
    steps.write_text(STEPS.replace("largest: 1", "largest: 2"))
    ended = segment(photo, "--pipeline", steps)
    assert ended.code == 2 and "holds results of another run, which asked for the pipeline of" in ended.error
    ended = segment(photo, "--point", "20,15")
    assert ended.code == 2 and "this one asks for points" in ended.error
    assert segment(photo, "--pipeline", steps, "--overwrite").code == 0


@pytest.mark.parametrize(
    "options",
    [
        ("--point", "5,5"),
        ("--box", "1,1,9,9"),
        ("--detect",),
        ("--everything",),
        ("--proposals",),
        ("--edges",),
        ("--class", "dog"),
        ("--conf", "0"),
        ("--thin",),
        ("--edge-source", "masks"),
        ("--masks", "all"),
        ("--points-per-side", "4"),
    ],
)
def test_other_prompts_beside_it(segment, photos: Path, steps: Path, options: tuple[str, ...]) -> None:
    ended = segment(photos / "a.jpg", "--pipeline", steps, *options)
    assert ended.code == 2 and ended.error.startswith(f"error: {options[0]} and --pipeline: ")


def test_a_detector_for_the_steps_that_need_one(segment, photos: Path, steps: Path, tmp_path: Path) -> None:
    found = [{"image_id": 1, "category_id": 4, "bbox": [5, 5, 30, 20], "score": 0.75}]
    (tmp_path / "results.json").write_text(json.dumps(found))
    about = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 60, "height": 45}],
        "categories": [{"id": 4, "name": "dog"}],
    }
    (tmp_path / "photos.json").write_text(json.dumps(about))
    options = ("--detector", tmp_path / "results.json", "--annotations", tmp_path / "photos.json")
    ended = segment(photos / "a.jpg", "--pipeline", steps, *options)
    assert ended.code == 2 and "--detector: pipeline steps has no detect or text step" in ended.error
    # `tiny` has weights whose masks fill the box; the small model's may be empty.
    ended = segment(photos / "a.jpg", "--pipeline", "detected", *options, "--preset", "tiny")
    assert (ended.code, ended.err) == (0, "")
    (result,) = report(tmp_path / "out/a.json")["results"]
    assert [(one["label"], one["detector_score"]) for one in result["annotations"]] == [("dog", 0.75)]


def test_a_bad_pipeline_is_told_before_a_model_is_loaded(segment, photos: Path, steps: Path) -> None:
    steps.write_text(STEPS.replace("largest: 1", "largest: 0"))
    ended = segment(photos / "a.jpg", "--pipeline", steps, "--preset", "none.yaml")
    assert ended.code == 2 and f"{steps}:4: step 'largest': largest must be" in ended.error
    ended = segment(photos / "a.jpg", "--pipeline", "larges")
    assert ended.code == 2 and "did you mean 'largest'?" in ended.error


def test_an_image_that_a_step_refuses_fails_alone(segment, photos: Path, tmp_path: Path) -> None:
    steps = tmp_path / "click.yaml"
    steps.write_text("steps: [{name: click, points: {points: [[59, 44]]}}]")
    Image.new("RGB", (20, 20)).save(photos / "d.png")
    ended = segment(photos, "--pipeline", steps)
    assert ended.code == 4 and "d.png: step 'click': point 0" in ended.error


def test_list(cli) -> None:
    ended = cli("pipeline", "list")
    assert ended.code == 0
    for name in pipeline_names():
        assert f"\n{name} " in ended.out
    assert "configs/pipelines" in ended.out


def test_show(cli, steps: Path, tmp_path: Path) -> None:
    ended = cli("pipeline", "show", steps, "--out", tmp_path / "graph.png")
    assert ended.code == 0 and ended.err == ""
    for text in ("steps: Objects, and", "candidates ← all", "again  boxes  → output", "points_per_side: 2"):
        assert text in ended.out
    with Image.open(tmp_path / "graph.png") as picture:
        assert picture.width > 500
    ended = cli("pipeline", "show", steps, "--out", tmp_path / "graph.gif")
    assert ended.code == 2 and ".png, .svg, .pdf" in ended.error


def test_check(cli, steps: Path) -> None:
    ended = cli("pipeline", "check", steps)
    assert (ended.code, ended.out) == (0, f"{steps}: 4 steps, output again, lines: all right\n")
    steps.write_text(STEPS.replace("{from: all}", "{from: al}"))
    ended = cli("pipeline", "check", steps)
    assert ended.code == 2
    assert ended.error == (
        f"error: {steps}:4: step 'largest': candidates comes from step 'al', and there is no such step: "
        "did you mean 'all'?"
    )
