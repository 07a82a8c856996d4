"""``POST /v1/segment``: what comes back, in each form."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask
from starlette.testclient import TestClient

from adapters.polygons import mask_to_polygons
from apps.api.answers import choose_media_type
from apps.api.problems import Problem
from apps.api.service import Service
from composer import Points
from composer.images import open_image
from composer.pipeline_files import pipeline_names
from tests.apps.api.kit import CLICK, form, image_file

SIZE = (48, 64)


def segment(client: TestClient, requests: Any = CLICK, path: str = "/v1/segment", **headers: str) -> Any:
    return client.post(path, **form(image_file(), requests), headers=headers)


def test_a_click_gives_the_mask_that_python_gives(client: TestClient, service: Service) -> None:
    answer = segment(client)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    report = answer.json()
    expected = service.engine.composer.open(image_file()).run(Points([[20, 20]]))
    (record,) = report["results"][0]["annotations"]
    decoded = coco_mask.decode(record["segmentation"])
    assert np.array_equal(decoded, expected.masks[0])
    assert record["score"] == pytest.approx(float(expected.scores[0]), abs=1e-5)
    digest = open_image(image_file()).sha256
    assert report["image"] == {"file_name": None, "width": 64, "height": 48, "sha256": digest}


def test_the_report_has_the_form_of_the_command_line(client: TestClient) -> None:
    report = segment(client, [*CLICK, {"kind": "everything", "points_per_side": 2}]).json()
    assert set(report) == {"image", "model", "results", "timings", "encoder_passes"}
    assert set(report["model"]) >= {"preset", "weights", "weights_sha256", "device", "precision"}
    assert [result["request"]["kind"] for result in report["results"]] == ["points", "everything"]
    assert {"read", "queue", "points", "everything"} <= set(report["timings"])
    keys = {
        "segmentation",
        "bbox",
        "area",
        "predicted_iou",
        "stability_score",
        "label",
        "score",
        "score_kind",
    }
    assert keys <= set(report["results"][0]["annotations"][0])


def test_base64_json_gives_the_same_as_a_form(client: TestClient) -> None:
    text = base64.b64encode(image_file()).decode()
    plain = client.post("/v1/segment", json={"image": text, "requests": CLICK}).json()
    as_url = client.post(
        "/v1/segment", json={"image": f"data:image/png;base64,{text}", "requests": CLICK}
    ).json()
    assert plain["results"] == as_url["results"] == segment(client).json()["results"]


def test_the_same_image_is_encoded_once(client: TestClient) -> None:
    fresh = form(image_file(99))
    passes = [client.post("/v1/segment", **fresh).json()["encoder_passes"] for _ in range(3)]
    assert passes == [1, 0, 0]


def test_polygons_where_they_are_asked_for(client: TestClient) -> None:
    asked = [{"kind": "points", "points": [[[20, 20]], [[40, 30]]], "masks": "all"}]
    runs = segment(client, asked).json()["results"][0]["annotations"]
    polygons = segment(client, asked, "/v1/segment?masks=polygons").json()["results"][0]["annotations"]
    assert len(runs) == len(polygons) == 6
    for run, polygon in zip(runs, polygons, strict=True):
        drawn = Image.new("1", (64, 48))
        for ring in polygon["segmentation"]:
            assert len(ring) >= 6 and len(ring) % 2 == 0
            ImageDraw.Draw(drawn).polygon(ring, fill=1, outline=1)
        mask = coco_mask.decode(run["segmentation"]).astype(bool)
        agree = (np.asarray(drawn) == mask).mean()
        assert agree > 0.9
        assert polygon["segmentation"] == [ring.ravel().tolist() for ring in mask_to_polygons(mask)]


def test_an_edge_map_is_a_png_in_the_report(client: TestClient) -> None:
    (result,) = segment(client, [{"kind": "edges", "points_per_side": 2}]).json()["results"]
    assert result["kind"] == "edges"
    with Image.open(io.BytesIO(base64.b64decode(result["png"]))) as picture:
        assert picture.size == (64, 48) and picture.mode.startswith("I")


def test_a_zip_has_the_report_masks_and_pictures(client: TestClient) -> None:
    asked = [{"kind": "points", "points": [[[20, 20]], [[40, 30]]]}, {"kind": "edges", "points_per_side": 2}]
    answer = segment(client, asked, accept="application/zip")
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        names = set(archive.namelist())
        assert names == {
            "image.json", "masks/000.png", "masks/001.png", "image.ids.png", "image.edges.png",
            "image.overlay.png", "image.edges.overlay.png",
        }  # fmt: skip
        report = json.loads(archive.read("image.json"))
        mask = np.asarray(Image.open(io.BytesIO(archive.read("masks/001.png"))))
    assert report["results"][1]["file"] == "image.edges.png" and "png" not in report["results"][1]
    run = report["results"][0]["annotations"][1]["segmentation"]
    assert np.array_equal(mask > 0, coco_mask.decode(run) > 0)


def test_a_picture(client: TestClient) -> None:
    answer = segment(client, accept="image/png")
    assert answer.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert picture.size == (64, 48) and picture.mode == "RGB"


@pytest.mark.parametrize("name", ["largest", "cutout"])
def test_pipelines_by_name(client: TestClient, service: Service, name: str) -> None:
    assert name in pipeline_names()
    answer = client.post("/v1/segment", **form(image_file(), None, pipeline=name))
    if name == "cutout":  # the small preset has no detector, which is the client's to know
        assert answer.status_code == 422 and answer.json()["code"] == "detector_missing"
        return
    report = answer.json()
    assert [result["name"] for result in report["results"]] == report["pipeline"]["output"]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("image/*", "image/png"),
        ("image/png;q=0.5, application/zip;q=0.7", "application/zip"),
        ("text/html, application/xhtml+xml, */*;q=0.1", "application/json"),
        ("*/*;q=0.1, application/json;q=0", "application/zip"),
        ("IMAGE/PNG", "image/png"),
    ],
)
def test_what_accept_chooses(accept: str | None, expected: str) -> None:
    assert choose_media_type(accept) == expected


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0", "", "nonsense", "image/png;q=x"])
def test_what_accept_leaves_nothing_of(accept: str) -> None:
    if accept == "":  # as good as none
        assert choose_media_type(accept) == "application/json"
        return
    with pytest.raises(Problem) as refused:
        choose_media_type(accept)
    assert refused.value.status == 406


def test_file_names_are_not_used(client: TestClient) -> None:
    for name in ("../../etc/passwd", "a\0b.png", "x" * 4096, "ü".encode().decode("latin-1"), "C:\\x.png", ""):
        content = {"image": (name or "x", image_file())}
        answer = client.post("/v1/segment", files=content, data={"requests": json.dumps(CLICK)})
        assert answer.status_code == 200, (name[:20], answer.text)
        assert "passwd" not in answer.text
