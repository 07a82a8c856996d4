"""Many masks encoded at once: the bytes are those of pycocotools."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.rle import RLE, IntArray, encode_mask
from adapters.run_encoding import encode_many


def encoded(masks: np.ndarray) -> list[RLE]:
    owner, starts, ends = [], [], []
    for number, mask in enumerate(masks):
        flat = np.concatenate([[0], mask.T.ravel().astype(np.int8), [0]])
        begins = np.flatnonzero(np.diff(flat) == 1)
        owner.append(np.full(len(begins), number))
        starts.append(begins)
        ends.append(np.flatnonzero(np.diff(flat) == -1))
    joined: list[IntArray] = [
        np.concatenate([np.zeros(0, np.int64), *part]).astype(np.int64) for part in (starts, ends, owner)
    ]
    return encode_many(*joined, len(masks), (int(masks.shape[1]), int(masks.shape[2])))


@given(
    count=st.integers(0, 4),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    share=st.sampled_from([0.0, 0.02, 0.5, 0.98, 1.0]),
    seed=st.integers(0, 1000),
)
def test_the_bytes_of_pycocotools(count: int, height: int, width: int, share: float, seed: int) -> None:
    masks = np.random.default_rng(seed).random((count, height, width)) < share
    assert encoded(masks) == [encode_mask(mask) for mask in masks]


@pytest.mark.parametrize("side", [1, 15, 16, 17, 31, 32, 511, 512, 1023, 1024, 1025])
def test_numbers_of_every_length(side: int) -> None:
    masks = np.zeros((3, side, 40), bool)
    masks[0, :, 0] = masks[0, -1, 3] = masks[0, 0, 30] = True
    masks[1, side // 2 :, 7:] = True
    masks[2] = True
    assert encoded(masks) == [encode_mask(mask) for mask in masks]


def test_runs_that_touch_are_one() -> None:
    split = encode_many(np.array([2, 5, 5]), np.array([5, 9, 10]), np.array([0, 0, 1]), 3, (5, 4))
    masks = np.zeros((3, 20), bool)
    masks[0, 2:9] = masks[1, 5:10] = True
    assert split == [encode_mask(mask.reshape(4, 5).T) for mask in masks]


def test_runs_of_a_very_large_image() -> None:
    side = 60_000
    (rle,) = encode_many(np.array([7]), np.array([side * side - 3]), np.array([0]), 1, (side, side))
    from pycocotools import mask as coco_mask

    assert int(coco_mask.area(rle)) == side * side - 10
