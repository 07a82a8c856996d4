"""The service over a small model, to send it what it must refuse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from apps.api.app import create_app
from apps.api.service import Service
from composer import Composer
from composer.engine.engine import Engine
from composer.limits import DEFAULT_LIMITS

BODY_LIMIT = 1 << 20


@pytest.fixture(scope="module")
def client(small_preset: Path) -> Iterator[TestClient]:
    """Limits small enough to be reached: bodies of 1 MiB, 256 KiB of masks."""
    limits = replace(DEFAULT_LIMITS, max_body_bytes=BODY_LIMIT, mask_memory_bytes=256 << 10, max_requests=4)
    composer = Composer.load(small_preset, device="cpu", precision="fp32", limits=limits)
    with Engine(composer) as engine:
        # What the server would answer is looked at, so bugs must not be raised past it.
        app = create_app(Service.of(engine))
        with TestClient(app, raise_server_exceptions=False) as client:
            yield client


@pytest.fixture(autouse=True)
def still_working(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test that used the service it works as before."""
    yield
    if "client" in request.fixturenames:
        assert request.getfixturevalue("client").get("/readyz").status_code == 200
