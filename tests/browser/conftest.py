"""Tests in a real browser run when asked for: `make test-browser`, or the variable below set to 1.

One Chromium serves all of them: Playwright runs an event loop in the thread that starts it, and refuses to
start a second one there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ASKED = "SAM_COMPOSER_BROWSER_TESTS"
HERE = Path(__file__).parent
OUT = HERE.parents[1] / "out" / "browser"
"""Screenshots, to be looked at."""
NAMES = (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, (shutil.which(name) for name in NAMES if name)), None)
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
PATIENCE = 300_000
"""Milliseconds after which a step has failed: the machine may be busy, and nothing is asserted about time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get(ASKED) == "1":
        return
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(
                pytest.mark.skip(reason=f"needs a browser and minutes: `make test-browser` ({ASKED}=1)")
            )


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A headless Chromium; tests open contexts and pages of their own in it."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here: `make browser` installs Debian's, or name one in CHROMIUM")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """The folder of the pictures."""
    OUT.mkdir(parents=True, exist_ok=True)
    return OUT
