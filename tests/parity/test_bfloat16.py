"""bfloat16 on the CPU gives float32's masks: as deep as ViT-B, small enough for a CPU that emulates it."""

from __future__ import annotations

import pytest
import torch

from sam.image_encoder.vit import ViTConfig
from sam.prompts import Prompts
from sam.variants import DecoderConfig, ModelConfig, build_model


@pytest.fixture(scope="module")
def config():
    encoder = ViTConfig(
        embed_dim=128,
        depth=12,
        num_heads=2,
        global_attn_indexes=(2, 5, 8, 11),
        image_size=256,
        window_size=7,
        out_chans=64,
    )
    decoder = DecoderConfig(embed_dim=64, num_heads=4, mlp_dim=128, iou_head_hidden_dim=64)
    return ModelConfig("mini", encoder, decoder)


def masks_and_features(model, image):
    """(n, H, W) bool masks of boxes and points, and the (1, C, h, w) embedding."""
    embedding = model.encode([image])[0]
    height, width = embedding.original_size
    scale = torch.tensor([width, height])
    points = torch.tensor([[0.3, 0.6], [0.72, 0.31], [0.5, 0.93]]) * scale
    boxes = torch.cat([points * 0.5, points * 0.5 + scale * 0.4], dim=1)
    labels = torch.ones(3, 1, dtype=torch.int64)
    logits = [
        model.upsample(model.decode(embedding, prompts, multimask=True).low_res_logits(), embedding)
        for prompts in (Prompts(boxes=boxes), Prompts(points=points[:, None], labels=labels))
    ]
    return torch.cat(logits) > 0, embedding.features


@pytest.mark.parametrize("decode_dtype", [None, torch.float32])  # as on a GPU, and as on a CPU
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_same_masks_as_float32(config, randomise, portrait, seed, decode_dtype):
    model = randomise(build_model(config), seed)
    expected, expected_features = masks_and_features(model, portrait)
    model.compute_dtype, model.decode_dtype = torch.bfloat16, decode_dtype
    found, features = masks_and_features(model, portrait)

    difference = (features - expected_features).abs().max() / expected_features.abs().max()
    assert 1e-4 < difference < 0.03  # above the lower bound, or nothing ran in bfloat16
    intersection = (found & expected).sum((1, 2))
    union = (found | expected).sum((1, 2))
    # Random weights leave more pixels near the threshold than trained ones do, which small masks feel most.
    assert intersection.sum() / union.sum() >= 0.98
    assert (intersection / union).min() >= 0.95
