"""The annotator's server, asked as the page asks, and as nobody should."""

from __future__ import annotations

import io
import json
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image as PILImage

from adapters.rle import encode_mask, to_json
from apps.annotator import vendor
from apps.annotator_api.http import LocalHostGuard
from apps.annotator_api.routes import annotator_routes
from apps.annotator_api.server import annotator_app
from composer import Composer, Limits
from composer.engine.engine import Engine
from sam.click_export import GRAPHS
from sam.click_graphs import EMBEDDING_NAMES
from sam.errors import EnvironmentProblem

API = "/annotate/api"


@pytest.fixture(scope="module")
def composer(small_preset: Path) -> Composer:
    return Composer.load(small_preset, device="cpu", limits=Limits(max_body_bytes=20_000))


@pytest.fixture(scope="module")
def engine(composer: Composer) -> Iterator[Engine]:
    with Engine(composer) as engine:
        yield engine


@pytest.fixture
def client(
    engine: Engine, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestClient]:
    """Over the folder `photos`; nothing is exported."""
    monkeypatch.setattr("apps.annotator_api.routes.DecoderFiles.prepare", lambda self: None)
    with TestClient(annotator_app(engine, photos, decoder_folder=tmp_path / "decoder")) as client:
        yield client


@pytest.fixture
def first(client: TestClient) -> str:
    """The address of the first photo."""
    return f"{API}/projects/photos/photos/{client.get(f'{API}/projects/photos').json()['photos'][0]['key']}"


def document(**parts: Any) -> dict[str, Any]:
    return {"annotations": [], "proposed": [], "state": "open"} | parts


def mask(uid: str, columns: int = 12) -> dict[str, Any]:
    pixels = np.zeros((45, 60), np.bool_)
    pixels[4:20, 5 : 5 + columns] = True
    return {"uid": uid, "segmentation": to_json(encode_mask(pixels))}


def problem(answer: Any, status: int, code: str) -> str:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["code"] == code
    return str(answer.json()["detail"])


def test_the_page_is_isolated_from_other_origins(client: TestClient) -> None:
    """What browsers ask for before they allow threads in WebAssembly; also of files and of errors."""
    for path in ("/", "/page/js/main.js", "/page/nothing.js", "/api/projects", "/api/projects/nothing"):
        headers = client.get(f"/annotate{path}").headers
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["cross-origin-embedder-policy"] == "require-corp"
        assert "unsafe-inline" not in headers["content-security-policy"]
        assert "'unsafe-eval'" not in headers["content-security-policy"]


def test_the_page_needs_nobody_else() -> None:
    """No address of another server in the page: it works offline."""
    for path in vendor.PAGE.rglob("*"):
        if path.suffix in (".html", ".css", ".js") and vendor.TARGET not in path.parents:
            text = path.read_text().replace("http://www.w3.org/", "")
            assert "http://" not in text and "https://" not in text, path.name


def test_all_of_the_page_is_served(client: TestClient) -> None:
    kinds = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}
    for path in vendor.PAGE.rglob("*.*"):
        if vendor.TARGET in path.parents:
            continue
        answer = client.get(f"/annotate/page/{path.relative_to(vendor.PAGE).as_posix()}")
        assert answer.content == path.read_bytes()
        assert answer.headers["content-type"].startswith(kinds[path.suffix])
    assert client.get("/annotate", follow_redirects=False).headers["location"] == "/annotate/"


@pytest.mark.parametrize("path", ["../vendor.py", "%2e%2e/vendor.py", "/etc/passwd", "vendor/VERSION", "js"])
def test_nothing_but_the_page_is_served(client: TestClient, path: str) -> None:
    problem(client.get(f"/annotate/page/{path.replace('..', '%2e%2e')}"), 404, "not_found")


def test_a_project_is_listed_and_continued(client: TestClient, first: str) -> None:
    assert client.get(f"{API}/projects").json() == [
        {"name": "photos", "photos": 3, "finished": 0, "begun": 0}
    ]
    found = client.get(f"{API}/projects/photos").json()
    assert [photo["name"] for photo in found["photos"]] == ["a.jpg", "b.jpg", "c.png"]
    assert (found["labels"], found["last"]) == ([], None)
    content = document(annotations=[mask("one") | {"label": "dog"}], state="done")
    assert client.put(f"{first}/document", json=content, headers={"If-Match": '"new"'}).status_code == 204
    key = found["photos"][1]["key"]
    assert client.put(f"{API}/projects/photos/last/{key}").status_code == 204
    found = client.get(f"{API}/projects/photos").json()
    assert (found["labels"], found["last"], found["photos"][0]["state"]) == (["dog"], key, "done")
    assert client.get(f"{API}/projects").json()[0]["finished"] == 1


