"""The encoders' fast attention gives what the plain one gives, and never holds a whole bias."""

from __future__ import annotations

import copy

import pytest
import torch

from sam.image_encoder import relative_attention, tiny_vit
from sam.image_encoder.relative_attention import RelativeAttention, attend_extended, attend_in_cache
from sam.image_encoder.windows import join_windows, partition_windows


def plain_attention(layer, x):
    """What a ``RelativeAttention`` makes of (B, h, w, D): padded, then projected, the whole bias at once."""
    side, heads = layer.side, layer.num_heads
    windows = partition_windows(x, side)
    qkv = layer.qkv(windows).view(len(windows), side**2, 3, heads, -1).permute(2, 0, 3, 1, 4)
    q, k, v = qkv.unbind(0)
    row, column = torch.arange(side**2) // side, torch.arange(side**2) % side
    along_h = layer.rel_pos_h[row[:, None] - row[None] + side - 1]
    along_w = layer.rel_pos_w[column[:, None] - column[None] + side - 1]
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    scores = scores + torch.einsum("nhqd,qkd->nhqk", q, along_h) + torch.einsum("nhqd,qkd->nhqk", q, along_w)
    out = (scores.softmax(-1) @ v).transpose(1, 2).reshape(windows.shape)
    return join_windows(layer.proj(out), side, (x.shape[1], x.shape[2]))


def plain_window_attention(layer, x):
    """What an ``Attention`` of TinyViT makes of (B, h, w, D), padded before its norm."""
    side, heads = layer.side, layer.num_heads
    windows = partition_windows(x, side)
    qkv = layer.qkv(layer.norm(windows)).view(len(windows), side**2, heads, 3, -1).permute(3, 0, 2, 1, 4)
    q, k, v = qkv.unbind(0)
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    scores = scores + layer.attention_biases[:, layer.attention_bias_idxs]
    out = (scores.softmax(-1) @ v).transpose(1, 2).reshape(windows.shape)
    return join_windows(layer.proj(out), side, (x.shape[1], x.shape[2]))


def randomised(layer, seed=0):
    torch.manual_seed(seed)
    with torch.no_grad():
        for value in layer.parameters():
            value.normal_(0, 0.4)
    return layer.double()


@pytest.mark.parametrize("way", [attend_in_cache, attend_extended])
@pytest.mark.parametrize("budget", [1, 40, 600, 1 << 20])
@pytest.mark.parametrize(("shape", "side"), [((2, 6, 6), 6), ((2, 6, 6), 3), ((1, 5, 7), 3), ((3, 2, 2), 4)])
def test_equals_the_plain_attention(monkeypatch, way, budget, shape, side):
    monkeypatch.setattr(relative_attention, "IN_CACHE", budget)
    monkeypatch.setattr(relative_attention, "attend_in_cache", way)
    monkeypatch.setattr(relative_attention, "attend_extended", way)
    layer = randomised(RelativeAttention(20, 2, side))
    x = torch.randn(*shape, 20, dtype=torch.float64)
    torch.testing.assert_close(layer(x), plain_attention(layer, x))


@pytest.mark.parametrize("way", [attend_in_cache, attend_extended])
def test_gradients_equal_those_of_the_plain_attention(monkeypatch, way):
    monkeypatch.setattr(relative_attention, "IN_CACHE", 50)
    monkeypatch.setattr(relative_attention, "attend_in_cache", way)
    monkeypatch.setattr(relative_attention, "attend_extended", way)
    layer = randomised(RelativeAttention(12, 3, 4))
    other = copy.deepcopy(layer)
    x = torch.randn(1, 5, 6, 12, dtype=torch.float64)
    layer(x).square().sum().backward()
    plain_attention(other, x).square().sum().backward()
    for name, value in layer.named_parameters():
        torch.testing.assert_close(value.grad, other.get_parameter(name).grad)


@pytest.mark.parametrize("shape", [(2, 6, 6), (1, 5, 7), (2, 2, 2)])
def test_tiny_vit_equals_its_plain_attention(shape):
    layer = randomised(tiny_vit.Attention(16, 2, 3))
    x = torch.randn(*shape, 16, dtype=torch.float64)
    torch.testing.assert_close(layer(x), plain_window_attention(layer, x))


@pytest.mark.parametrize("side", [3, 6])
def test_never_holds_more_scores_than_the_budget(monkeypatch, side):
    """The bias of ViT-H's global attention would be a gigabyte."""
    sizes = []
    attend = relative_attention._attend

    def record(q, k, *rest):
        sizes.append(q.shape[:-1].numel() * k.shape[-2])
        return attend(q, k, *rest)

    monkeypatch.setattr(relative_attention, "_attend", record)
    monkeypatch.setattr(relative_attention, "IN_CACHE", 400)
    randomised(RelativeAttention(8, 2, side))(torch.randn(2, 6, 6, 8, dtype=torch.float64))
    assert max(sizes) <= 400
    assert sum(sizes) == 2 * 2 * 36 * side**2  # each query sees each key of its square once
