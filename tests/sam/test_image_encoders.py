"""Configurations, training and memory of the published families; their numbers are in tests/parity."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest
import torch

from sam.image_encoder.tiny_vit import TinyViT, TinyViTConfig, offset_index
from sam.image_encoder.vit import ImageEncoderViT, ViTConfig
from sam.image_encoder.windows import join_windows, partition_windows

VIT = ViTConfig(16, 3, 2, (1,), image_size=48, patch_size=16, window_size=2, out_chans=8)
TINY = TinyViTConfig((8, 16, 16, 24), (1, 1, 2, 1), (1, 2, 2, 3), (3, 3, 2, 3), image_size=48, out_chans=8)


def build(config):
    torch.manual_seed(0)
    return ImageEncoderViT(config) if isinstance(config, ViTConfig) else TinyViT(config)


@pytest.mark.parametrize("config", [VIT, TINY], ids=["vit", "tiny_vit"])
def test_output_has_stride_16_and_nothing_else(config):
    output = build(config)(torch.randn(2, 3, 48, 48))
    assert output.image_embedding.shape == (2, 8, 3, 3)
    assert output.high_res_features == ()
    assert output.edge_logits is None


@pytest.mark.parametrize("config", [VIT, TINY], ids=["vit", "tiny_vit"])
def test_each_image_of_a_batch_is_encoded_alone(config):
    encoder = build(config).eval()
    pixels = torch.randn(3, 3, 48, 48)
    together = encoder(pixels).image_embedding
    apart = torch.cat([encoder(one[None]).image_embedding for one in pixels])
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", [VIT, TINY], ids=["vit", "tiny_vit"])
def test_every_parameter_that_is_used_learns(config):
    encoder = build(config)
    with torch.no_grad():  # a batch norm that starts at zero hides the layers before it
        for name, value in encoder.named_parameters():
            value.add_(0.1 * torch.randn_like(value)) if name.endswith("bn.weight") else None
    encoder(torch.randn(2, 3, 48, 48)).image_embedding.square().mul(torch.randn(8, 3, 3)).sum().backward()
    unused = {name for name, value in encoder.named_parameters() if value.grad is None}
    assert unused == {n for n, _ in encoder.named_parameters() if n.startswith(("head.", "norm_head."))}


@pytest.mark.parametrize("config", [VIT, TINY], ids=["vit", "tiny_vit"])
def test_drop_path_acts_in_training_only(config):
    encoder = build(replace(config, drop_path=0.9)).eval()
    with torch.no_grad():
        for value in encoder.parameters():
            value.add_(0.1 * torch.randn_like(value))
    plain = build(config).eval()
    plain.load_state_dict(encoder.state_dict())
    pixels = torch.randn(1, 3, 48, 48)
    expected = plain(pixels).image_embedding
    assert torch.equal(encoder(pixels).image_embedding, expected)
    for module in encoder.modules():
        if type(module).__name__ == "DropPath":
            module.train()
    assert any(not torch.equal(encoder(pixels).image_embedding, expected) for _ in range(5))


def test_drop_path_ramps_from_zero_to_its_value():
    rates = [block.drop_path.drop_prob for block in build(replace(VIT, drop_path=0.4)).blocks]
    assert rates == pytest.approx([0.0, 0.2, 0.4])
    tiny = build(replace(TINY, drop_path=0.4))
    assert [b.drop_path.drop_prob for s in tiny.layers for b in s.blocks] == pytest.approx(
        [0, 0.1, 0.2, 0.3, 0.4]
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 3}, "does not divide"),
        ({"image_size": 50}, "multiple of patch_size"),
        ({"global_attn_indexes": (1, 3)}, r"\[3\] lie outside the 3 blocks"),
        ({"drop_path": 1.0}, "drop_path"),
    ],
)
def test_vit_configurations_that_cannot_be(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(VIT, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depths": (1, 1, 1)}, "a value per stage"),
        ({"merge_strides": (2, 2)}, "one fewer"),
        ({"num_heads": (1, 3, 2, 3)}, "do not divide"),
        ({"merge_strides": (2, 2, 2)}, "multiply to 4"),
        ({"image_size": 50}, "multiple of 16"),
        ({"drop_path": -0.1}, "drop_path"),
    ],
)
def test_tiny_vit_configurations_that_cannot_be(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **changes)


@pytest.mark.parametrize("config", [VIT, TINY], ids=["vit", "tiny_vit"])
def test_configurations_are_frozen(config):
    with pytest.raises(FrozenInstanceError):
        config.image_size = 64


@pytest.mark.parametrize("fill", [None, torch.arange(5.0)], ids=["zeros", "a value"])
@pytest.mark.parametrize(("height", "width", "size"), [(6, 6, 3), (5, 7, 3), (1, 1, 4), (4, 9, 4)])
def test_windows_come_back_joined(height, width, size, fill):
    x = torch.randn(2, height, width, 5)
    windows = partition_windows(x, size, fill)
    assert windows.shape[1:] == (size, size, 5)
    padding = len(windows) * size**2 - 2 * height * width
    padded = 0 if fill is None else padding * float(fill.sum())
    assert windows.sum() == pytest.approx(float(x.sum()) + padded, abs=1e-3)
    assert torch.equal(join_windows(windows, size, (height, width)), x)


def test_offset_index_is_symmetric_and_starts_row_major():
    index = offset_index(3)
    assert torch.equal(index[0], torch.arange(9))
    assert torch.equal(index, index.T)
    assert torch.equal(index.diagonal(), torch.zeros(9, dtype=torch.int64))
    assert index[1, 3] == index[0, 4]  # one down and one left is as far as one down and one right