def test_saving_and_the_second_tab(client: TestClient, first: str, photos: Path) -> None:
    opened = client.get(f"{first}/document")
    assert (opened.headers["etag"], opened.json()["width"]) == ('"new"', 60)
    saved = client.put(
        f"{first}/document", json=document(annotations=[mask("one")]), headers={"If-Match": '"new"'}
    )
    assert saved.status_code == 204
    other = client.put(
        f"{first}/document", json=document(annotations=[mask("two")]), headers={"If-Match": '"new"'}
    )
    assert "nothing was overwritten" in problem(other, 409, "revision_conflict")
    assert other.headers["etag"] == saved.headers["etag"]
    found = client.get(f"{first}/document")
    assert found.headers["etag"] == saved.headers["etag"]
    assert [one["uid"] for one in found.json()["annotations"]] == ["one"]
    assert (photos / "annotations/sa1b/a.jpg.json").is_file()


def test_what_is_refused(client: TestClient, first: str) -> None:
    put = f"{first}/document"
    problem(client.put(put, json=document()), 428, "revision_missing")
    match = {"If-Match": '"new"'}
    problem(client.put(put, content=b"{", headers=match), 422, "annotation_invalid")
    problem(client.put(put, content=b" " * 20_001, headers=match), 413, "body_too_large")
    wrong = mask("one") | {"segmentation": {"size": [2, 2], "counts": "4"}}
    assert "photo is 60 x 45" in problem(
        client.put(put, json=document(annotations=[wrong]), headers=match), 422, "annotation_invalid"
    )
    foreign = match | {"Sec-Fetch-Site": "cross-site"}
    problem(client.put(put, json=document(), headers=foreign), 403, "cross_site")
    problem(client.get(f"{API}/projects/else"), 404, "not_found")
    problem(client.get(f"{API}/projects/photos/photos/nothing/picture"), 404, "not_found")
    problem(client.post(f"{first}/prefill?detect=perhaps"), 422, "usage")
    problem(client.get(f"{API}/decoder/old/click.onnx"), 404, "not_found")
    assert client.get(f"{first}/document").headers["etag"] == '"new"'


def test_a_damaged_document_is_told_and_kept(client: TestClient, first: str, photos: Path) -> None:
    path = photos / "annotations/sa1b/a.jpg.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    assert "a.jpg.json" in problem(client.get(f"{first}/document"), 422, "annotation_file")
    assert path.read_text() == "{"


def test_the_picture_is_upright(client: TestClient, photos: Path) -> None:
    """Pixels where the masks are, whatever the file says about how to turn it."""
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:, :10] = (250, 0, 0)
    exif = PILImage.Exif()
    exif[0x0112] = 6  # turned by a quarter
    PILImage.fromarray(pixels).save(photos / "turned.tiff", exif=exif)
    keys = {row["name"]: row["key"] for row in client.get(f"{API}/projects/photos").json()["photos"]}
    where = f"{API}/projects/photos/photos/{keys['turned.tiff']}"
    answer = client.get(f"{where}/picture")
    picture = np.asarray(PILImage.open(io.BytesIO(answer.content)))
    assert picture.shape == (30, 20, 3)
    assert picture[:10, :, 0].min() == 250 and picture[10:, :, 0].max() == 0
    told = client.get(f"{where}/document").json()
    assert (told["width"], told["height"]) == (20, 30)


