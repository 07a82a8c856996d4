"""The API over a very small model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from apps.api.app import create_app
from apps.api.service import Service
from apps.api.settings import ServiceSettings
from composer import Composer
from composer.engine.encoding import encode_batch
from composer.engine.engine import Engine
from composer.limits import DEFAULT_LIMITS
from tests.apps.api.kit import MakeService


@pytest.fixture(scope="session")
def make_service(small_preset: Path) -> Iterator[MakeService]:
    """Makes a service with limits and settings of its own; its engine is stopped in the end."""
    made: list[Engine] = []

    def make(
        settings: ServiceSettings | None = None, encode: object = encode_batch, **limits: object
    ) -> Service:
        chosen = replace(DEFAULT_LIMITS, **limits)  # type: ignore[arg-type]
        composer = Composer.load(small_preset, device="cpu", precision="fp32", limits=chosen)
        made.append(Engine(composer, encode_many=encode).start())  # type: ignore[arg-type]
        return Service.of(made[-1], settings)

    yield make
    for engine in made:
        engine.drain(0)


@pytest.fixture(scope="session")
def service(make_service: MakeService) -> Service:
    """With all defaults."""
    return make_service()


@pytest.fixture(scope="session")
def client(service: Service) -> Iterator[TestClient]:
    """Of :func:`service`, in this process. A bug is answered as it would be, and not raised."""
    with TestClient(create_app(service), raise_server_exceptions=False) as client:
        yield client
