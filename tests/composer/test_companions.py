"""A composer's other models: what a preset names as its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from composer.companions import Companions
from composer.presets import WeightsFile, load_preset
from sam.errors import CheckpointError


def test_a_text_image_model_is_a_whole_folder(tmp_path: Path) -> None:
    (tmp_path / "own.safetensors").write_bytes(b"x")
    preset = replace(load_preset("tiny"), folder=tmp_path, clip=WeightsFile("own.safetensors"))
    with pytest.raises(
        CheckpointError, match=r"not a folder of open_clip, open_clip_config\.json is missing"
    ):
        Companions(preset).text_image_model(None, None)
