"""A very small model with random weights, a few photos, and the command line as a function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from apps.cli import run
from composer.presets import load_preset
from sam.checkpoints import save_weights
from sam.variants import build_model

PRESET = """
description: random weights, for tests
model:
  encoder:
    {family: compact, backbone: regnetx_002, image_size: 64, out_chans: 16, neck_chans: 8,
     attention_layers: 1, attention_heads: 2}
  decoder: {embed_dim: 16, num_heads: 2, mlp_dim: 32, iou_head_hidden_dim: 16, mask_in_chans: 4}
weights: {file: small.safetensors}
everything: {pred_iou_thresh: 0.0, stability_score_thresh: 0.0}
"""


@dataclass(frozen=True)
class Ended:
    """What a command line left behind."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line on stderr."""
        lines = self.err.splitlines()
        assert len(lines) == 1, f"expected one line on stderr, not {lines}"
        return lines[0]


Cli = Callable[..., Ended]


@pytest.fixture(scope="session")
def small_preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A YAML preset with its weights beside it."""
    path = tmp_path_factory.mktemp("preset") / "small.yaml"
    path.write_text(PRESET)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(load_preset(path).model)
    save_weights(model, path.with_name("small.safetensors"))
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with a.jpg, b.jpg and c.png, 60 x 45 pixels."""
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name in ("a.jpg", "b.jpg", "c.png"):
        Image.fromarray(random.integers(0, 256, (45, 60, 3), dtype=np.uint8)).save(folder / name)
    return folder


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command line in this process."""

    def call(*arguments: object) -> Ended:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return call


@pytest.fixture
def segment(cli: Cli, small_preset: Path, tmp_path: Path) -> Cli:
    """`segment` with the small model and --out tmp_path/out; later options win."""

    def call(*arguments: object) -> Ended:
        return cli(
            "segment", "--preset", small_preset, "--out", tmp_path / "out", "--device", "cpu", *arguments
        )

    return call
