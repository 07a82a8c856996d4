"""The demo and the annotator beside the API, as `sam-composer serve` puts them together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from gradio_client import Client, handle_file
from PIL import Image
from starlette.testclient import TestClient

from apps.api import pages
from apps.api.building import build
from apps.api.settings import ServeOptions
from composer.engine.engine import Engine
from composer.limits import DEFAULT_LIMITS
from sam.errors import BadImage, EnvironmentProblem, UsageError
from tests.apps.api.kit import Live, form, image_file, living

ISOLATED = {"cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp"}
"""Without both, browsers give a page no shared memory, and WebAssembly no threads."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("street")
    for number, name in enumerate(("a.png", "b.png")):
        (folder / name).write_bytes(image_file(number))
    return folder


@pytest.fixture(scope="module")
def served(
    small_preset: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[FastAPI, Engine]]:
    """The API, the demo at / and the annotator at /annotate; no decoder is exported."""
    options = ServeOptions(
        "127.0.0.1", 0, str(small_preset), device="cpu", precision="fp32", limits=DEFAULT_LIMITS, demo=True,
        projects=photos,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        patch.setattr("apps.annotator_api.routes.DecoderFiles.prepare", lambda self: None)
        app, service = build(options)
        yield app, service.engine
        service.engine.drain(0)


@pytest.fixture(scope="module")
def live(served: tuple[FastAPI, Engine]) -> Iterator[Live]:
    with living(served[0]) as live:
        yield live


@pytest.fixture(scope="module")
def browser(served: tuple[FastAPI, Engine]) -> Iterator[TestClient]:
    """Asks as a browser does, in this process."""
    with TestClient(served[0], raise_server_exceptions=False) as client:
        yield client


def test_the_demo_is_at_the_root(browser: TestClient) -> None:
    page = browser.get("/")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    assert "gradio" in page.text and "asked in eight ways" in page.text
    assert not ISOLATED.keys() & page.headers.keys(), "the demo needs no threads, and may be put into frames"
    named = browser.get("/gradio_api/info").json()["named_endpoints"]
    assert {"/click", "/box", "/text", "/pipeline"} <= set(named)


def test_the_annotator_is_isolated(browser: TestClient) -> None:
    for path in (
        "/annotate/",
        "/annotate/page/js/decoder-worker.js",
        "/annotate/api/projects",
        "/annotate/no",
    ):
        headers = browser.get(path).headers
        assert {name: headers.get(name) for name in ISOLATED} == ISOLATED, path
    assert "The annotator needs JavaScript" in browser.get("/annotate/").text
    assert browser.get("/annotate", follow_redirects=False).headers["location"] == "/annotate/"
    (project,) = browser.get("/annotate/api/projects").json()
    assert project["photos"] == 2


def test_the_api_is_beside_them(browser: TestClient) -> None:
    answer = browser.post("/v1/segment", **form(image_file(7)))
    assert answer.status_code == 200 and len(answer.json()["results"]) == 1
    assert "/v1/segment" in browser.get("/openapi.json").json()["paths"], "it is ours and not gradio's"
    for page in ("/docs", "/redoc"):  # FastAPI's would load scripts from elsewhere
        assert "cdn.jsdelivr.net" not in browser.get(page).text
    assert browser.get("/livez").status_code == browser.get("/metrics").status_code == 200
    missing = browser.get("/v1/nothing")
    assert missing.status_code == 404 and missing.headers["content-type"] == "application/problem+json"
    assert missing.json()["code"] == "not_found"
    wrong = browser.get("/v1/segment")
    assert wrong.status_code == 405 and wrong.json()["code"] == "method_not_allowed"


def test_one_engine_answers_all_of_them(
    served: tuple[FastAPI, Engine], live: Live, browser: TestClient, tmp_path: Path
) -> None:
    """A photo that the API has seen is not encoded for the demo, nor for the annotator; all in one thread."""
    _, engine = served
    before, cache = engine.stats, engine.composer.cache.stats.encodes
    data = image_file(0)
    assert browser.post("/v1/segment", **form(data)).status_code == 200
    (tmp_path / "photo.png").write_bytes(data)
    client = Client(live.url, verbose=False, download_files=tmp_path)
    try:
        report, overlay, coco, masks = client.predict(
            photo=handle_file(tmp_path / "photo.png"), points=[[20, 20]], api_name="/click"
        )
    finally:
        client.close()
    assert report["encoder_passes"] == 0 and report["results"][0]["request"]["kind"] == "points"
    with Image.open(overlay) as picture:
        assert picture.size == (64, 48)
    assert Path(coco).stat().st_size and Path(masks).stat().st_size
    rows = browser.get("/annotate/api/projects/" + _project(browser)).json()["photos"]
    key = next(row["key"] for row in rows if row["name"] == "a.png")
    where = f"/annotate/api/projects/{_project(browser)}/photos/{key}"
    assert b'"image_embeddings"' in browser.get(f"{where}/embedding").content[:600]
    assert browser.post(f"{where}/prefill").status_code == 200
    assert engine.composer.cache.stats.encodes == cache + 1
    assert engine.stats.answered == before.answered + 4, "each of them was a job of the engine"


def _project(browser: TestClient) -> str:
    return str(browser.get("/annotate/api/projects").json()[0]["name"])


def test_a_full_queue_is_told_by_the_pages_too(
    served: tuple[FastAPI, Engine], browser: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, engine = served
    monkeypatch.setattr(engine._queue, "_full", lambda: True)
    rows = browser.get("/annotate/api/projects/" + _project(browser)).json()["photos"]
    answer = browser.get(f"/annotate/api/projects/{_project(browser)}/photos/{rows[0]['key']}/embedding")
    assert answer.status_code == 503 and answer.headers["retry-after"]
    assert answer.json()["code"] == "queue_full" and "waiting already" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("options", "demo"),
    [((), True), (("--no-demo",), False), (("--token-file", "TOKENS"), False),
     (("--token-file", "TOKENS", "--demo"), True)],
)  # fmt: skip
def test_when_there_is_a_demo(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], demo: bool
) -> None:
    """It asks for no token, so that a server with tokens has none unless it is told to."""
    (tmp_path / "tokens").write_text("somebody:0123456789abcdef\n")
    started: list[ServeOptions] = []
    monkeypatch.setattr("apps.api.server.ComposerServer.run", lambda self: started.append(self._options))
    given = [tmp_path / "tokens" if option == "TOKENS" else option for option in options]
    ended = cli("serve", *given)
    assert ended.code == 0 and started[0].demo is demo
    assert ("the demo will ask for no token" in ended.err) == ("TOKENS" in options and demo)


