"""The OpenAPI document: it reads well, and the service keeps to it whatever is sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from apps.api.app import create_app
from apps.api.service import Service
from tests.apps.api.kit import MakeService

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 12
OPERATIONS = {
    ("POST", "/v1/segment"), ("POST", "/v1/images"), ("GET", "/v1/images/{image_id}"),
    ("POST", "/v1/images/{image_id}/segment"), ("GET", "/v1/images/{image_id}/embedding"),
    ("DELETE", "/v1/images/{image_id}"), ("GET", "/v1/models"), ("GET", "/v1/adapters"), ("GET", "/livez"),
    ("GET", "/readyz"), ("GET", "/metrics"),
}  # fmt: skip


@pytest.fixture(scope="module")
def document(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    assert {(method, path) for method, path, _ in operations(document)} == OPERATIONS
    tags = {tag["name"] for tag in document["tags"]}
    for method, path, operation in operations(document):
        assert operation["summary"], path
        assert set(operation["tags"]) <= tags, path
        assert all(answer["description"] for answer in operation["responses"].values()), path
        for status, answer in operation["responses"].items():
            if int(status) >= 400 and path != "/readyz":
                assert list(answer["content"]) == ["application/problem+json"], (path, status)
        if method == "POST":
            assert set(operation["requestBody"]["content"]) == {"multipart/form-data", "application/json"}


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]

    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for key, item in value.items():
                if key == "$ref":
                    yield item
                else:
                    yield from references(item)
        elif isinstance(value, list):
            for item in value:
                yield from references(item)

    found = set(references(document))
    assert len(found) > 10
    assert {name.rpartition("/")[2] for name in found} <= set(schemas)


@pytest.fixture(scope="module")
def service(make_service: MakeService) -> Service:
    """Whatever is made up must be answered soon."""
    return make_service(deadline_seconds=20.0, max_prompts=64)


@pytest.mark.parametrize(("method", "path"), sorted(OPERATIONS))
def test_answers_are_those_of_the_document(service: Service, method: str, path: str) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(service))
    strategy = schema[path][method].as_strategy()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def keeps_to_it(case: Any) -> None:
        case.call_and_validate(checks=CHECKS)

    keeps_to_it()
