from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from adapters import rle
from sam.errors import BadAnnotation

sides = st.integers(1, 12)
masks = st.tuples(sides, sides).flatmap(lambda size: hnp.arrays(np.bool_, size))


@given(masks)
def test_decoding_gives_back_what_was_encoded(mask: np.ndarray) -> None:
    encoded = rle.encode_mask(mask)
    assert encoded["size"] == list(mask.shape)
    np.testing.assert_array_equal(rle.decode_mask(encoded), mask)
    assert rle.areas([encoded]).tolist() == [mask.sum()]


@given(masks)
def test_json_gives_back_the_same_rle(mask: np.ndarray) -> None:
    encoded = rle.encode_mask(mask)
    assert rle.from_json(json.loads(json.dumps(rle.to_json(encoded)))) == encoded


@given(masks)
def test_uncompressed_counts_are_read_too(mask: np.ndarray) -> None:
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat, prepend=False)).tolist()
    counts = np.diff([0, *edges, flat.size]).tolist()
    np.testing.assert_array_equal(
        rle.decode_mask(rle.from_json({"size": list(mask.shape), "counts": counts})), mask
    )


@given(masks, st.integers(0, 5), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
def test_a_window_is_decoded_as_pycocotools_decodes_the_whole_image(
    mask: np.ndarray, left: int, top: int, right: int, bottom: int
) -> None:
    image = np.pad(mask, ((top, bottom), (left, right)), constant_values=bool(left % 2))
    found = rle.encode_mask(image)
    window = (slice(top, top + mask.shape[0]), slice(left, left + mask.shape[1]))
    np.testing.assert_array_equal(rle.decode_window(found, window), mask)


@given(masks)
def test_bounding_box_is_tight(mask: np.ndarray) -> None:
    x1, y1, x2, y2 = (int(v) for v in rle.bounding_boxes([rle.encode_mask(mask)])[0])
    assert mask[y1:y2, x1:x2].sum() == mask.sum()
    if mask.any():
        for edge in (mask[y1, :], mask[y2 - 1, :], mask[:, x1], mask[:, x2 - 1]):
            assert edge.any()
    else:
        assert (x1, y1, x2, y2) == (0, 0, 0, 0)


def test_more_masks_than_a_byte_counts() -> None:
    many = [rle.encode_mask(np.eye(4, dtype=bool))] * 300
    assert rle.areas(many).tolist() == [4] * 300
    assert rle.bounding_boxes(many).shape == (300, 4)
    assert rle.decode_masks(many, (4, 4)).shape == (300, 4, 4)


def test_no_masks() -> None:
    assert rle.areas([]).shape == (0,)
    assert rle.bounding_boxes([]).shape == (0, 4)
    assert rle.decode_masks([], (3, 5)).shape == (0, 3, 5)
    assert rle.encode_masks(np.zeros((0, 3, 5), bool)) == []


def test_runs_longer_than_sixteen_bits() -> None:
    mask = np.zeros((900, 800), bool)
    mask[5:880, 1:795] = True
    encoded = rle.encode_mask(mask)
    assert rle.from_json(rle.to_json(encoded)) == encoded


GOOD = {"size": [2, 3], "counts": rle.encode_mask(np.array([[1, 0, 1], [0, 1, 1]], bool))["counts"].decode()}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"size": [2, 4]}, "add up to 6"),
        ({"size": [0, 6]}, "size must be"),
        ({"size": "2x3"}, "size must be"),
        ({"size": [2, 3, 1]}, "size must be"),
        ({"size": [100_000, 100_000]}, "too large"),
        ({"counts": [1, 2]}, "add up to 3"),
        ({"counts": [7, -1]}, "add up to 6"),
        ({"counts": [10**30]}, "more than 32 bits"),
        ({"counts": [2**63, 2**63, 6]}, "more than 32 bits"),  # adds up to 6 in 64 bits
        ({"counts": [True, 5]}, "string or a list of whole numbers"),
        ({"counts": []}, "add up to 0"),
        ({"size": [True, 6]}, "size must be"),
        ({"counts": None}, "string or a list"),
        ({"counts": [1.5, 4.5]}, "string or a list"),
        ({"counts": ""}, "add up to 0"),
        ({"counts": "o"}, "break off"),
        ({"counts": "P" * 40 + "0"}, "32 bits"),
        ({"counts": "~"}, "alphabet"),
        ({"counts": "é"}, "ASCII"),
    ],
)
def test_a_damaged_rle_is_refused(change: dict[str, object], says: str) -> None:
    assert coco_mask.area({"size": [2, 3], "counts": GOOD["counts"].encode()}) == 4
    with pytest.raises(BadAnnotation, match=says):
        rle.from_json({**GOOD, **change})


def test_sampling_reads_a_mask_where_it_is_asked() -> None:
    y, x = np.mgrid[:37, :53]
    mask = (np.hypot(x - 30, y - 12) < 18) & ((x + y) % 7 > 1)
    encoded = rle.encode_mask(mask)
    rows, columns = np.array([-4, 0, 5, 5, 36, 37]), np.array([52, 0, 17, -1, 53])
    found = rle.sample_mask(encoded, rows, columns)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            inside = 0 <= row < 37 and 0 <= column < 53
            assert found[i, j] == (bool(mask[row, column]) if inside else False)
    np.testing.assert_array_equal(rle.sample_mask(encoded, np.arange(37), np.arange(53)), mask)


@pytest.mark.parametrize("value", [False, True])
def test_sampling_masks_of_one_run(value: bool) -> None:
    encoded = rle.encode_mask(np.full((4, 6), value))
    assert (rle.sample_mask(encoded, np.arange(4), np.arange(6)) == value).all()
