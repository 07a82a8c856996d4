"""Vectors of segments' pictures reach the segments that they are of, and the prompt encoder's text slot."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sam.training.canvas import CanvasSampler, SamplingConfig
from sam.training.config import TextConfig
from sam.training.data import LabelledPhoto, PackedSet, pack
from sam.training.interactive import first_text
from sam.training.text_vectors import TextVectors, save_vectors
from tests.training.kit import model_of, plain_config, trainer_of


@pytest.fixture(autouse=True)
def as_before(one_thread: None) -> Iterator[None]:
    yield
    torch.set_flush_denormal(False)


def two_colours(number: int) -> LabelledPhoto:
    """Left red, right blue, each over all rows; and nothing between them."""
    pixels = np.full((64, 64, 3), 128, np.uint8)
    layer = np.zeros((64, 64), np.uint8)
    for segment, columns, colour in ((1, slice(0, 24), (250, 5, 5)), (2, slice(40, 64), (5, 5, 250))):
        pixels[:, columns], layer[:, columns] = colour, segment
    return LabelledPhoto(pixels, (layer,), f"{number}.png")


@pytest.fixture
def coloured(tmp_path: Path) -> PackedSet:
    """Each segment's vector says which colour it has: (1, 0) red, (0, 1) blue. The first photo has none."""
    packed = pack([two_colours(number) for number in range(3)], tmp_path / "coloured")
    keys = np.array([(photo, 0, segment) for photo in (1, 2) for segment in (1, 2)])
    vectors = np.array([[[1, 0]], [[0, 1]]] * 2, np.float16)
    return replace(packed, texts=save_vectors(tmp_path / "coloured/texts", vectors, keys))


@pytest.mark.parametrize(
    "settings", [{}, {"mosaic": 1.0}, {"paste": 1.0}, {"surroundings": 1.0}, {"component": 1.0, "group": 0.0}]
)
def test_a_target_has_the_vector_of_its_own_segment(coloured: PackedSet, settings: dict[str, float]) -> None:
    plain = {"mosaic": 0.0, "paste": 0.0, "surroundings": 0.0, "component": 0.0, "group": 0.0}
    config = SamplingConfig({"coloured": 1.0}, masks=4, min_area=0.03, **{**plain, **settings})
    sampler = CanvasSampler([coloured], config, 0)
    found = {"red": 0, "blue": 0, "none": 0}
    for number in range(40):
        sample = sampler(number, 64)
        assert sample.texts is not None and sample.texts.shape == (4, 2)
        for target, vector in zip(sample.targets, sample.texts, strict=True):
            cells = sample.ids.reshape(16, 4, 16, 4)
            pure = (target > 0) & (cells == cells[:, :1, :, :1]).all((1, 3))  # without a border in it
            if not pure.any():
                continue
            inside = sample.pixels[::4, ::4][pure].astype(float).mean(0)
            colour = "red" if inside[0] > inside[2] + 60 else "blue" if inside[2] > inside[0] + 60 else "grey"
            if np.isnan(vector).all():
                found["none"] += 1
            else:
                said = "red" if vector[0] == 1 else "blue"
                found[said] += 1
                assert colour in (said, "grey")  # colours are taken away now and then
    assert min(found.values()) > 0


def test_without_vectors_samples_are_as_they_were(coloured: PackedSet) -> None:
    config = SamplingConfig({"coloured": 1.0}, masks=4)
    plain = CanvasSampler([replace(coloured, texts=None)], config, 0)(3, 64)
    with_texts = CanvasSampler([coloured], config, 0)(3, 64)
    assert plain.texts is None
    assert np.array_equal(plain.pixels, with_texts.pixels) and np.array_equal(
        plain.targets, with_texts.targets
    )


def test_vectors_are_kept(tmp_path: Path) -> None:
    save_vectors(tmp_path / "a", np.ones((1, 2, 3), np.float16), np.array([[4, 1, 7]]))
    texts = TextVectors.open(tmp_path / "a")
    assert texts.width == 3
    found = texts.of(4, 1, 7)
    assert found is not None and found.shape == (2, 3)
    assert texts.of(4, 0, 7) is None


def test_a_text_is_a_single_prompt() -> None:
    prompt = first_text(torch.rand(3, 5))
    assert prompt.ambiguous and prompt.points.shape == (3, 0, 2)


def test_the_text_slot_learns_when_texts_are_asked(coloured: PackedSet, tmp_path: Path) -> None:
    model = model_of("compact", text_dim=2)
    config = plain_config(
        sampling=SamplingConfig({"coloured": 1.0}, masks=2, component=0, group=0),
        text=TextConfig("x", share=1.0),
        box_share=0.0,
    )
    trainer = trainer_of(copy.deepcopy(model), coloured, tmp_path / "texts", config)
    slot, before = trainer.model.prompt_encoder.text_projection, model.prompt_encoder.text_projection
    assert slot is not None and before is not None
    trainer.run()
    assert not torch.equal(slot.weight, before.weight)
    silent = trainer_of(
        copy.deepcopy(model), coloured, tmp_path / "silent", replace(config, text=TextConfig("x", share=0.0))
    )
    silent.run()
    quiet = silent.model.prompt_encoder.text_projection
    assert quiet is not None and torch.equal(quiet.weight, before.weight)
