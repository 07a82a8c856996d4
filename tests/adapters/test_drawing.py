"""The windowed path against the plain one: upsample everything, then threshold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters import drawing
from adapters.drawing import MaskDrawer
from adapters.rle import decode_mask, encode_mask
from adapters.selection import mask_boxes, stability_score
from adapters.tiles import TILE, compose_axis, tile_axis
from sam.embedding import upsample_logits

TOLERANCE = 1e-4
"""Logits nearer to a threshold may fall on either side: the two paths add in another order."""


def input_size(image_size: tuple[int, int], square: int) -> tuple[int, int]:
    scale = square / max(image_size)
    return max(1, int(image_size[0] * scale + 0.5)), max(1, int(image_size[1] * scale + 0.5))


def smooth_logits(count: int, side: int, cells: int, seed: int, level: float) -> torch.Tensor:
    noise = torch.randn(count, 1, cells, cells, generator=torch.Generator().manual_seed(seed))
    return 8 * torch.nn.functional.interpolate(noise, (side, side), mode="bicubic")[:, 0] + level


def check_same(low_res: torch.Tensor, square: int, image_size: tuple[int, int], offset: float = 1.0) -> None:
    inside = input_size(image_size, square)
    plain = upsample_logits(low_res, square, inside, image_size)
    drawer = MaskDrawer((low_res.shape[1], low_res.shape[2]), square, inside, image_size)
    drawn = drawer.draw(low_res, offset=offset)
    np.testing.assert_array_equal(drawer.boxes(low_res), [mask.box for mask in drawn])
    for logits, mask, stability in zip(plain, drawn, stability_score(plain, 0.0, offset), strict=True):
        assert mask.rle is not None
        bits = decode_mask(mask.rle)
        assert mask.rle == encode_mask(bits)  # the very bytes that pycocotools writes
        undecided = (logits.abs() < TOLERANCE).numpy()
        np.testing.assert_array_equal(bits[~undecided], (logits > 0).numpy()[~undecided])
        np.testing.assert_array_equal(mask.box, mask_boxes(bits[None])[0])
        assert mask.area == bits.sum()
        near = sum(int(((logits - level).abs() < TOLERANCE).sum()) for level in (-offset, offset))
        larger = max(1, int((logits > -offset).sum()))
        assert mask.stability == pytest.approx(float(stability), abs=(near + 1e-3) / larger)


@settings(max_examples=60, deadline=None)
@given(
    low=st.sampled_from([8, 16, 24]),
    factor=st.sampled_from([1, 2, 4]),
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    cells=st.integers(2, 8),
    level=st.sampled_from([-12.0, -4.0, 0.0, 9.0]),
    seed=st.integers(0, 1000),
)
def test_windowed_equals_plain(
    low: int, factor: int, height: int, width: int, cells: int, level: float, seed: int
) -> None:
    check_same(smooth_logits(3, low, cells, seed, level), low * factor, (height, width))


@pytest.mark.parametrize("image_size", [(3, 700), (700, 3), (1, 1), (1080, 810), (333, 1000)])
def test_windowed_equals_plain_at_the_models_own_sizes(image_size: tuple[int, int]) -> None:
    check_same(smooth_logits(4, 256, 12, 1, -8.0), 1024, image_size)


def test_noise_in_every_cell() -> None:
    check_same(
        6 * torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(0)), 256, (150, 230), offset=2.5
    )


def test_a_blank_image_and_a_full_one() -> None:
    low_res = torch.stack([torch.full((64, 64), -3.0), torch.full((64, 64), 3.0)])
    empty, full = MaskDrawer((64, 64), 256, (200, 256), (333, 427)).draw(low_res)
    assert (empty.area, empty.box, empty.stability) == (0, (0, 0, 0, 0), 0.0)
    assert (full.area, full.box, full.stability) == (333 * 427, (0, 0, 427, 333), 1.0)
    assert full.rle == encode_mask(np.ones((333, 427), bool))


def test_only_tiles_with_an_outline_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    low_res = 20.0 - torch.hypot(y - 30.0, x - 35.0)[None]
    drawer = MaskDrawer((64, 64), 256, (256, 256), (1024, 1024))
    drawn = []
    original = drawer._logits
    monkeypatch.setattr(
        drawer, "_logits", lambda low, tiles: drawn.append(len(tiles)) or original(low, tiles)
    )
    (mask,) = drawer.draw(low_res)
    for_the_mask = sum(drawn)
    assert 0 < for_the_mask < 0.2 * 32 * 32
    drawn.clear()
    assert drawer.boxes(low_res).tolist() == [list(mask.box)]
    assert 0 < sum(drawn) < 0.5 * for_the_mask


def test_a_box_may_need_several_lines_of_tiles() -> None:
    low_res = torch.full((2, 256, 256), -1.0)
    low_res[0, 100:110, 120] = 0.01  # a line that no pixel of a small photo may see
    low_res[1, 30:32, 0:200] = torch.linspace(-0.9, 0.4, 200)
    check_same(low_res, 1024, (90, 140))
    check_same(low_res, 1024, (900, 1400))


def test_boxes_of_masks_that_end_where_the_image_does() -> None:
    low_res = torch.full((3, 64, 64), -2.0)
    low_res[0, 40:], low_res[1, :, 50:], low_res[2, 20:30] = 2.0, 2.0, 2.0
    check_same(low_res, 256, (300, 427))
    check_same(low_res, 256, (320, 320))


def test_few_tiles_at_a_time_give_the_same_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    low_res = smooth_logits(3, 64, 6, 9, 0.0)
    whole = MaskDrawer((64, 64), 256, (256, 192), (130, 99)).draw(low_res)
    monkeypatch.setattr(drawing, "TILES_AT_ONCE", 2)
    monkeypatch.setattr(drawing, "TILES_KEPT", 3)
    assert MaskDrawer((64, 64), 256, (256, 192), (130, 99)).draw(low_res) == whole
    monkeypatch.setattr(drawing, "TILE_GRID_BUDGET", 1)
    again = MaskDrawer((64, 64), 256, (256, 192), (130, 99))
    assert again.draw(low_res) == whole
    np.testing.assert_array_equal(again.boxes(low_res), [mask.box for mask in whole])
    assert MaskDrawer((64, 64), 256, (256, 192), (130, 99)).draw(low_res[:0]) == []


def test_a_mask_in_the_padding_alone_is_empty() -> None:
    low_res = torch.full((1, 64, 64), -5.0)
    low_res[:, 60:] = 5.0
    (mask,) = MaskDrawer((64, 64), 256, (100, 256), (200, 512)).draw(low_res)
    assert mask.rle is not None
    assert (mask.area, mask.box, mask.stability) == (0, (0, 0, 0, 0), 0.0)
    assert not decode_mask(mask.rle).any()


def test_a_window_of_a_larger_image_lands_in_its_place() -> None:
    low_res = smooth_logits(2, 64, 5, 3, 0.0)
    alone = MaskDrawer((64, 64), 256, (256, 192), (120, 90)).draw(low_res)
    placed = MaskDrawer((64, 64), 256, (256, 192), (120, 90), origin=(17, 5), canvas=(130, 200)).draw(low_res)
    for here, there in zip(alone, placed, strict=True):
        assert here.rle is not None and there.rle is not None
        whole = np.zeros((130, 200), bool)
        whole[5:125, 17:107] = decode_mask(here.rle)
        np.testing.assert_array_equal(decode_mask(there.rle), whole)
        assert there.rle == encode_mask(whole)
        assert there.box == (here.box[0] + 17, here.box[1] + 5, here.box[2] + 17, here.box[3] + 5)


def test_cells_beyond_the_image_may_be_left_out() -> None:
    low_res = smooth_logits(3, 64, 6, 4, 0.0)
    drawer = MaskDrawer((64, 64), 256, (171, 256), (400, 600))
    part = low_res[:, :44].contiguous()
    assert drawer.draw(part) == drawer.draw(low_res)
    np.testing.assert_array_equal(drawer.boxes(part), drawer.boxes(low_res))


def test_another_threshold_is_a_shift_of_the_logits() -> None:
    low_res = smooth_logits(2, 32, 5, 6, 0.0)
    drawer = MaskDrawer((32, 32), 128, (100, 128), (150, 190))
    for threshold in (-1.5, 2.0):
        shifted = drawer.draw(low_res - threshold)
        assert drawer.draw(low_res, threshold=threshold) == shifted
        boxes = [mask.box for mask in shifted]
        np.testing.assert_array_equal(drawer.boxes(low_res, threshold=threshold), boxes)


def test_unstable_masks_are_not_drawn() -> None:
    low_res = torch.stack([torch.full((16, 16), 0.5), torch.full((16, 16), 5.0)])
    shaky, firm = MaskDrawer((16, 16), 64, (64, 64), (50, 50)).draw(low_res, min_stability=0.9)
    assert shaky.rle is None and shaky.stability == 0.0
    assert firm.rle is not None and firm.stability == 1.0 and firm.area == 2500


@pytest.mark.parametrize("out", [1, 31, 32, 33, 301])
def test_weights_are_convex_and_within_their_tile(out: int) -> None:
    weights, first, last = compose_axis(16, 64, 43, out)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
    assert (weights >= 0).all()
    axis = tile_axis(16, 64, 43, out)
    assert axis.sizes.sum() == out
    for pixel, row in enumerate(weights):
        used = np.flatnonzero(row)
        assert first[pixel] <= used[0] and used[-1] <= last[pixel]
        tile, start = pixel // TILE, int(axis.first[pixel // TILE])
        spread = np.zeros(16)
        spread[start : start + axis.weights.shape[2]] = axis.weights[tile, pixel % TILE]
        np.testing.assert_array_equal(spread, row)
