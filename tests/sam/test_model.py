"""Encoding and decoding with the compact encoder; the published families are under tests/parity."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from sam.embedding import resize_longest_side, upsample_logits
from sam.errors import UsageError
from sam.image_encoder.compact import CompactConfig, CompactEncoder
from sam.image_encoder.vit import ViTConfig
from sam.mask_decoder import MaskDecoder
from sam.model import SegmentAnything
from sam.prompts import Prompts
from sam.variants import DecoderConfig, ModelConfig, build_model

SMALL = {
    "encoder": {
        "family": "compact", "backbone": "regnetx_002", "image_size": 128, "out_chans": 32, "neck_chans": 16,
    },
    "decoder": {"embed_dim": 32, "num_heads": 2, "mlp_dim": 64},
}  # fmt: skip


@pytest.fixture(scope="module")
def model() -> SegmentAnything:
    torch.manual_seed(0)
    return build_model(ModelConfig.from_mapping("small", SMALL))


def clicks(count: int) -> Prompts:
    generator = torch.Generator().manual_seed(1)
    points = torch.rand(count, 2, 2, generator=generator) * 80
    return Prompts(points=points, labels=torch.tensor([[1, 0]]).expand(count, -1))


def test_encode_shapes(model: SegmentAnything, photo: npt.NDArray[np.uint8]) -> None:
    (embedding,) = model.encode([photo])
    assert embedding.features.shape == (1, 32, 8, 8)
    assert [f.shape for f in embedding.high_res_features] == [(1, 8, 16, 16), (1, 4, 32, 32)]
    assert embedding.edge_logits is not None and embedding.edge_logits.shape == (1, 1, 32, 32)
    assert embedding.original_size == (90, 140)
    assert embedding.input_size == (82, 128)
    parts = [embedding.features, *embedding.high_res_features, embedding.edge_logits]
    assert embedding.nbytes == sum(t.numel() * 4 for t in parts)


def test_a_batch_of_images_is_each_alone(model: SegmentAnything, photo: npt.NDArray[np.uint8]) -> None:
    tall = np.ascontiguousarray(photo.transpose(1, 0, 2))
    together = model.encode([photo, tall])
    for one, image in zip(together, (photo, tall), strict=True):
        torch.testing.assert_close(one.features, model.encode([image])[0].features, rtol=1e-4, atol=1e-5)


def test_padding_is_zero_after_normalisation(model: SegmentAnything, photo: npt.NDArray[np.uint8]) -> None:
    batch = model.preprocess([resize_longest_side(photo, 128)])
    assert batch.shape == (1, 3, 128, 128)
    assert batch[:, :, 82:].abs().max() == 0
    assert batch[0, 0, 0, 0].item() != 0


@pytest.mark.parametrize(
    ("size", "expected"),
    [((90, 140), (82, 128)), ((1, 1000), (1, 128)), ((3, 3), (128, 128)), ((200, 101), (128, 65))],
)  # fmt: skip
def test_the_longest_side_is_resized_and_the_other_rounded(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert resize_longest_side(np.zeros((*size, 3), np.uint8), 128).shape[:2] == expected


def test_a_batch_of_prompts_is_each_alone(model: SegmentAnything, photo: npt.NDArray[np.uint8]) -> None:
    (embedding,) = model.encode([photo])
    prompts = clicks(5)
    together = model.decode(embedding, prompts, multimask=True)
    for i in range(5):
        alone = model.decode(embedding, prompts[i : i + 1], multimask=True)
        torch.testing.assert_close(together.iou_predictions[i : i + 1], alone.iou_predictions)
        index = torch.tensor([[i, 0], [i, 1], [i, 2]])
        torch.testing.assert_close(together.low_res_logits(index), alone.low_res_logits())


def test_chosen_masks_are_those_of_all(model: SegmentAnything, photo: npt.NDArray[np.uint8]) -> None:
    (embedding,) = model.encode([photo])
    candidates = model.decode(embedding, clicks(4), multimask=True)
    every = candidates.low_res_logits()
    assert every.shape == (12, 32, 32)
    index = torch.tensor([[3, 2], [0, 1], [3, 0]])
    torch.testing.assert_close(candidates.low_res_logits(index), every[[11, 1, 9]])
    assert candidates.low_res_logits(index[:0]).shape == (0, 32, 32)


def test_render_all_is_what_render_gives(model: SegmentAnything, photo: npt.NDArray[np.uint8]) -> None:
    """Training draws every mask in one product; inference draws chosen ones."""
    (embedding,) = model.encode([photo])
    encoder, decoder = model.prompt_encoder, model.mask_decoder
    assert isinstance(decoder, MaskDecoder)
    with torch.inference_mode():
        sparse = encoder.sparse(torch.tensor([[[9.0, 9.0]]]), torch.tensor([[1]]), None, None)
        pe = model.image_pe(embedding.features)
        attended = decoder.attend(embedding.features, pe, sparse, encoder.dense(None), 1)
        skips = embedding.high_res_features
        every = decoder.render_all(attended, skips)
        chosen = decoder.render(attended, skips, torch.zeros(4, dtype=torch.int64), torch.arange(4))
    torch.testing.assert_close(every[0], chosen)


def test_the_single_mask_is_token_zero_and_the_three_are_the_others(
    model: SegmentAnything, photo: npt.NDArray[np.uint8]
) -> None:
    (embedding,) = model.encode([photo])
    single = model.decode(embedding, clicks(2), multimask=False)
    three = model.decode(embedding, clicks(2), multimask=True)
    assert single.iou_predictions.shape == (2, 1)
    assert three.iou_predictions.shape == (2, 3)
    assert not any(torch.allclose(single.low_res_logits()[0], mask) for mask in three.low_res_logits()[:3])


def test_a_mask_alone_is_a_prompt(model: SegmentAnything, photo: npt.NDArray[np.uint8]) -> None:
    (embedding,) = model.encode([photo])
    logits = torch.randn(2, 32, 32, generator=torch.Generator().manual_seed(0))
    masks = model.decode(embedding, Prompts(mask_logits=logits), multimask=False).low_res_logits()
    assert masks.shape == (2, 32, 32)
    assert not torch.allclose(masks[0], masks[1])


def test_upsampling_a_ramp_keeps_it_straight() -> None:
    ramp = torch.linspace(-1, 1, 32).expand(1, 32, 32)
    up = upsample_logits(ramp, 128, (82, 128), (90, 140))
    assert up.shape == (1, 90, 140)
    inner = up[0, 40, 10:-10]
    torch.testing.assert_close(inner.diff(), inner.diff().mean().expand(len(inner) - 1), rtol=1e-3, atol=1e-5)


def test_a_backbone_without_the_strides_is_refused() -> None:
    with pytest.raises(ValueError, match="strides"):
        CompactEncoder(CompactConfig(backbone="vit_tiny_patch16_224"))
    with pytest.raises(UsageError, match="multiple of 32"):
        ModelConfig.from_mapping("odd", {"encoder": {"family": "compact", "image_size": 130}})


@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        ({}, "gives 128 channels .* takes 256"),
        ({"embed_dim": 128, "num_heads": 7}, "half of embed_dim, 64, is not divided by num_heads, 7"),
    ],
)
def test_parts_that_do_not_fit_are_refused(decoder: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ModelConfig.from_mapping("odd", {"encoder": {"family": "compact"}, "decoder": decoder})


def test_too_little_memory_is_no_missing_compiler(
    model: SegmentAnything, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(images: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("sam.model.compiled", lambda encoder: encoder)
    monkeypatch.setattr(model, "encode", full)
    with pytest.raises(torch.OutOfMemoryError):
        model.prepare(compile=True)


def test_an_encoder_without_an_edge_head_says_so_before_it_encodes() -> None:
    vit = ViTConfig(image_size=64, embed_dim=12, depth=1, num_heads=2, out_chans=8, global_attn_indexes=(0,))
    plain = build_model(ModelConfig("vit", vit, DecoderConfig(embed_dim=8, num_heads=2)))
    with pytest.raises(ValueError, match="no edge head"):
        plain.edges_at(np.zeros((20, 30, 3), np.uint8), 96)
