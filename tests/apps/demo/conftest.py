"""The demo without a browser: its own objects, with a very small model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from apps.demo.photos import Photos
from composer.composer import Composer
from composer.engine.engine import Engine


@pytest.fixture(autouse=True)
def served_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What gradio keeps for visitors goes with the test."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "served"))


@pytest.fixture(scope="session")
def composer(small_preset: Path) -> Composer:
    return Composer.load(small_preset, device="cpu")


@pytest.fixture(scope="session")
def engine(composer: Composer) -> Iterator[Engine]:
    with Engine(composer) as engine:
        yield engine


@pytest.fixture
def photos(engine: Engine) -> Photos:
    engine.composer.cache.clear()
    return Photos(engine)


@pytest.fixture
def photo(tmp_path: Path) -> str:
    """A photo of 60 x 45 pixels."""
    path = tmp_path / "street.png"
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (45, 60, 3), dtype=np.uint8)).save(path)
    return str(path)
