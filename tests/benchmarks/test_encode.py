"""The benchmark of encoders: every peer's embedding is ours, and its figures are those of its shapes."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import nn

from sam.image_encoder.compact import CompactConfig
from sam.image_encoder.vit import ViTConfig
from sam.variants import DecoderConfig, ModelConfig, build_model

DECODER = DecoderConfig(embed_dim=32, num_heads=4, mlp_dim=64, iou_head_hidden_dim=32, mask_in_chans=8)
VIT = ViTConfig(32, 2, 2, (1,), image_size=128, window_size=3, out_chans=32)
COMPACT = CompactConfig("regnetx_002", image_size=128, out_chans=32, neck_chans=16, attention_heads=2)


@pytest.fixture(scope="module")
def encode(benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark("encode")


@pytest.mark.parametrize("config", [VIT, COMPACT], ids=["vit", "compact"])
def test_rows_of_one_model(encode: ModuleType, config: ViTConfig | CompactConfig) -> None:
    torch.manual_seed(0)
    model = build_model(ModelConfig("small", config, DECODER))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
    model.prepare()
    rows = encode.compared("small", model, 1, compiled=False)
    ways = [row["way"] for row in rows]
    assert ways[:2] == ["sam-composer", encode.AS_TRAINED]
    assert set(ways[2:]) == (set(encode._peers.installed()) if config is VIT else set())
    for row in rows[1:]:
        assert row["cosine"] >= 0.999
        assert row["largest_difference"] < 1e-4
        assert row["ratio"]["median"] > 0
    assert rows[0]["gflop"] > 0


def test_a_difference_shows(encode: ModuleType) -> None:
    ours = torch.randn(1, 8, 4, 4)
    assert encode.distance(ours, ours) == {"cosine": 1.0, "largest_difference": 0.0}
    other = encode.distance(-ours, ours)
    assert other == {"cosine": -1.0, "largest_difference": 2.0}


def test_products_of_a_convolutional_encoder_are_counted(encode: ModuleType) -> None:
    model = build_model(ModelConfig("small", COMPACT, DECODER))
    # Its stem alone: 3 x 3 x 3 by 32 channels at half the side.
    assert encode.products(model)["gflop"] > 2 * 27 * 32 * 64 * 64 / 1e9
