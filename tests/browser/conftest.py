"""Tests in a real browser run when asked for: `make test-browser`, or the variable below set to 1."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ASKED = "SAM_COMPOSER_BROWSER_TESTS"
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get(ASKED) == "1":
        return
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(
                pytest.mark.skip(reason=f"needs a browser and minutes: `make test-browser` ({ASKED}=1)")
            )
