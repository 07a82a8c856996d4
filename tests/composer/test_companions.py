"""A composer's other models: what a preset names as its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from adapters.detect import Detect
from adapters.points import Points
from adapters.text import Text
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


def test_what_requests_will_ask_is_loaded_beforehand() -> None:
    companions = Companions(load_preset("tiny"))
    companions.load_for([Points([(1, 1)], [1])])
    assert companions.describe() == []
    companions.load_for([Text("dog"), Detect()])
    assert [one["kind"] for one in companions.describe()] == ["clip", "detector"]
    assert companions.describe() == companions.named_by([Text("dog"), Detect()])


def test_a_preset_without_companions_has_nothing_to_load_beforehand(tmp_path: Path) -> None:
    companions = Companions(replace(load_preset("tiny"), clip=None, detector=None))
    companions.load_for([Text("dog"), Detect()])
    assert companions.describe() == []
    with pytest.raises(CheckpointError):
        companions.load_for([Detect(detector=str(tmp_path / "none.pt"), trust=True)])
