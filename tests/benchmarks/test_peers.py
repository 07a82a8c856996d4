"""The peers that benchmarks compare with compute what we do, once our weights are in them."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sam.embedding import Embedding
from sam.image_encoder.vit import ViTConfig
from sam.model import SegmentAnything
from sam.prompts import Prompts
from sam.variants import DecoderConfig, ModelConfig, build_model

TOLERANCE = 1e-4
SIDE = 256
COMPACT = {
    "encoder": {
        "family": "compact", "backbone": "regnetx_002", "image_size": 128, "out_chans": 32, "neck_chans": 16,
        "attention_layers": 1, "attention_heads": 2,
    },
    "decoder": {
        "embed_dim": 32, "num_heads": 2, "mlp_dim": 64, "iou_head_hidden_dim": 48, "mask_in_chans": 8,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def peers(benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark("_peers")


@pytest.fixture(scope="module")
def model() -> SegmentAnything:
    encoder = ViTConfig(
        embed_dim=32,
        depth=3,
        num_heads=2,
        global_attn_indexes=(1,),
        image_size=SIDE,
        window_size=7,
        out_chans=64,
    )
    decoder = DecoderConfig(embed_dim=64, num_heads=4, mlp_dim=96, iou_head_hidden_dim=48, mask_in_chans=8)
    return drawn_anew(build_model(ModelConfig("small", encoder, decoder)))


def drawn_anew(model: SegmentAnything) -> SegmentAnything:
    """Every parameter random: at birth positions and biases are zero, and a mix-up of them would not show."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            if value.ndim > 1 and "embed" not in name and "token" not in name:
                value.copy_(noise / value[0].numel() ** 0.5)
            else:
                value.add_(0.2 * noise)
    return model.eval()


@pytest.fixture(scope="module", params=["segment_anything", "transformers", "ultralytics"])
def peer(request: pytest.FixtureRequest, peers: ModuleType, model: SegmentAnything) -> tuple[str, Any]:
    return request.param, built(peers, request.param, model)


def built(peers: ModuleType, name: str, model: SegmentAnything) -> Any:
    if name not in peers.installed():
        pytest.skip(f"{peers.PEERS[name]} is not installed (pip install -e '.[bench]')")
    return getattr(peers, f"{name}_of")(model)


def prompt_sets() -> dict[str, Prompts]:
    points = torch.tensor([[[40.0, 60.0]], [[130.0, 90.0]], [[200.0, 220.0]]])
    boxes = torch.tensor([[10.0, 20.0, 90.0, 120.0], [60.0, 8.0, 250.0, 200.0], [0.0, 0.0, 255.0, 255.0]])
    labels = torch.tensor([[1], [0], [1]])
    coarse = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(3)) * 6
    logits = F.interpolate(coarse, (SIDE // 4, SIDE // 4), mode="bicubic")[:, 0]
    return {
        "points": Prompts(points=points, labels=labels),
        "two points": Prompts(points=torch.cat([points, points.flip(0)], 1), labels=labels.repeat(1, 2)),
        "boxes": Prompts(boxes=boxes),
        "boxes and points": Prompts(points=points, labels=labels, boxes=boxes),
        "boxes and masks": Prompts(boxes=boxes, mask_logits=logits),
    }


def embedding_for(model: SegmentAnything, pixels: Tensor) -> Embedding:
    with torch.inference_mode():
        features = model.image_encoder(pixels).image_embedding
    side = (model.image_size, model.image_size)
    return Embedding(features, (), None, side, side, "")


def largest_relative_error(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


def random_pixels(side: int) -> Tensor:
    return torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))


def test_embedding(peer: tuple[str, Any], peers: ModuleType, model: SegmentAnything) -> None:
    pixels = random_pixels(SIDE)
    expected = embedding_for(model, pixels).features
    assert largest_relative_error(peers.embedding_of(*peer, pixels), expected) < TOLERANCE


@pytest.mark.parametrize("case", list(prompt_sets()))
@pytest.mark.parametrize("multimask", [True, False])
def test_decode(
    peer: tuple[str, Any],
    benchmark: Callable[[str], ModuleType],
    model: SegmentAnything,
    case: str,
    multimask: bool,
) -> None:
    ways = benchmark("_peer_decoders")
    embedding = embedding_for(model, random_pixels(SIDE))
    name, built_peer = peer
    way = ways.of_transformers if name == "transformers" else ways.published
    prompts = prompt_sets()[case]
    iou, logits = way(built_peer, embedding.features)(prompts, multimask)
    candidates = model.decode(embedding, prompts, multimask=multimask)
    assert largest_relative_error(iou, candidates.iou_predictions) < TOLERANCE
    assert largest_relative_error(logits.flatten(0, 1), candidates.low_res_logits()) < TOLERANCE


def test_every_weight_has_a_name_in_transformers(peers: ModuleType, model: SegmentAnything) -> None:
    """And each another: two of ours that landed on one of theirs would leave a random one unnoticed."""
    renamed = peers.transformers_names(model)
    assert len(renamed) == len(model.state_dict()) + len(peers.POSITIONS_THERE) - 1


@pytest.mark.parametrize("name", ["segment_anything", "transformers", "ultralytics"])
def test_an_encoder_that_the_peer_does_not_have(peers: ModuleType, name: str) -> None:
    """Ours stands in for it, and loading the decoder's weights leaves it as it was."""
    torch.manual_seed(2)
    model = build_model(ModelConfig.from_mapping("compact", COMPACT))
    pixels = random_pixels(128)
    expected = embedding_for(model, pixels).features
    found = peers.embedding_of(name, built(peers, name, model), pixels)
    assert torch.equal(found, expected)
    assert not peers.without_skips(model).image_encoder(pixels).high_res_features
