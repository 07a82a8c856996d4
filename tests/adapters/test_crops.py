from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from segment_anything.utils import amg

from adapters.crops import crop_windows, point_grid


@given(
    st.tuples(st.integers(40, 400), st.integers(40, 400)),
    st.integers(0, 3),
    st.sampled_from([0.0, 512 / 1500, 0.6]),
)
def test_windows_are_segment_anythings(size: tuple[int, int], layers: int, overlap: float) -> None:
    boxes, layer_of = amg.generate_crop_boxes(size, layers, overlap)
    # Theirs may hold windows beyond the image's border, without a pixel.
    expected = [
        (tuple(b), layer) for b, layer in zip(boxes, layer_of, strict=True) if b[0] < b[2] and b[1] < b[3]
    ]
    assert [tuple(crop) for crop in crop_windows(size, layers, overlap)] == expected


@given(st.tuples(st.integers(1, 9), st.integers(1, 9)), st.integers(0, 4), st.floats(0, 1))
def test_windows_of_tiny_images_hold_pixels(size: tuple[int, int], layers: int, overlap: float) -> None:
    for x1, y1, x2, y2 in (crop.box for crop in crop_windows(size, layers, overlap)):
        assert 0 <= x1 < x2 <= size[1]
        assert 0 <= y1 < y2 <= size[0]


@given(st.integers(1, 40))
def test_grid_is_segment_anythings(per_side: int) -> None:
    np.testing.assert_allclose(point_grid(per_side), amg.build_point_grid(per_side), atol=1e-12)
