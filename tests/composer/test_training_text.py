"""Crops of segments and their vectors: as the paper's appendix D.5 has them, computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from composer.configs import configs_folder
from composer.formats.atomic import write_json
from composer.training_config import read_training_run
from composer.training_data import ABOUT
from composer.training_text import crop_of, segment_crops, text_width, with_texts
from sam.errors import CheckpointError, UsageError
from sam.training.config import TextConfig
from sam.training.data import LabelledPhoto, PackedSet, pack

CONFIG = TextConfig("clip", variants=4, min_side=100)


class MeanColour:
    """Looks at pictures as little as possible."""

    width = 3

    def __init__(self) -> None:
        self.seen = 0

    def encode_pictures(self, shown: Sequence[np.ndarray]) -> torch.Tensor:
        self.seen += len(shown)
        return torch.from_numpy(np.stack([one.mean((0, 1)) / 255 for one in shown]).astype(np.float32))


@pytest.fixture
def packed(tmp_path: Path) -> PackedSet:
    """One photo of 128: a segment of 32 x 16 pixels, and one that is too small for a vector (8 x 8)."""
    pixels, layer = np.full((128, 128, 3), 100, np.uint8), np.zeros((128, 128), np.uint8)
    pixels[10:42, 20:36], layer[10:42, 20:36] = (200, 0, 0), 1
    layer[100:108, 100:108] = 2
    found = pack([LabelledPhoto(pixels, (layer,), "x.png")], tmp_path / "packed/set")
    write_json(tmp_path / "packed/set" / ABOUT, {"made": "here"})
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip/open_clip_model.safetensors").write_bytes(b"weights")
    return found


def test_crops(packed: PackedSet) -> None:
    ((key, crops),) = segment_crops(packed, CONFIG)  # 12.5 pixels of 128 are 100 of 1024
    assert key == (0, 0, 1) and len(crops) == 4
    for number, crop in enumerate(crops):
        side = crop.shape[0]
        assert crop.shape == (side, side, 3) and 32 <= side <= 64
        red = (crop == (200, 0, 0)).all(2)
        assert red.sum() == 32 * 16  # all of it
        rest = crop[~red]
        grey = (rest == 100).all(1).any()
        assert grey == (number % 2 == 0)  # half of them have the segment alone
    sides = [crop.shape[0] for crop in crops]
    assert len(set(sides)) > 1
    again = next(segment_crops(packed, CONFIG))[1]
    assert all(np.array_equal(a, b) for a, b in zip(crops, again, strict=True))


def test_a_crop_at_the_border_is_black_beyond_it() -> None:
    mask = np.zeros((20, 20), bool)
    mask[:10, :4] = True
    pixels = np.full((20, 20, 3), 9, np.uint8)
    crop = crop_of(pixels, mask, 1.0, False, np.random.default_rng(0))
    assert crop.shape == (10, 10, 3)
    assert (crop[:, :3] == 0).all() and (crop[:, 3:] == 9).all()


def test_vectors_are_computed_once(packed: PackedSet, tmp_path: Path) -> None:
    model = MeanColour()
    told: list[tuple[str, int]] = []

    def texts(config: TextConfig = CONFIG) -> PackedSet:
        (found,) = with_texts(
            [packed], tmp_path / "packed", tmp_path / "clip", config, lambda: model, lambda *a: told.append(a)
        )
        return found

    first = texts()
    assert first.texts is not None and told == [("set", 1)] and model.seen == 4
    vectors = first.texts.of(0, 0, 1)
    assert vectors is not None and vectors.shape == (4, 3)
    assert vectors[0][1] > 0.05 and vectors[1][1] == 0  # grey around it, black around it
    assert first.texts.of(0, 0, 2) is None
    texts(replace(CONFIG, share=0.1))
    assert model.seen == 4
    texts(replace(CONFIG, variants=2))
    assert model.seen == 6
    (tmp_path / "clip/open_clip_model.safetensors").write_bytes(b"others")
    texts(replace(CONFIG, variants=2))
    assert model.seen == 8
    assert texts(replace(CONFIG, min_side=900)).texts is None  # no segment is as large


def test_the_embedded_pair_gives_the_model_its_text_slot() -> None:
    run = read_training_run(configs_folder() / "training/text.yaml")
    assert run.clip is not None and run.model.decoder.text_dim == text_width(run.clip) == 256


def test_a_folder_that_is_none_of_open_clips(tmp_path: Path) -> None:
    text = (configs_folder() / "training/text.yaml").read_text()
    (tmp_path / "text.yaml").write_text(text.replace("clip: tiny", "clip: none"))
    with pytest.raises(UsageError, match=r"text\.clip: .*none is no folder with open_clip_config"):
        read_training_run(tmp_path / "text.yaml")
    (tmp_path / "open_clip_config.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"open_clip_config\.json: not a description"):
        text_width(tmp_path)
