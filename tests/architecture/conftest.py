"""The source files of the project, for the tests of its structure."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("apps", "composer", "adapters", "sam")


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def package_files() -> list[Path]:
    """Every Python file of the four packages."""
    files = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    assert len(files) > 20, "the packages were not found: the tests below would pass on nothing"
    return files
