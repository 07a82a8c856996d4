from __future__ import annotations

import base64
import contextlib
import hashlib
import pickle
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from apps.api.building import build
from apps.api.envelope import ARRIVED
from apps.api.settings import ServeOptions, ServiceSettings
from apps.ray_serve.front import Engines, Front
from apps.ray_serve.passing import Passed
from apps.ray_serve.replica import Replica
from composer.limits import DEFAULT_LIMITS
from tests.apps.api.kit import CLICK, form, image_file
from tests.apps.ray_serve.kit import Hanging, InProcess, small_replica

UNKNOWN = "0" * 64
TOKENS = {name: f"{name}-token-of-16-letters" for name in ("ann", "bob")}
WITH_TOKENS = ServiceSettings(
    {hashlib.sha256(token.encode()).digest(): name for name, token in TOKENS.items()}
)


@pytest.fixture(scope="module")
def replicas(small_preset: Path) -> Iterator[dict[str, Replica]]:
    made = {name: small_replica(small_preset, name) for name in ("a", "b")}
    yield made
    for one in made.values():
        one.close(0)


@pytest.fixture(scope="module")
def single(small_preset: Path) -> Iterator[TestClient]:
    """The server without Ray."""
    options = ServeOptions("127.0.0.1", 0, str(small_preset), None, "cpu", "fp32")
    app, service = build(options)
    with TestClient(app) as client:
        yield client
    service.engine.drain(0)


@pytest.fixture
def engines(replicas: dict[str, Replica]) -> InProcess:
    return InProcess(replicas)


@contextlib.contextmanager
def fronted(engines: Engines, settings: ServiceSettings | None = None, **limits: Any) -> Iterator[TestClient]:
    chosen = replace(DEFAULT_LIMITS, **limits)
    with TestClient(Front(engines, settings or ServiceSettings(), chosen)) as client:
        yield client


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS[name]}"}


def hold(client: TestClient, number: int, **more: Any) -> Any:
    answer = client.post("/v1/images", files={"image": ("photo.png", image_file(number))}, **more)
    assert answer.status_code == 201, answer.text
    return answer


def ask(client: TestClient, image_id: str, **more: Any) -> Any:
    return client.post(f"/v1/images/{image_id}/segment", json={"requests": CLICK}, **more)


def results(answer: Any) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()["results"]


def test_every_replica_answers_as_the_single_server_does(engines: InProcess, single: TestClient) -> None:
    with fronted(engines) as front:
        found = [front.post("/v1/segment", **form(image_file(1))) for _ in range(2)]
        expected = single.post("/v1/segment", **form(image_file(1)))
    assert {answer.headers["X-Replica"] for answer in found} == {"a", "b"}
    assert results(found[0]) == results(found[1]) == results(expected)
    for name in ("content-type", "cache-control", "content-security-policy", "x-content-type-options"):
        assert found[0].headers[name] == expected.headers[name]


def test_calls_about_an_image_go_where_it_is_held(engines: InProcess) -> None:
    with fronted(engines) as front:
        places = {}
        for number in range(8):
            held = hold(front, number)
            places[held.json()["id"]] = held.headers["X-Replica"]
        assert set(places.values()) == {"a", "b"}
        for image_id, place in places.items():
            answers = [
                front.get(f"/v1/images/{image_id}"),
                ask(front, image_id),
                front.get(f"/v1/images/{image_id}/embedding"),
                front.delete(f"/v1/images/{image_id}"),
            ]
            assert [answer.status_code for answer in answers] == [200, 200, 200, 204]
            assert {answer.headers["X-Replica"] for answer in answers} == {place}


def test_base64_comes_to_the_same_replica_as_a_form(engines: InProcess) -> None:
    with fronted(engines) as front:
        for number in range(4):
            held = hold(front, number)
            encoded = base64.b64encode(image_file(number)).decode()
            again = front.post("/v1/images", json={"image": encoded})
            assert again.headers["X-Replica"] == held.headers["X-Replica"]
            assert again.json()["id"] == held.json()["id"]


def test_an_image_that_nobody_holds_is_404(engines: InProcess) -> None:
    with fronted(engines) as front:
        answer = ask(front, UNKNOWN)
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["code"] == "image_unknown"
    assert problem["request_id"] == answer.headers["X-Request-Id"]


def test_where_the_replica_is_gone_its_images_are_404_until_they_are_sent_again(engines: InProcess) -> None:
    with fronted(engines) as front:
        held = hold(front, 1)
        image_id, place = held.json()["id"], held.headers["X-Replica"]
        del engines.replicas[place]
        gone = ask(front, image_id)
        assert (gone.status_code, gone.json()["code"]) == (404, "image_unknown")
        assert hold(front, 1).headers["X-Replica"] != place
        assert ask(front, image_id).status_code == 200


