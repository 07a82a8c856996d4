"""Which sets a folder holds, and what the report says of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from composer.evaluation.whole_report import FoundSet, Section, find_sets, markdown, write_report
from sam.errors import BadAnnotation, UsageError

ABOUT = {
    "preset": "tiny",
    "weights_sha256": "ab",
    "model": {"weights": "w"},
    "command": "sam-composer eval all",
}


def test_sets_are_found_by_what_is_in_them(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/panoptic.json").touch()
    (tmp_path / "b/images").mkdir(parents=True)
    (tmp_path / "b/instances.json").touch()
    (tmp_path / "c/BSDS500/data/groundTruth/test").mkdir(parents=True)
    (tmp_path / "c/BSDS500/data/images/test").mkdir(parents=True)
    (tmp_path / "d/images").mkdir(parents=True)
    (tmp_path / "d/groundTruth").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden/panoptic.json").touch()
    found = {s.name: s.kind for s in find_sets(tmp_path)}
    assert found == {"a": "panoptic", "b": "coco", "c/BSDS500": "bsds", "d": "bsds"}
    (only,) = find_sets(tmp_path / "a")
    assert (only.name, only.kind) == ("a", "panoptic")


def test_nothing_to_find(tmp_path: Path) -> None:
    with pytest.raises(BadAnnotation, match="no labelled set in it"):
        find_sets(tmp_path)
    with pytest.raises(UsageError, match="no such folder"):
        find_sets(tmp_path / "gone")


def test_the_report(tmp_path: Path) -> None:
    one = FoundSet("scenes", "panoptic", tmp_path)
    sections = [
        Section(one, "points", {"miou": {"1": 0.4, "3": 0.55}, "oracle": {"1": 0.5}, "images": 7}, "p.png"),
        Section(one, "proposals", {"ar@10": 0.1, "ar@100": 0.2, "ar@1000": None, "images": 7}, "r.png"),
    ]
    text = markdown(sections, ABOUT)
    assert "| scenes | 7 | 0.400 | 0.500 | 0.550 | - |" in text
    assert "| scenes | 7 | 0.100 | 0.200 | - |" in text
    assert "![scenes: points](p.png)" in text and "SHA-256 `ab`" in text and "edges" not in text
    write_report(tmp_path / "out", sections, ABOUT)
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["sets"][1]["measure"] == "proposals" and report["preset"] == "tiny"
    assert (tmp_path / "out/report.md").read_text() == text


def test_what_failed_is_in_the_report(tmp_path: Path) -> None:
    one, two = FoundSet("a", "coco", tmp_path), FoundSet("b", "coco", tmp_path)
    figures = {"miou": {"1": 0.4}, "box_filled": 0.5, "images": 7}
    sections = [Section(one, "boxes", {}, None, "x.json: not JSON"), Section(two, "boxes", figures, "b.png")]
    text = markdown(sections, ABOUT)
    assert "| a |  | - | - |\n| b | 7 | 0.400 | 0.500 |" in text
    assert (
        "- a: not measured: x.json: not JSON\n![b: boxes](b.png)" in text
        and "None" not in text.split("##")[1]
    )
    write_report(tmp_path / "out", sections, ABOUT)
    (failed, done) = json.loads((tmp_path / "out/report.json").read_text())["sets"]
    assert failed == {"set": "a", "kind": "coco", "measure": "boxes", "error": "x.json: not JSON"}
    assert done["plot"] == "b.png" and "error" not in done
