"""Segments on one made photo, and the photo on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

Masks = npt.NDArray[np.bool_]
SIZE = (48, 64)


@pytest.fixture
def segments() -> Masks:
    """(3, 48, 64) bool, apart from each other: a disc, a box at the border, a ring with a hole."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    distance = np.hypot(x - 46, y - 24)
    return np.stack([np.hypot(x - 14, y - 12) <= 9, (x < 20) & (y >= 30), (distance <= 15) & (distance > 7)])


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder ``images/`` with b.png and a.png."""
    folder = tmp_path / "images"
    folder.mkdir()
    for seed, name in enumerate(("b.png", "a.png")):
        pixels = np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder
