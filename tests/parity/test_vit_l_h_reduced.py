"""ViT-L and ViT-H block stacks against segment-anything 1.0: full width, one windowed and one global block.

The paper's decoder stands behind them. ViT-B joins with a windowed block, for the orientation that its
full-size test leaves out: the encoder sees a padded square, so orientation is a matter of resizing, padding
and prompts alone.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from sam.variants import build_model

RELATIVE_TOLERANCE = 1e-4


def reduced_reference(encoder):
    """segment-anything's model with the widths of ``encoder`` and its few blocks."""
    from segment_anything.build_sam import _build_sam

    return _build_sam(encoder.embed_dim, encoder.depth, encoder.num_heads, list(encoder.global_attn_indexes))


STACKS = {"vit_b-landscape": (1, ()), "vit_l-landscape": (2, (1,)), "vit_h-portrait": (2, (1,))}


@pytest.fixture(scope="module", params=list(STACKS))
def compared(request, randomise, compare, configured):
    name, orientation = request.param.split("-")
    depth, global_attn_indexes = STACKS[request.param]
    config = configured(name)
    config = replace(
        config, encoder=replace(config.encoder, depth=depth, global_attn_indexes=global_attn_indexes)
    )
    reference = randomise(reduced_reference(config.encoder), seed=21)
    return compare(reference, build_model(config), request.getfixturevalue(orientation))


def test_image_embedding(compared):
    assert compared.embedding_error() < RELATIVE_TOLERANCE


@pytest.mark.parametrize("case", ["points with labels", "box and point", "batch of masks and boxes"])
def test_decode(compared, case):
    errors = compared.decode_errors(case, multimask=True)
    assert max(errors.values()) < RELATIVE_TOLERANCE, errors


@pytest.mark.parametrize(("image_size", "window_size"), [(224, 14), (256, 14), (240, 4)])
def test_windows_of_any_padding(image_size, window_size, randomise, relative_error):
    """A map that windows fill exactly, one padded from 16 to 28 tokens, one from 15 to 16; a batch of two."""
    from segment_anything.modeling import ImageEncoderViT as Reference

    from sam.image_encoder.vit import ImageEncoderViT, ViTConfig

    shape = {
        "embed_dim": 48,
        "depth": 4,
        "num_heads": 3,
        "window_size": window_size,
        "global_attn_indexes": (1, 2),
    }
    norm = partial(torch.nn.LayerNorm, eps=1e-6)
    reference = randomise(Reference(img_size=image_size, norm_layer=norm, use_rel_pos=True, **shape), seed=22)
    ours = ImageEncoderViT(ViTConfig(image_size=image_size, **shape)).eval()
    ours.load_state_dict(reference.state_dict())
    pixels = torch.randn(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(23))
    with torch.inference_mode():
        assert relative_error(ours(pixels).image_embedding, reference(pixels)) < RELATIVE_TOLERANCE
