"""`eval points`, `eval boxes` and `eval thresholds` as they are called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adapters.base import Scene
from adapters.results import Instances
from adapters.rle import encode_mask
from adapters.windows import segment_boxes
from composer import Composer
from composer.evaluation.ground_truth import open_mask_folder
from composer.evaluation.scoring import evaluate_points

MAGIC = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


@pytest.fixture
def labelled(photos: Path) -> Path:
    """The photos again, each with the same three segments, in all three formats."""
    root = photos.parent
    photos.rename(root / "images")
    ids = np.zeros((45, 60), np.uint8)
    ids[5:25, 5:25], ids[30:44, 10:50], ids[2:6, 50:56] = 1, 2, 3
    (root / "masks").mkdir()
    (root / "panoptic").mkdir()
    listed, annotations, segments = [], [], []
    for number, path in enumerate(sorted((root / "images").iterdir())):
        Image.fromarray(ids).save(root / f"masks/{path.stem}.png")
        coded = np.stack([ids, ids * 0, ids * 0], 2)
        Image.fromarray(coded).save(root / f"panoptic/{path.stem}.png")
        listed.append({"id": number, "file_name": path.name, "height": 45, "width": 60})
        infos = [{"id": i, "category_id": 1, "iscrowd": 0, "area": int((ids == i).sum())} for i in (1, 2, 3)]
        segments.append({"image_id": number, "file_name": f"{path.stem}.png", "segments_info": infos})
        for i in (1, 2, 3):
            rle = encode_mask(ids == i)
            counts = {"size": rle["size"], "counts": rle["counts"].decode()}
            annotations.append({"id": len(annotations), "image_id": number, "segmentation": counts})
    categories = [{"id": 1, "name": "thing", "isthing": 1}]
    index = {"images": listed, "categories": categories}
    (root / "panoptic.json").write_text(json.dumps({**index, "annotations": segments}))
    (root / "instances.json").write_text(json.dumps({**index, "annotations": annotations}))
    return root


@pytest.fixture
def evaluate(cli, small_preset: Path):
    def call(what: str, *arguments: object):
        return cli("eval", what, "--preset", small_preset, "--device", "cpu", *arguments)

    return call


def test_three_formats_one_answer(evaluate, labelled: Path, small_preset: Path, tmp_path: Path) -> None:
    sources = {
        "panoptic": ("--panoptic", labelled),
        "coco": ("--coco", labelled / "images", labelled / "instances.json"),
        "masks": ("--masks", labelled),
    }
    reports = {}
    for name, source in sources.items():
        ended = evaluate("points", *source, "--json", tmp_path / f"{name}.json")
        assert ended.code == 0 and ended.err == ""
        assert "9 clicks" in ended.out and "9 masks in 3 photos" in ended.out
        reports[name] = json.loads((tmp_path / f"{name}.json").read_text())
    first = reports["panoptic"]
    assert set(first["miou"]) == set(first["oracle"]) == {"1", "2", "3", "5", "9"}
    assert (first["masks"], first["images"]) == (9, 3)
    for report in reports.values():
        assert (report["miou"], report["oracle"]) == (first["miou"], first["oracle"])
    composer = Composer.load(small_preset, device="cpu")
    expected = evaluate_points(composer.open, open_mask_folder(labelled), [1, 2])
    assert first["miou"]["2"] == pytest.approx(expected.miou[2], abs=1e-5)
    assert f"{expected.miou[1]:.1%}" in ended.out


def test_the_report_says_what_it_is_about(evaluate, labelled: Path, tmp_path: Path) -> None:
    ended = evaluate(
        "boxes", "--masks", labelled, "--limit-images", 2, "--max-masks-per-image", 2, "--min-area", 10,
        "--json", tmp_path / "new/boxes.json",
    )  # fmt: skip
    assert ended.code == 0 and "box filled" in ended.out
    report = json.loads((tmp_path / "new/boxes.json").read_text())
    assert (report["masks"], report["images"], report["min_area"]) == (4, 2, 10)
    assert report["box_filled"] == 1.0  # the two largest are boxes themselves
    assert report["preset"] == "small" and len(report["weights_sha256"]) == 64
    assert report["data"] == str(labelled) and report["command"].startswith("sam-composer")


def test_boxes_looked_at_closely(
    evaluate, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zooms: list[float] = []

    def noted(scene: Scene, boxes: Any, *, zoom: float, **how: Any) -> Instances:
        zooms.append(zoom)
        return segment_boxes(scene, boxes, zoom=zoom, **how)

    monkeypatch.setattr("adapters.boxes.segment_boxes", noted)
    call = ("boxes", "--masks", labelled, "--json", tmp_path / "boxes.json")
    assert evaluate(*call, "--zoom", 2).code == 0
    assert set(zooms) == {2} and json.loads((tmp_path / "boxes.json").read_text())["box_zoom"] == 2
    ended = evaluate(*call, "--zoom", 99)
    assert ended.code == 3 and "zoom must be 0" in ended.error


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
@pytest.mark.parametrize("what", ["points", "boxes", "thresholds"])
def test_plots(evaluate, labelled: Path, tmp_path: Path, what: str, suffix: str) -> None:
    grid = ("--points-per-side", 2) if what == "thresholds" else ()
    path = tmp_path / f"plot{suffix}"
    assert evaluate(what, "--masks", labelled, "--limit-images", 1, *grid, "--plot", path).code == 0
    content = path.read_bytes()
    assert content.startswith(MAGIC[suffix]) and len(content) > 2000


def test_thresholds(evaluate, labelled: Path, tmp_path: Path) -> None:
    ended = evaluate("thresholds", "--masks", labelled, "--points-per-side", 3, "--json", tmp_path / "t.json")
    assert ended.code == 0 and "precision" in ended.out and "9 segments in 3 photos" in ended.out
    report = json.loads((tmp_path / "t.json").read_text())
    assert report["points_per_side"] == 3 and report["preset"] == "small"
    best = max(row["f1"] for row in report["rows"])
    assert report["best"]["f1"] == best and report["best"] in report["rows"]


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        ((), 2, "give one of --panoptic DIR, --coco IMAGES ANN and --masks DIR"),
        (("--masks", "{root}", "--panoptic", "{root}"), 2, "give one of"),
        (("--masks", "{root}/nowhere"), 2, "no such folder"),
        (("--panoptic", "{root}/images"), 3, "panoptic.json"),
        (("--masks", "{root}", "--clicks", "1,x"), 2, "whole numbers"),
        (("--masks", "{root}", "--clicks", "0"), 2, "from 1 to 100"),
        (("--masks", "{root}", "--min-area", "5000"), 3, "nothing to evaluate"),
        (("--masks", "{root}", "--limit-images", "0"), 2, "--limit-images"),
        (("--masks", "{root}", "--plot", "x.jpg"), 2, ".png, .svg, .pdf"),
        (("--masks", "{root}", "--json", "{root}"), 2, "is a folder"),
        (("--masks", "{root}", "--json", "{root}/panoptic.json/x.json"), 6, "cannot be written"),
        (("--masks", "{root}", "--preset", "tinny"), 2, "did you mean 'tiny'?"),
        (("--masks", "{root}", "--checkpoint", "none.pth"), 5, "none.pth"),
    ],
)
def test_wrong_calls(evaluate, labelled: Path, options: tuple[str, ...], code: int, reason: str) -> None:
    ended = evaluate("points", *(option.format(root=labelled) for option in options))
    assert ended.code == code and ended.out == ""
    assert ended.error.startswith("error: ") and reason in ended.error


def test_a_photo_that_is_gone_and_one_that_is_damaged(evaluate, labelled: Path) -> None:
    (labelled / "images/b.jpg").write_bytes(b"text")
    ended = evaluate("boxes", "--panoptic", labelled)
    assert ended.code == 3 and "b.jpg" in ended.error
    (labelled / "images/b.jpg").unlink()
    ended = evaluate("boxes", "--panoptic", labelled)
    assert ended.code == 3 and "there is no such photo" in ended.error


def test_a_map_of_another_size(evaluate, labelled: Path) -> None:
    Image.new("L", (9, 9)).save(labelled / "masks/a.png")
    ended = evaluate("boxes", "--masks", labelled)
    assert ended.code == 3 and "9 x 9 pixels, but its photo has 60 x 45" in ended.error


@pytest.mark.parametrize("what", ["boxes", "thresholds"])
@pytest.mark.parametrize(
    ("name", "shown"),
    [("[bold]$\\nonsense{$", "[bold]$\\nonsense{$"), ("x\n\x1b[31mred", "x \\x1b[31mred")],
)
def test_a_folder_s_name_cannot_break_the_table_the_plot_or_the_terminal(
    evaluate, labelled: Path, tmp_path: Path, what: str, name: str, shown: str
) -> None:
    odd = tmp_path / name
    odd.mkdir()
    for part in ("images", "masks"):
        (labelled / part).rename(odd / part)
    grid = ("--points-per-side", 2) if what == "thresholds" else ()
    ended = evaluate(what, "--masks", odd, *grid, "--plot", tmp_path / "p.png")
    assert (ended.code, ended.err) == (0, "")
    title = " ".join(ended.out.split("┏")[0].split())  # a narrow table breaks it
    assert title.endswith(f": small on {shown}") and (tmp_path / "p.png").is_file()


def test_the_folder_that_one_is_in_has_a_name(
    evaluate, labelled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(labelled)
    ended = evaluate("boxes", "--masks", ".")
    assert f"boxes:smallon{labelled.name}" in "".join(ended.out.split())  # a narrow table breaks its title


@pytest.mark.parametrize("option", ["--json", "--plot"])
def test_what_cannot_be_written_shows_before_any_work(
    evaluate, labelled: Path, tmp_path: Path, option: str
) -> None:
    too_long = tmp_path / f"{'x' * 300}.png"
    for path in (Path("/proc/nowhere/r.png"), Path("/proc/r.png"), too_long):
        ended = evaluate("boxes", "--masks", labelled, option, path)
        assert (ended.code, ended.out) == (6, "")  # no table: nothing has been evaluated
        assert str(path.parent) in ended.error and "cannot be written" in ended.error


@pytest.mark.parametrize("clicks", ["", "1,,3", "1.5", "9" * 5000])
def test_clicks_that_are_no_numbers(evaluate, labelled: Path, clicks: str) -> None:
    ended = evaluate("points", "--masks", labelled, "--clicks", clicks)
    assert (ended.code, ended.out) == (2, "") and "expected whole numbers" in ended.error


def test_groups_and_random_clicks(evaluate, labelled: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in (labelled / "images").iterdir())
    lines = ["file_name,light", *(f"{name},{light}" for name, light in zip(names, "xyx", strict=True))]
    (tmp_path / "m.csv").write_text("\n".join(lines))
    ended = evaluate(
        "points", "--masks", labelled, "--clicks", "1,2", "--clicker", "random", "--seed", 5,
        "--metadata", tmp_path / "m.csv", "--group-by", "light", "--json", tmp_path / "g.json",
    )  # fmt: skip
    assert ended.code == 0 and "by light" in ended.out, ended.err
    report = json.loads((tmp_path / "g.json").read_text())
    assert report["groups"]["x"]["masks"] == 6 and report["groups"]["y"]["images"] == 1
    one = report["groups"]["x"]["miou"]["2"]
    assert one["low"] <= one["mean"] <= one["high"]
    assert (report["clicker"], report["seed"], report["group_by"]) == ("random", 5, "light")
    ended = evaluate("points", "--masks", labelled, "--seed", 5)
    assert ended.code == 2 and "--seed has no meaning with --clicker deepest" in ended.error
    ended = evaluate("boxes", "--masks", labelled, "--group-by", "light")
    assert ended.code == 2 and "belong together" in ended.error


def test_groups_that_match_nothing(evaluate, labelled: Path, tmp_path: Path) -> None:
    report, metadata = tmp_path / "g.json", tmp_path / "m.csv"
    metadata.write_text("file_name,light\nphotos/a.jpg,x\n")
    call = ("boxes", "--masks", labelled, "--metadata", metadata, "--group-by", "light", "--json", report)
    ended = evaluate(*call, "--preset", "no-such-preset")  # before any model is loaded
    assert ended.code == 3 and "nothing in it has a value of 'light'" in ended.error
    assert "photos/a.jpg, the set a.jpg, b.jpg, c.png" in ended.error and not report.exists()
    # A photo that is in a group, but has no segment of this size: what was measured is kept.
    metadata.write_text("file_name,light\na.jpg,x\n")
    Image.new("L", (60, 45)).save(labelled / "masks/a.png")
    ended = evaluate(*call)
    assert ended.code == 3 and "no evaluated segment has a value of 'light'" in ended.error
    assert json.loads(report.read_text())["masks"] == 6 and "mean IoU" in ended.out


def test_the_limits_of_the_configuration_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from apps.evaluating.options import load_composer
    from composer.limits import Limits

    monkeypatch.setattr("composer.limits.shipped_limits", lambda: Limits(max_pixels=123_456))
    assert load_composer("tiny", None, "cpu", "fp32").limits.max_pixels == 123_456
