"""A project of two photos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PILImage

from adapters.rle import encode_mask, to_json
from composer.projects.project import Project

SIZE = 30, 40


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Folder `set` with `a.png` and `day/b.png`, 40 x 30 pixels."""
    random = np.random.default_rng(0)
    for name in ("a.png", "day/b.png"):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        PILImage.fromarray(random.integers(0, 256, (*SIZE, 3), dtype=np.uint8)).save(path)
    return Project(tmp_path / "set")


def mask(uid: str, x: int = 3, **more: Any) -> dict[str, Any]:
    """A record of a mask of 10 x 8 pixels."""
    pixels = np.zeros(SIZE, np.bool_)
    pixels[5:13, x : x + 10] = True
    return {"uid": uid, "segmentation": to_json(encode_mask(pixels)), **more}
