"""ViT-B at full size against segment-anything 1.0: both packages' whole path, from uint8 photo to logits."""

from __future__ import annotations

import pytest
import torch

from sam.variants import build_model

RELATIVE_TOLERANCE = 1e-4
CPU_HAS_BFLOAT16 = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


@pytest.fixture(scope="module")
def compared(randomise, compare, configured, portrait):
    from segment_anything import sam_model_registry

    reference = randomise(sam_model_registry["vit_b"](), seed=20)
    return compare(reference, build_model(configured("vit_b")), portrait)


def test_the_reference_is_not_degenerate(compared):
    features = compared.expected_features
    assert features.shape == (1, 256, 64, 64)
    over_positions = features.flatten(2).std(-1).mean()
    assert over_positions > 0.3 * features.std()


def test_image_embedding(compared):
    assert compared.embedding_error() < RELATIVE_TOLERANCE


def test_decode(compared, prompt_case, multimask):
    errors = compared.decode_errors(prompt_case, multimask)
    assert max(errors.values()) < RELATIVE_TOLERANCE, errors


def test_subset_of_candidates_equals_all_of_them(compared):
    prompts = compared.prompts("batch of boxes")
    candidates = compared.model.decode(compared.embedding, prompts, multimask=True)
    chosen = torch.tensor([[2, 0], [0, 1], [2, 2], [2, 0]])
    everything = candidates.low_res_logits().unflatten(0, (3, 3))
    torch.testing.assert_close(candidates.low_res_logits(chosen), everything[chosen[:, 0], chosen[:, 1]])


@pytest.mark.skipif(
    not CPU_HAS_BFLOAT16, reason="this CPU emulates bfloat16: a full ViT-B would take an hour"
)
def test_bfloat16_gives_the_same_masks(compared):
    prompts = compared.prompts("batch of boxes")
    expected = compared.reference(prompts, True)[2].flatten(0, 1) > 0
    compared.model.compute_dtype = torch.bfloat16
    try:
        embedding = compared.model.encode([compared.image])[0]
        logits = compared.model.decode(embedding, prompts, multimask=True).low_res_logits()
        found = compared.model.upsample(logits, embedding) > 0
    finally:
        compared.model.compute_dtype = torch.float32
    assert (found & expected).sum() / (found | expected).sum() >= 0.98
