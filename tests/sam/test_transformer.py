"""The attention with fewer products gives what the plain one does."""

from __future__ import annotations

import pytest
import torch

from sam.transformer import Attention


@pytest.mark.parametrize("queries", [1, 7, 12, 40])
@pytest.mark.parametrize(("prompts", "images"), [(5, 5), (5, 1), (1, 1)])
@pytest.mark.parametrize(("width", "heads", "rate"), [(256, 8, 2), (128, 4, 2), (32, 2, 1)])
def test_few_queries_of_many_keys(
    queries: int, prompts: int, images: int, width: int, heads: int, rate: int
) -> None:
    torch.manual_seed(queries)
    attention = Attention(width, heads, rate)
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    q = torch.randn(prompts, queries, width)
    k, v = torch.randn(2, images, 90, width).unbind()
    with torch.inference_mode():
        torch.testing.assert_close(attention.from_few(q, k, v), attention(q, k, v), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("keys", [1, 7, 12, 40])
@pytest.mark.parametrize(("prompts", "images"), [(5, 5), (5, 1), (1, 1)])
@pytest.mark.parametrize(("width", "heads", "rate"), [(256, 8, 2), (128, 4, 2), (32, 2, 1)])
def test_many_queries_of_few_keys(
    keys: int, prompts: int, images: int, width: int, heads: int, rate: int
) -> None:
    torch.manual_seed(keys)
    attention = Attention(width, heads, rate)
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    q = torch.randn(images, 90, width)
    k, v = torch.randn(2, prompts, keys, width).unbind()
    residual = torch.randn(images, 90, width)
    with torch.inference_mode():
        found = attention.to_few(q, k, v, residual)
        torch.testing.assert_close(found, residual + attention(q, k, v), rtol=1e-4, atol=1e-4)


def test_gradients_are_those_of_the_plain_one() -> None:
    torch.manual_seed(0)
    attention = Attention(32, 2, 2)
    q, k = torch.randn(3, 4, 32), torch.randn(3, 50, 32, requires_grad=True)
    found = []
    for way in (attention.forward, attention.from_few):
        attention.zero_grad()
        k.grad = None
        way(q, k, k).square().sum().backward()
        assert k.grad is not None
        found.append(
            [k.grad.clone(), *(p.grad.clone() for p in attention.parameters() if p.grad is not None)]
        )
    assert len(found[0]) == len(found[1]) or len(found[0]) == len(found[1]) + 1  # the keys' bias has none
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-4, atol=1e-5)
