"""The report has the shape that design.md promises."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from adapters.results import EdgeMap, Instances
from adapters.rle import decode_mask, from_json
from composer.formats.json_report import JsonReportWriter


def test_report_of_instances(tmp_path: Path, make_outcome: Callable, make_instances: Callable) -> None:
    instances = make_instances(detector_score=np.linspace(0, 1, 8), points=np.full((8, 2), 3.5))
    outcome = make_outcome(instances)
    (path,) = JsonReportWriter().write("photo", outcome, tmp_path)
    assert path == tmp_path / "photo.json"
    report = json.loads(path.read_text())
    assert report["image"] == {
        "file_name": "photo.png",
        "width": 90,
        "height": 60,
        "sha256": outcome.image.sha256,
    }
    assert report["model"] == {"preset": "tiny"}
    assert report["timings"] == {"encode": 0.25}
    (result,) = report["results"]
    assert (result["request"], result["kind"]) == ({"kind": "everything"}, "instances")
    assert len(result["annotations"]) == 8
    for record, mask, label in zip(result["annotations"], instances.masks, instances.labels, strict=True):
        np.testing.assert_array_equal(decode_mask(from_json(record["segmentation"])), mask)
        assert record["area"] == mask.sum()
        assert record["label"] == label
        assert record["point_coords"] == [[3.5, 3.5]]
        assert record["predicted_iou"] is None
        assert record["text_score"] is None
        assert record["score_kind"] == "predicted_iou"
    assert result["annotations"][0]["score"] == float(np.float32(0.95))
    assert result["annotations"][7]["detector_score"] == 1.0
    x, y, w, h = result["annotations"][6]["bbox"]
    assert (x, y, w, h) == (70, 45, 20, 15)


def test_report_of_several_answers_and_edges(
    tmp_path: Path, make_outcome: Callable, make_instances: Callable, make_edges: Callable[[], EdgeMap]
) -> None:
    outcome = make_outcome(make_instances(), make_edges(), Instances.empty((60, 90)), make_edges())
    written = JsonReportWriter().write("a.b", outcome, tmp_path)
    assert [p.name for p in written] == ["a.b.edges.png", "a.b.edges-2.png", "a.b.json"]
    results = json.loads(written[-1].read_text())["results"]
    assert [r["kind"] for r in results] == ["instances", "edges", "instances", "edges"]
    assert results[1] == {"request": {"kind": "everything"}, "kind": "edges", "file": "a.b.edges.png"}
    assert results[2]["annotations"] == []
    with Image.open(written[0]) as picture:
        assert picture.mode == "I;16"
        values = np.asarray(picture)
    np.testing.assert_allclose(values / 65535, make_edges().values, atol=1 / 65535)
    assert (values.min(), values.max()) == (0, 65535)


def test_an_upload_without_a_name(tmp_path: Path, make_outcome: Callable) -> None:
    (path,) = JsonReportWriter().write("x", make_outcome(file_name=None), tmp_path)
    assert json.loads(path.read_text())["image"]["file_name"] is None


def test_routes_and_where_to_click_are_told(
    tmp_path: Path, make_outcome: Callable, make_instances: Callable
) -> None:
    found = make_instances()
    unsure = found.replace(routes=("rank",) * len(found)).with_suggestions(
        np.array([[3.5, 4]], np.float32), np.array([1])
    )
    (path,) = JsonReportWriter().write("x", make_outcome(found, unsure), tmp_path)
    plain, named = json.loads(path.read_text())["results"]
    assert "suggested_points" not in plain and "route" not in plain["annotations"][0]
    assert named["suggested_points"] == [{"point": [3.5, 4.0], "prompt_index": 1}]
    assert {one["route"] for one in named["annotations"]} == {"rank"}
