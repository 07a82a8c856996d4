"""A set of class folders and a set of photos with regions, small enough to be trained on in seconds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image as PILImage

from composer.training_data import write_panoptic
from sam.training.shapes import made_photos

TEXT = """\
clip: {embed_dim: 16, backbone: regnetx_002, image_size: 32,
       text: {context_length: 16, width: 16, heads: 1, layers: 1}}
validation: {panoptic: shapes, limit_images: 3}
words: {teacher: no_such_teacher, nouns: {tar: pictures, file: nouns.txt}, composed: 6, batch: 8, steps: 6,
        learning_rate: 0.003}
pictures: {batch: 8, steps: 6, learning_rate: 0.002, text_learning_rate: 0.001}
data:
  root: .
  folders: {pictures: {weight: 1}}
  sets: {shapes: {panoptic: shapes, weight: 0.5, skip: 3}}
vocabulary: {held_out: [teapot], ignored: [], same: {crimson: [red]}, wider: {colour: [red, blue]}}
"""
COLOURS = {"crimson": (220, 20, 30), "blue": (20, 40, 220), "teapot": (90, 90, 90)}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The folder with both sets and the training file ``clip.yaml``."""
    chance = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        folder = tmp_path / "pictures" / name
        folder.mkdir(parents=True)
        for number in range(10):
            noise = chance.integers(-15, 16, (40, 56, 3))
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            PILImage.fromarray(pixels).save(folder / f"{number}.png")
    (tmp_path / "pictures" / "nouns.txt").write_text("red\nsports car\n'hood\n12\nNoon\n")
    write_panoptic(made_photos(8, seed=0), tmp_path / "shapes")
    (tmp_path / "clip.yaml").write_text(TEXT)
    return tmp_path


def made_vectors(phrases: Sequence[str], *_: Any) -> npt.NDArray[np.float32]:
    """A teacher's vectors: of each phrase the mean of its words', the same in every process."""
    rows = []
    for phrase in phrases:
        seeds = [int(hashlib.sha256(word.encode()).hexdigest()[:8], 16) for word in phrase.split()]
        rows.append(np.mean([np.random.default_rng(seed).normal(size=24) for seed in seeds], 0))
    vectors = np.stack(rows)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> Callable[..., npt.NDArray[np.float32]]:
    """Stands in for the sentence model, which is a dependency of real training alone."""
    monkeypatch.setattr("composer.clip_training.run.teacher_vectors", made_vectors)
    return made_vectors
