"""The commands of docs/serve.md, run as they stand there against a server."""

from __future__ import annotations

import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from apps.api.app import create_app
from tests.apps.api.kit import MakeService, image_file, living

PAGE = Path(__file__).resolve().parents[3] / "docs" / "serve.md"
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_commands_work(make_service: MakeService, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    (tmp_path / "photo.jpg").write_bytes(image_file(1, (810, 1080), "JPEG"))
    blocks = BLOCK.findall(PAGE.read_text())
    assert len(blocks) == 4 and sum(block.count("curl") for block in blocks) == 8
    outputs = []
    with living(create_app(make_service())) as server:
        for block in blocks:
            script = block.replace("http://127.0.0.1:8000", server.url)
            assert server.url in script
            script = "set -euo pipefail\n" + script.replace(
                "curl -s ", "curl -s --noproxy '*' --fail-with-body "
            )
            done = subprocess.run(
                ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
            )
            assert done.returncode == 0, (block, done.stdout[-500:], done.stderr)
            outputs.append(done.stdout)
    assert '"segmentation"' in outputs[0] and '"segmentation"' in outputs[2]
    with zipfile.ZipFile(tmp_path / "found.zip") as archive:
        assert {"image.json", "masks/000.png", "image.overlay.png"} <= set(archive.namelist())
    with Image.open(tmp_path / "overlay.png") as picture:
        assert picture.size == (810, 1080)
    assert '"encoder_passes": 0' in outputs[3]
    assert (tmp_path / "photo.safetensors").stat().st_size > 1000


def test_every_code_of_the_page_is_one_of_the_sources() -> None:
    root = PAGE.parents[1]
    sources = "".join(
        path.read_text()
        for folder in ("apps/api", "composer", "adapters", "sam")
        for path in (root / folder).rglob("*.py")
    )
    rows = re.findall(r"^\| \d{3}[^|]*\| ([^|]*)\|", PAGE.read_text(), re.MULTILINE)
    codes = {code for row in rows for code in re.findall(r"`(\w+)`", row)}
    assert len(codes) > 25
    assert not {code for code in codes if f'"{code}"' not in sources}
