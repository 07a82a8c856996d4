"""Adapters by name, those of an installed third-party package included."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from adapters.base import Request
from adapters.points import Points, PointsAdapter
from composer.registry import adapter_for, adapter_names, adapter_of
from sam.errors import UsageError


def test_the_built_in_adapters() -> None:
    assert {"points", "boxes", "everything"} <= set(adapter_names())
    assert isinstance(adapter_for("points"), PointsAdapter)
    assert adapter_of(Points([[1, 2]])) is adapter_for("points")


def test_an_unknown_kind_lists_the_known() -> None:
    with pytest.raises(
        UsageError,
        match=r"'point': did you mean 'points'\? known: boxes, detect, edges, everything",
    ):
        adapter_for("point")


def test_a_request_of_no_kind_and_one_that_takes_anothers_name() -> None:
    class Nameless(Request):
        pass

    class Impostor(Request):
        kind = "points"

    with pytest.raises(UsageError, match="cannot run a Nameless"):
        adapter_of(Nameless())
    with pytest.raises(UsageError, match=r"answers Points, not .*Impostor"):
        adapter_of(Impostor())


PLUGIN = """
from dataclasses import dataclass
from typing import ClassVar
from adapters.base import Request
from adapters.points import Points, PointsAdapter

@dataclass(frozen=True)
class Centre(Request):
    kind: ClassVar[str] = "centre"

class CentreAdapter:
    request = Centre
    def __call__(self, scene, request):
        height, width = scene.size
        return PointsAdapter()(scene, Points([[width // 2, height // 2]]))

class NoAdapter:
    pass
"""
SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from composer import Composer, Points
from composer.registry import adapter_for, adapter_names
from sam.errors import EnvironmentProblem
import dummy_adapters
assert "centre" in adapter_names(), adapter_names()
photo = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
scene = Composer.load(sys.argv[1]).open(photo)
found = scene.run(dummy_adapters.Centre())
same = scene.run(Points([[40, 30]]))
assert np.array_equal(found.masks, same.masks)
assert type(adapter_for("points")).__module__ == "adapters.points"  # a plug-in cannot take a built-in's name
for broken in ("missing", "nothing"):
    try:
        adapter_for(broken)
    except EnvironmentProblem as error:
        print(error)
    else:
        raise AssertionError(broken)
"""


METADATA = "Metadata-Version: 2.1\nName: dummy-adapters\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
ENTRY_POINTS = """
[sam_composer.adapters]
centre = dummy_adapters:CentreAdapter
points = dummy_adapters:CentreAdapter
missing = dummy_adapters:NotThere
nothing = dummy_adapters:NoAdapter
"""


def write_wheel(folder: Path) -> Path:
    """A wheel is a zip with a few text files: no build backend needed."""
    path = folder / "dummy_adapters-1.0-py3-none-any.whl"
    info = "dummy_adapters-1.0.dist-info"
    files = {
        "dummy_adapters.py": PLUGIN,
        f"{info}/METADATA": METADATA,
        f"{info}/WHEEL": WHEEL,
        f"{info}/entry_points.txt": ENTRY_POINTS,
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return path


def test_an_installed_package_brings_its_own(tmp_path: Path, small_preset: Path) -> None:
    site = tmp_path / "site"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-index",
    ]
    install = [*pip, "--target", str(site), str(write_wheel(tmp_path))]
    subprocess.run(install, check=True, capture_output=True)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(small_preset)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": f"{site}:{root}", "PATH": "/usr/bin:/bin"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "'missing' (dummy_adapters:NotThere) cannot be loaded" in done.stdout
    assert "'nothing' (dummy_adapters:NoAdapter) is no adapter" in done.stdout
