"""What a wheel carries: hatch takes the folders of ``only-include``, without what git ignores."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from composer.presets import load_preset, preset_names
from composer.weights import expected_path

CLIP = "open_clip_model.safetensors", "open_clip_config.json"


def carried(root: Path, names: list[str]) -> list[str]:
    """Those of ``names`` (from ``root``) that a wheel would carry, if they were there."""
    section = (root / "pyproject.toml").read_text().partition("[tool.hatch.build.targets.wheel]")[2]
    section = section.partition("\n[")[0]
    assert "exclude" not in section, "this test knows no exclude"
    included = re.search(r"^only-include = \[(.*)\]$", section, re.MULTILINE)
    assert included is not None
    folders = tuple(f"{folder}/" for folder in re.findall(r'"(.+?)"', included[1]))
    command = ["git", "check-ignore", "--no-index", "--stdin"]
    asked = "\n".join(names)
    ended = subprocess.run(command, check=False, cwd=root, input=asked, capture_output=True, text=True)
    assert ended.returncode in (0, 1), ended.stderr
    ignored = ended.stdout.splitlines()
    return [name for name in names if name.startswith(folders) and name not in ignored]


@pytest.fixture
def checkout(root: Path) -> Path:
    if not (root / ".git").exists():
        pytest.skip("not a checkout: git cannot be asked what it ignores")
    return root


def test_what_would_be_left_out_is_seen(checkout: Path) -> None:
    names = ["sam/model.py", "sam/__pycache__/model.pyc", "runs/x.safetensors", "docs/install.md"]
    assert carried(checkout, names) == ["sam/model.py"]


def test_a_wheel_carries_the_embedded_files_of_all_presets(checkout: Path) -> None:
    files = {checkout / "sam/weights/tiny-clip" / name for name in CLIP}
    for preset in map(load_preset, preset_names()):
        for one in preset.files():
            files |= {expected_path(one)} if one.embedded else set()
            if one.part == "clip" and one.embedded:
                assert expected_path(one).with_name(CLIP[1]).is_file()
    names = sorted(path.relative_to(checkout).as_posix() for path in files)
    assert "sam/weights/tiny.safetensors" in names
    assert carried(checkout, names) == names
