"""Counted products against figures worked out by hand from the paper's shapes."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import torch

from composer.presets import load_model_config
from sam.embedding import Embedding
from sam.image_encoder.vit import ViTConfig
from sam.prompts import Prompts
from sam.variants import DecoderConfig, ModelConfig, build_model


@pytest.fixture(scope="module")
def flops(benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark("_flops")


@pytest.mark.parametrize(("name", "tera"), [("vit_b", 0.97), ("vit_h", 5.95)])
def test_encoders_of_the_paper(flops: ModuleType, name: str, tera: float) -> None:
    encoder = load_model_config(name).encoder
    assert isinstance(encoder, ViTConfig)
    # The figures leave out the relative positions, a four-hundredth of ViT-H's products.
    assert 2 * flops.vit_macs(encoder) / 1e12 == pytest.approx(tera, rel=0.003)
    assert flops.vit_macs(encoder, pad_windows=False) < flops.vit_macs(encoder)


def test_decoder_of_the_paper(flops: ModuleType) -> None:
    published = flops.decoder_macs(DecoderConfig(), 64 * 64)
    # 1.79 is the image's side; what the seven tokens go through among themselves is another hundredth.
    assert published / 1e9 == pytest.approx(1.79, rel=0.015)


SMALL = ViTConfig(
    embed_dim=32, depth=3, num_heads=2, global_attn_indexes=(1,), image_size=256, window_size=7, out_chans=64
)


def test_the_encoder_as_torch_counts_it(flops: ModuleType, benchmark: Callable[[str], ModuleType]) -> None:
    peers = benchmark("_peers")
    if "segment_anything" not in peers.installed():
        pytest.skip("segment-anything is not installed (pip install -e '.[bench]')")
    reference = peers.segment_anything_of(build_model(ModelConfig("small", SMALL, DecoderConfig(64))))
    found = flops.counted(lambda: reference.image_encoder(torch.zeros(1, 3, 256, 256)))
    assert 2 * flops.vit_macs(SMALL) == pytest.approx(found, rel=1e-3)


def test_the_decoder_as_torch_counts_it(flops: ModuleType, benchmark: Callable[[str], ModuleType]) -> None:
    peers, ways = benchmark("_peers"), benchmark("_peer_decoders")
    if "segment_anything" not in peers.installed():
        pytest.skip("segment-anything is not installed (pip install -e '.[bench]')")
    config = DecoderConfig(64, num_heads=4, mlp_dim=96, iou_head_hidden_dim=48)
    reference = peers.segment_anything_of(build_model(ModelConfig("small", SMALL, config)))
    decode = ways.published(reference, torch.zeros(1, 64, 16, 16))
    clicks = Prompts(points=torch.zeros(5, 1, 2), labels=torch.ones(5, 1, dtype=torch.int64))
    found = flops.counted(lambda: decode(clicks, True))
    assert 2 * 5 * flops.decoder_macs(config, 256) == pytest.approx(found, rel=2e-3)


def test_ours_are_counted_as_they_are_made(flops: ModuleType) -> None:
    """With the paper's shapes fewer products than published, and not a small part of them, which would say
    that some go by uncounted."""
    torch.manual_seed(0)
    model = build_model(ModelConfig("small", SMALL, DecoderConfig()))
    side = (256, 256)
    embedding = Embedding(torch.randn(1, 256, 16, 16), (), None, side, side, "")
    clicks = Prompts(points=torch.rand(8, 1, 2) * 256, labels=torch.ones(8, 1, dtype=torch.int64))
    found = flops.counted(lambda: model.decode(embedding, clicks, multimask=True).low_res_logits())
    assert 0.15 < found / (2 * 8 * flops.decoder_macs(DecoderConfig(), 256)) < 1


def test_products_in_place_are_counted(flops: ModuleType) -> None:
    added, a, b = torch.zeros(2, 3, 4), torch.ones(2, 3, 5), torch.ones(2, 5, 4)
    assert flops.counted(lambda: added.baddbmm_(a, b)) == 2 * 2 * 3 * 5 * 4
    assert flops.counted(lambda: torch.baddbmm(added, a, b)) == 2 * 2 * 3 * 5 * 4


def test_rate_is_a_rate(flops: ModuleType) -> None:
    rate = flops.matmul_rate(side=64, repeats=3)
    assert 0 < rate["low"] <= rate["median"] <= rate["high"]
