"""Drawing masks by products, channels last, gives what the transposed convolutions as published do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sam.mask_decoder import Attended, MaskDecoder

SIZE = (6, 5)


@pytest.fixture(scope="module")
def decoder() -> MaskDecoder:
    torch.manual_seed(0)
    return MaskDecoder(32, num_heads=2, mlp_dim=64)


def attended(count: int) -> Attended:
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(count, SIZE[0] * SIZE[1], 32, generator=generator)
    return Attended(torch.rand(count, 4), torch.randn(count, 4, 32, generator=generator), image, SIZE)


def skips() -> tuple[Tensor, Tensor]:
    torch.manual_seed(2)
    return torch.randn(1, 8, 12, 10), torch.randn(1, 4, 24, 20)


def published(decoder: MaskDecoder, state: Attended, extra: tuple[Tensor, ...]) -> Tensor:
    """(N, 4, 4h, 4w) logits, step by step."""
    first, norm, gelu, second, last_gelu = decoder.output_upscaling
    skip8, skip4 = extra or (0.0, 0.0)
    image = state.image.transpose(1, 2).unflatten(2, state.size)
    features = last_gelu(second(gelu(norm(first(image) + skip8))) + skip4)
    masks = [
        torch.einsum("nc,nchw->nhw", mlp(state.mask_tokens[:, i]), features)
        for i, mlp in enumerate(decoder.output_hypernetworks_mlps)
    ]
    return torch.stack(masks, 1)


@pytest.mark.parametrize("extra", [(), skips()], ids=["no skips", "skips"])
def test_all_masks(decoder: MaskDecoder, extra: tuple[Tensor, ...]) -> None:
    state = attended(3)
    with torch.inference_mode():
        plain, ours = published(decoder, state, extra), decoder.render_all(state, extra)
    assert ours.shape == (3, 4, 24, 20)
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("extra", [(), skips()], ids=["no skips", "skips"])
@pytest.mark.parametrize("window", [None, (6, 5), (4, 5), (6, 2), (1, 1)])
def test_chosen_masks_of_a_window(
    decoder: MaskDecoder, extra: tuple[Tensor, ...], window: tuple[int, int] | None
) -> None:
    state = attended(4)
    prompts, tokens = torch.tensor([2, 0, 2]), torch.tensor([3, 1, 0])
    with torch.inference_mode():
        plain = published(decoder, state, extra)[prompts, tokens]
        ours = decoder.render(state, extra, prompts, tokens, window)
    rows, columns = window or SIZE
    assert ours.shape == (3, 4 * rows, 4 * columns)
    torch.testing.assert_close(ours, plain[:, : 4 * rows, : 4 * columns], rtol=1e-4, atol=1e-5)


def test_gradients_are_those_of_the_published_way(decoder: MaskDecoder) -> None:
    state, extra, found = attended(2), skips(), []
    for way in (decoder.render_all(state, extra), published(decoder, state, extra)):
        decoder.zero_grad()
        way.square().sum().backward()
        found.append({n: p.grad.clone() for n, p in decoder.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys() and len(found[0]) == 6 + 6 * 4
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("extra", [(), skips()], ids=["no skips", "skips"])
def test_logits_are_float32_under_autocast(decoder: MaskDecoder, extra: tuple[Tensor, ...]) -> None:
    """Losses take logarithms of them; autocast alone would leave them in bfloat16."""
    state = attended(3)
    with torch.autocast("cpu", torch.bfloat16):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
        masks = decoder.render_all(state, extra)
    assert product.dtype is torch.bfloat16 and masks.dtype is torch.float32
    masks.sum().backward()
