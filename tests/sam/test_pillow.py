"""Pictures are opened by Pillow itself, even where ultralytics has put its own function in the way."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, UnidentifiedImageError

from sam.pillow import open_picture


def test_it_opens_what_pillow_opens(tmp_path: Path) -> None:
    Image.new("RGB", (4, 3)).save(tmp_path / "a.png")
    with open_picture(tmp_path / "a.png") as picture:
        assert picture.size == (4, 3)
    with open_picture(io.BytesIO((tmp_path / "a.png").read_bytes()), ["PNG"]) as picture:
        assert picture.format == "PNG"
    with pytest.raises(UnidentifiedImageError):
        open_picture(tmp_path / "a.png", ["JPEG"])


def test_ultralytics_does_not_get_in_between(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n and nothing of a picture")
    code = (
        "import sys, ultralytics; from pathlib import Path\n"
        "from PIL import Image; from composer.images import open_image; from sam.pillow import open_picture\n"
        "from sam.errors import BadImage\n"
        "assert Image.open.__module__ != 'PIL.Image', 'no longer replaced: sam.pillow can go'\n"
        f"path = Path({str(tmp_path / 'bad.png')!r})\n"
        "for opener, expected in ((open_image, BadImage), (open_picture, Image.UnidentifiedImageError)):\n"
        "    try: opener(path)\n"
        "    except expected: continue\n"
        "    sys.exit('opened')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "AutoUpdate" not in ended.stdout + ended.stderr