def test_without_a_demo_the_root_says_where_the_api_is(small_preset: Path) -> None:
    options = ServeOptions("127.0.0.1", 0, str(small_preset), device="cpu", limits=DEFAULT_LIMITS)
    app, service = build(options)
    try:
        with TestClient(app) as client:
            page = client.get("/")
            assert "/v1/segment" in page.text and "gradio" not in page.text
            assert re.search("default-src 'none'", page.headers["content-security-policy"])
            assert client.get("/annotate/").status_code == client.get("/gradio_api/info").status_code == 404
    finally:
        service.engine.drain(0)


def test_pages_that_cannot_be_there(
    served: tuple[FastAPI, Engine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, engine = served
    with pytest.raises(UsageError):
        pages.add_pages(FastAPI(), engine, demo=False, projects=tmp_path / "nowhere")
    with pytest.raises(BadImage):
        pages.add_pages(FastAPI(), engine, demo=False, projects=tmp_path)
    monkeypatch.setattr(pages, "DEMO", "apps.no_such_demo")
    with pytest.raises(EnvironmentProblem, match="demo is not installed"):
        pages.add_pages(FastAPI(), engine, demo=True, projects=None)
    monkeypatch.undo()
    monkeypatch.setattr(pages, "has_demo", lambda: False)
    with pytest.raises(EnvironmentProblem, match="no module named 'gradio'"):
        pages.add_pages(FastAPI(), engine, demo=True, projects=None)
