"""What importing costs and warns of."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

HEAVY = (
    "torch",
    "torchvision",
    "timm",
    "cv2",
    "matplotlib",
    "scipy",
    "supervision",
    "pycocotools",
    "ultralytics",
)


def test_importing_composer_loads_no_heavy_library(root: Path) -> None:
    """Names such as Points are found when used: `--help` and tab completion need not wait for torch."""
    loaded = modules_after("import composer", root)
    assert "composer" in loaded
    assert not loaded & {*HEAVY, "gradio", "open_clip", "ray"}


def test_a_public_name_of_composer_comes_when_asked_for(root: Path) -> None:
    assert "torch" in modules_after("from composer import Composer, Points, Boxes, Everything", root)


def modules_after(statement: str, root: Path) -> set[str]:
    """Top-level modules that a fresh interpreter holds after ``statement``."""
    code = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    return set(run.stdout.split())


@pytest.mark.parametrize(
    "module", ["sam.model", "adapters", "composer.images", "apps.cli", "tests.sam.test_x"]
)
def test_a_warning_that_points_at_us_is_an_error(module: str) -> None:
    """Tries the filters of pyproject.toml, which would go unnoticed if they stopped matching."""
    with pytest.raises(UserWarning):
        warnings.warn_explicit("x", UserWarning, f"{module}.py", 1, module=module)


@pytest.mark.parametrize(
    "module", ["torch.nn", "samples.anything", "timm.models", "segment_anything.modeling"]
)
def test_a_warning_inside_a_third_party_is_theirs(module: str) -> None:
    warnings.warn_explicit("x", UserWarning, f"{module}.py", 1, module=module)
