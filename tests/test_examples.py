"""The scripts in examples/ run as their first lines say, on the photo that a user has too."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from composer import Composer, Points

ROOT = Path(__file__).resolve().parents[1]


def run_example(name: str, *arguments: str | Path, expect: int = 0) -> str:
    """Output of ``examples/name``, run as a user runs it."""
    run = subprocess.run(
        [sys.executable, ROOT / "examples" / name, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == expect, run.stdout + run.stderr
    return run.stdout + run.stderr


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bus.jpg at a third of its size: what is tested does not need the pixels."""
    package = importlib.util.find_spec("ultralytics")
    if package is None or not package.submodule_search_locations:
        pytest.skip("the ultralytics package with its photo is not installed")
    path = tmp_path_factory.mktemp("photo") / "bus.jpg"
    with Image.open(Path(package.submodule_search_locations[0], "assets", "bus.jpg")) as image:
        image.resize((270, 360)).save(path)
    return path


def test_demo(tmp_path: Path) -> None:
    printed = run_example("demo.py", "--out", tmp_path / "out")
    for name in ("click", "box", "everything"):
        with Image.open(tmp_path / "out" / f"{name}.png") as picture:
            assert picture.size == (810, 1080)
        assert str(tmp_path / "out" / f"{name}.png") in printed
    assert printed.count(" s\n") == 5  # load, encode and the three requests, with their times
    assert not re.search(r"\b0 masks", printed)


def test_demo_on_a_photo_of_your_own(tmp_path: Path, photo: Path) -> None:
    run_example("demo.py", photo, "--out", tmp_path)
    with Image.open(tmp_path / "box.png") as picture:
        assert picture.size == (270, 360)


def test_segment_by_click(tmp_path: Path, photo: Path) -> None:
    out = tmp_path / "man.png"
    printed = run_example("segment_by_click.py", photo, "43", "187", out)
    assert printed.count("candidate") == 4
    with Image.open(out) as cut_out:
        pixels = np.asarray(cut_out)
    assert pixels.shape == (360, 270, 4)
    assert pixels[187, 43, 3] == 255, "the clicked pixel is part of the object"
    assert set(np.unique(pixels[..., 3])) == {0, 255}


def test_everything_to_coco(tmp_path: Path, photo: Path) -> None:
    out = tmp_path / "all.json"
    run_example("everything_to_coco.py", out, photo, photo)
    coco = COCO(out)
    assert sorted(coco.getImgIds()) == [1, 2]
    ids = [annotation["id"] for annotation in json.loads(out.read_text())["annotations"]]
    assert ids and ids == list(range(1, len(ids) + 1))
    assert coco.annToMask(coco.loadAnns(ids[0])[0]).shape == (360, 270)


@pytest.mark.parametrize("name", ["segment_by_click.py", "everything_to_coco.py"])
def test_without_arguments_they_explain_themselves(name: str) -> None:
    assert f"python examples/{name}" in run_example(name, expect=1)


def test_the_adapter_of_the_documentation(photo: Path) -> None:
    page = (ROOT / "docs" / "adapters.md").read_text()
    source = re.search(r"^```python\n(# middle\.py.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert source is not None
    middle = types.ModuleType("middle")
    exec(compile(source[1], "middle.py", "exec", dont_inherit=True), middle.__dict__)

    scene = Composer.load("tiny").open(photo)
    found = middle.MiddleAdapter()(scene, middle.Middle())
    assert found.rles == scene.run(Points([[135, 180]])).rles


def test_every_example_is_tested() -> None:
    tested = Path(__file__).read_text()
    untested = [p.name for p in (ROOT / "examples").glob("*.py") if f'run_example("{p.name}"' not in tested]
    assert not untested
