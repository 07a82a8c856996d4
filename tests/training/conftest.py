"""Small data sets on disk, and the smallest model that trains."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from composer.training_data import write_panoptic
from sam.model import SegmentAnything
from sam.training.data import PackedSet, pack
from sam.training.shapes import made_photos
from sam.variants import ModelConfig, build_model

SMALLEST = {
    "encoder": {
        "family": "compact", "backbone": "test_resnet", "image_size": 64, "out_chans": 32, "neck_chans": 16,
        "attention_layers": 1, "attention_heads": 2,
    },
    "decoder": {
        "embed_dim": 32, "num_heads": 2, "mlp_dim": 64, "iou_head_hidden_dim": 32, "mask_in_chans": 4,
    },
}  # fmt: skip


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def new_model(seed: int = 0) -> SegmentAnything:
    torch.manual_seed(seed)
    return build_model(ModelConfig.from_mapping("smallest", SMALLEST))


@pytest.fixture
def model() -> SegmentAnything:
    return new_model()


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> PackedSet:
    """60 made photos, packed."""
    return pack(made_photos(60, side=64), tmp_path_factory.mktemp("packed") / "shapes", long_side=64)


@pytest.fixture
def panoptic(tmp_path: Path) -> Path:
    """A COCO-panoptic folder of 4 made photos."""
    folder = tmp_path / "set"
    write_panoptic(made_photos(4, side=32), folder)
    return folder
