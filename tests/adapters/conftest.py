"""A tiny model with random weights, and scenes made with it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch

from adapters.base import Defaults, Scene
from sam.image_encoder.vit import ViTConfig
from sam.model import SegmentAnything
from sam.variants import DecoderConfig, ModelConfig, build_model

MakeScene = Callable[..., Scene]


@pytest.fixture(scope="session")
def tiny_model() -> SegmentAnything:
    torch.manual_seed(0)
    encoder = ViTConfig(
        embed_dim=16,
        depth=1,
        num_heads=2,
        global_attn_indexes=(0,),
        image_size=64,
        patch_size=8,
        out_chans=32,
    )
    decoder = DecoderConfig(embed_dim=32, num_heads=2, mlp_dim=32)
    model = build_model(ModelConfig("tiny-random", encoder, decoder))
    # Around one half, so that a threshold above 0 takes some masks and leaves some.
    torch.nn.init.constant_(model.mask_decoder.iou_prediction_head.layers[-1].bias, 0.5)
    return model


@pytest.fixture
def make_scene(tiny_model: SegmentAnything) -> MakeScene:
    """``make_scene(height, width)``: a photo of noise, with thresholds that keep every mask."""

    def make(height: int = 40, width: int = 60, defaults: Defaults | None = None) -> Scene:
        photo = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)
        keep_all = Defaults(pred_iou_thresh=0.0, stability_score_thresh=0.0)
        return Scene(photo, tiny_model, lambda pixels: tiny_model.encode([pixels])[0], defaults or keep_all)

    return make


@pytest.fixture
def blobs() -> Callable[[int, tuple[int, int], int], npt.NDArray[np.bool_]]:
    """``blobs(count, (height, width), seed)``: smooth random masks, with holes and islands."""

    def make(count: int, size: tuple[int, int], seed: int = 0) -> npt.NDArray[np.bool_]:
        noise = torch.randn(count, 1, 6, 6, generator=torch.Generator().manual_seed(seed))
        smooth = torch.nn.functional.interpolate(noise, size, mode="bicubic")[:, 0]
        return np.asarray((smooth > 0.3).numpy())

    return make
