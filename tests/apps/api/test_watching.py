"""Health, metrics, the catalogue, and what is told of bugs."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from apps.api.app import create_app
from apps.api.service import Service
from composer.engine.encoding import encode_batch
from tests.apps.api.kit import CLICK, WAIT, MakeService, form, image_file, until


def figures(client: TestClient) -> dict[tuple[str, ...], float]:
    """Value by name and labels."""
    text = client.get("/metrics").text
    return {
        (sample.name, *(f"{k}={v}" for k, v in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_readiness_follows_the_engine(make_service: MakeService) -> None:
    service = make_service()
    client = TestClient(create_app(service))
    assert client.get("/readyz").json() == {"status": "ready"}
    service.engine.drain(0)
    assert client.get("/readyz").status_code == 503
    assert client.get("/readyz").json() == {"status": "draining"}
    assert client.get("/livez").status_code == 200
    answer = client.post("/v1/segment", **form(image_file()))
    assert answer.status_code == 503 and answer.json()["code"] == "draining"
    assert int(answer.headers["retry-after"]) >= 1


def test_livez_does_not_wait_for_the_device(make_service: MakeService) -> None:
    go = threading.Event()

    def held_up(composer: Any, images: Any) -> Any:
        assert go.wait(WAIT)
        return encode_batch(composer, images)

    service = make_service(encode=held_up)
    with TestClient(create_app(service)) as client:
        busy = threading.Thread(target=lambda: client.post("/v1/segment", **form(image_file())))
        busy.start()
        until(lambda: service.engine.stats.running)
        assert client.get("/livez").status_code == client.get("/metrics").status_code == 200
        assert service.engine.stats.running == 1
        go.set()
        busy.join(WAIT)


def test_metrics_count(make_service: MakeService) -> None:
    client = TestClient(create_app(make_service()))
    client.post("/v1/segment", **form(image_file(1)))
    client.post("/v1/segment", **form(image_file(1)))
    client.post("/v1/images", files={"image": image_file(1)})
    client.post("/v1/segment", **form(b"no image"))
    client.get("/somewhere/else")
    found = figures(client)
    route = "route=/v1/segment"
    assert found[("sam_composer_http_requests_total", "method=POST", route, "status=200")] == 2
    assert found[("sam_composer_http_requests_total", "method=POST", route, "status=415")] == 1
    assert found[("sam_composer_http_requests_total", "method=GET", "route=other", "status=404")] == 1
    assert found[("sam_composer_http_request_seconds_count", "method=POST", route)] == 3
    assert found[("sam_composer_images_encoded_total",)] == found[("sam_composer_passes_total",)] == 1
    assert found[("sam_composer_answered_total",)] == 3 and found[("sam_composer_failed_total",)] == 1
    assert found[("sam_composer_held_images",)] == 1 and found[("sam_composer_held_bytes",)] > 0
    assert found[("sam_composer_queue_waiting",)] == 0 and found[("sam_composer_ready",)] == 1


def test_a_bug_is_told_without_its_insides(
    client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*args: object, **more: object) -> None:
        raise ValueError("/secret/path")

    monkeypatch.setattr(service.engine.composer.model, "decode", broken)
    with caplog.at_level(logging.ERROR):
        answer = client.post("/v1/segment", **form(image_file()))
    assert answer.status_code == 500 and answer.json()["code"] == "internal"
    assert "secret" not in answer.text and "Traceback" not in answer.text
    assert answer.json()["request_id"] in caplog.text and "/secret/path" in caplog.text
    monkeypatch.undo()
    assert client.post("/v1/segment", **form(image_file())).status_code == 200


def test_faults_of_the_server_are_not_told(
    client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sam.errors import CheckpointError

    def broken(*args: object, **more: object) -> None:
        raise CheckpointError("/secret/clip.pt: damaged")

    monkeypatch.setattr(service.engine.composer.companions, "text_image_model", broken)
    answer = client.post("/v1/segment", **form(image_file(), [{"kind": "text", "phrases": ["dog"]}]))
    assert answer.status_code == 500 and answer.json()["code"] == "checkpoint_invalid"
    assert "secret" not in answer.text


def test_the_catalogue(client: TestClient) -> None:
    models = client.get("/v1/models").json()
    assert models["model"]["preset"] == "small" and models["limits"]["max_pixels"] == 25_000_000
    assert {"tiny", "vit_b"} <= {preset["name"] for preset in models["presets"]}
    catalogue = client.get("/v1/adapters").json()
    assert {"points", "boxes", "text", "everything", "proposals", "edges", "detect"} <= set(
        catalogue["adapters"]
    )
    assert "select" not in catalogue["adapters"], "it needs what another request found"
    points = catalogue["adapters"]["points"]
    assert points["required"] == ["kind", "points"] and points["additionalProperties"] is False
    assert all(field["description"] for field in points["properties"].values())
    text = catalogue["adapters"]["text"]["properties"]
    assert not {"trust", "annotations", "pretrained", "candidates"} & set(text)
    assert "largest" in {pipeline["name"] for pipeline in catalogue["pipelines"]}


def test_what_the_catalogue_describes_is_accepted(client: TestClient) -> None:
    """The defaults of each schema, written out, ask for the same as leaving them out."""
    schemas = client.get("/v1/adapters").json()["adapters"]
    for kind, small in (("everything", {"points_per_side": 2}), ("boxes", {"boxes": [[5, 5, 30, 30]]})):
        fields = schemas[kind]["properties"]
        given = {name: field["default"] for name, field in fields.items() if "default" in field}
        asked = [{"kind": kind, **small}, {"kind": kind, **given, **small}]
        results = client.post("/v1/segment", **form(image_file(), asked)).json()["results"]
        assert results[0]["annotations"] == results[1]["annotations"]


def test_every_request_of_the_examples_is_one(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    examples = document["components"]["schemas"]["Requests"]["examples"]
    assert len(examples) >= 4
    for asked in examples:
        if any(request["kind"] == "text" for request in asked):
            continue  # the small preset has no text-image model
        small = [request | {"points_per_side": 2} if request["kind"] in ("edges", "proposals") else request
                 for request in asked]  # fmt: skip
        answer = client.post("/v1/segment", **form(image_file(5, (820, 1000)), small))
        assert answer.status_code == 200, answer.text
    assert CLICK