def test_a_bad_photo_is_told(client: TestClient, photos: Path) -> None:
    (photos / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    keys = {row["name"]: row["key"] for row in client.get(f"{API}/projects/photos").json()["photos"]}
    where = f"{API}/projects/photos/photos/{keys['bad.png']}"
    for part in ("picture", "document", "embedding"):
        problem(client.get(f"{where}/{part}"), 422, "image_corrupt")


def test_the_embedding_is_what_the_graph_takes(
    client: TestClient, first: str, composer, photos: Path
) -> None:
    data = client.get(f"{first}/embedding").content
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    about = {"input_size": "48,64", "original_size": "45,60", "model_digest": composer.model.digest}
    assert header.pop("__metadata__") == about
    embedding = composer.open(photos / "a.jpg").embedding
    expected = dict(zip(EMBEDDING_NAMES, (embedding.features, *embedding.high_res_features), strict=True))
    assert set(header) - {"edge_logits"} == set(expected)
    for name, tensor in expected.items():
        entry = header[name]
        start, end = entry["data_offsets"]
        values = np.frombuffer(data[8 + length + start : 8 + length + end], "<f4").reshape(entry["shape"])
        torch.testing.assert_close(torch.from_numpy(values.copy()), tensor)
        assert (8 + length + start) % 4 == 0, "a page makes views of the bytes, which must be aligned"
    assert len(data) == 8 + length + max(entry["data_offsets"][1] for entry in header.values())


def test_prefill_proposes_what_is_not_there(client: TestClient, first: str, monkeypatch) -> None:
    monkeypatch.setattr("composer.projects.prefill.MIN_AREA", 1)  # random weights draw specks
    records = client.post(f"{first}/prefill").json()
    assert records and all(record["source"] == "everything" for record in records)
    # What the page does with them: all accepted, saved, and asked again.
    content = document(annotations=records, proposed=[])
    answer = client.put(f"{first}/document", json=content, headers={"If-Match": '"new"'})
    assert answer.status_code == 204
    assert client.post(f"{first}/prefill").json() == []


def test_the_coco_file_is_written(client: TestClient, first: str, photos: Path) -> None:
    content = document(annotations=[mask("one")])
    client.put(f"{first}/document", json=content, headers={"If-Match": '"new"'})
    told = client.post(f"{API}/projects/photos/coco").json()
    assert told == {"file": "annotations/coco/instances.json", "images": 1, "annotations": 1}
    assert len(json.loads((photos / told["file"]).read_text())["annotations"]) == 1


def test_a_folder_that_cannot_be_written_to(client: TestClient, first: str, photos: Path) -> None:
    (photos / "annotations").write_text("a file is in the way")
    answer = client.put(f"{first}/document", json=document(), headers={"If-Match": '"new"'})
    problem(answer, 500, "output_unwritable")


def test_without_the_runtime_the_page_is_told_what_to_do(client: TestClient, monkeypatch) -> None:
    monkeypatch.setattr(vendor, "present", lambda: False)
    assert "apps.annotator.vendor" in client.get(f"{API}/model").json()["runtime"]


def test_the_decoder_is_exported_once_for_each_model(
    engine: Engine, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports = []

    def fake(model: Any, embedding: Any) -> dict[str, bytes]:
        exports.append(model)
        return {name: name.encode() for name in GRAPHS}

    monkeypatch.setattr("apps.annotator_api.decoder_files.export_click_graphs", fake)
    for _ in range(2):
        app = FastAPI()
        app.include_router(annotator_routes(engine, photos, decoder_folder=tmp_path / "kept"))
        with TestClient(app) as client:
            digest = client.get(f"{API}/model").json()["decoder"]
            answer = client.get(f"{API}/decoder/{digest}/click.onnx")
            assert (answer.content, answer.status_code) == (b"click", 200)
            problem(client.get(f"{API}/decoder/{digest}/other.onnx"), 422, "usage")
    assert len(exports) == 1


def test_an_export_that_fails_is_told_to_who_asks(client: TestClient, monkeypatch) -> None:
    def fail(model: Any, embedding: Any) -> dict[str, bytes]:
        raise EnvironmentProblem("this needs the package onnx", code="package_missing")

    monkeypatch.setattr("apps.annotator_api.decoder_files.export_click_graphs", fail)
    digest = client.get(f"{API}/model").json()["decoder"]
    told = problem(client.get(f"{API}/decoder/{digest}/click.onnx"), 500, "package_missing")
    assert "onnx" in told


def test_command_line_errors(cli, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert cli("annotate", tmp_path / "nowhere").code == 2
    assert cli("annotate", tmp_path / "empty").code == 3
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended = cli("annotate", photos, "--port", taken.getsockname()[1])
    assert ended.code == 6 and "--port 0" in ended.error
    assert cli("annotate", photos, "--host", "256.1.1.1").code == 6


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("127.0.0.1:8008", 200),
        ("localhost", 200),
        ("[::1]:8008", 200),
        ("evil.example:8008", 403),
        ("127.0.0.1.evil.example", 403),
        ("", 403),
    ],
)
def test_a_foreign_name_that_leads_here_gets_nothing(
    engine: Engine, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, status: int
) -> None:
    """DNS rebinding. The test client says itself which address it has connected to."""
    monkeypatch.setattr("apps.annotator_api.routes.DecoderFiles.prepare", lambda self: None)
    app = LocalHostGuard(annotator_app(engine, photos, decoder_folder=tmp_path / "decoder"))
    with TestClient(app, base_url="http://127.0.0.1:8008") as local:
        assert local.get(f"{API}/projects", headers={"Host": name}).status_code == status
    with TestClient(app, base_url="http://192.0.2.1") as network:
        assert network.get(f"{API}/projects", headers={"Host": "studio.example"}).status_code == 200