def test_a_replica_that_says_it_holds_an_image_is_asked(engines: InProcess) -> None:
    with fronted(engines) as front:
        held = hold(front, 1)
        other = ({"a", "b"} - {held.headers["X-Replica"]}).pop()
        engines.told[other].add(held.json()["id"])
        assert ask(front, held.json()["id"]).headers["X-Replica"] == other


@pytest.mark.parametrize(
    ("files", "status", "code"),
    [
        ({"image": ("a.png", image_file(1)[:200])}, 422, "image_corrupt"),
        ({"image": ("a.png", b"no image")}, 415, "image_format"),
        ({"photo": ("a.png", image_file(1))}, 422, "field_type"),
    ],
)
def test_what_has_no_id_is_answered_by_a_replica(
    engines: InProcess, files: Any, status: int, code: str
) -> None:
    with fronted(engines) as front:
        answer = front.post("/v1/images", files=files)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["X-Replica"] in ("a", "b")


def test_bodies_are_bounded_before_they_reach_a_replica(engines: InProcess) -> None:
    with fronted(engines, max_body_bytes=1000) as front:
        answer = front.post("/v1/segment", **form(image_file(1)))
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert "X-Replica" not in answer.headers


def test_with_tokens_each_client_has_its_own_images(small_preset: Path) -> None:
    replica = small_replica(small_preset, "a", WITH_TOKENS)
    try:
        with fronted(InProcess({"a": replica}), WITH_TOKENS) as front:
            assert front.get("/v1/models").status_code == 401
            image_id = hold(front, 1, headers=bearer("ann")).json()["id"]
            assert ask(front, image_id, headers=bearer("ann")).status_code == 200
            assert ask(front, image_id, headers=bearer("bob")).status_code == 404
            assert front.get("/openapi.json").json()["components"]["securitySchemes"]
    finally:
        replica.close(0)


def test_a_quota_is_for_all_replicas_together(engines: InProcess) -> None:
    with fronted(engines, ServiceSettings(quota=3)) as front:
        statuses = [front.post("/v1/segment", **form(image_file(1))).status_code for _ in range(4)]
    assert statuses == [200, 200, 200, 429]


def test_a_client_cannot_name_itself_past_the_gate(engines: InProcess) -> None:
    with fronted(engines, WITH_TOKENS) as front:
        answer = front.get("/v1/models", headers={"sam_composer.client": "token:ann"})
    assert answer.status_code == 401


def test_what_is_not_answered_in_time_is_504_and_dropped() -> None:
    hanging = Hanging()
    with fronted(hanging, deadline_seconds=0.2) as front:
        answer = front.post("/v1/segment", **form(image_file(1)))
    assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")
    assert hanging.dropped == 1


def test_a_deadline_counts_from_the_arrival_at_the_front() -> None:
    scope = {"type": "http", "path": "/", "headers": [], ARRIVED: time.monotonic() - 500}
    passed = pickle.loads(pickle.dumps(Passed.of(scope, b"", "")))
    assert time.monotonic() - passed.scope_here()[ARRIVED] == pytest.approx(500, abs=100)


def test_health(engines: InProcess) -> None:
    with fronted(engines) as front:
        assert front.get("/livez").json() == {"status": "alive"}
        assert front.get("/readyz").json() == {"status": "ready"}
        engines.replicas.clear()
        answer = front.get("/readyz")
        assert (answer.status_code, answer.json()) == (503, {"status": "loading"})
        assert front.get("/livez").status_code == 200


def test_a_stopped_replica_is_not_ready(small_preset: Path) -> None:
    replica = small_replica(small_preset, "a")
    replica.check()
    replica.close(0)
    with fronted(InProcess({"a": replica})) as front:
        assert front.get("/readyz").json() == {"status": "draining"}
        answer = front.post("/v1/segment", **form(image_file(1)))
    assert (answer.status_code, answer.json()["code"]) == (503, "draining")


def test_metrics_name_the_replica_and_count_each_request_once(engines: InProcess) -> None:
    with fronted(engines) as front:
        hold(front, 1)
        assert ask(front, UNKNOWN).status_code == 404
        lines = front.get("/metrics").text.splitlines()
    counted = [line for line in lines if line.startswith("sam_composer_http_requests_total{")]
    route = 'route="/v1/images/{image_id}/segment"'
    assert [line for line in counted if route in line] == [
        f'sam_composer_http_requests_total{{method="POST",{route},status="404"}} 1.0'
    ]
    for name in ("a", "b"):
        assert f'sam_composer_ready{{replica="{name}"}} 1.0' in lines
    assert len([line for line in lines if line.startswith("# TYPE sam_composer_ready ")]) == 1
