"""How a region is shown: in the middle, at its scale, its surroundings as the style says."""

from __future__ import annotations

import numpy as np
import pytest

from adapters.rle import encode_mask
from adapters.visual_prompts import GREY, LOOKS, RED, STYLES, Look, encircle, set_apart, show_region
from sam.errors import BadPrompt

BLUE, GREEN = (0, 0, 250), (0, 250, 0)


def scene(height: int = 120, width: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """A green rectangle, x 60 to 100 and y 40 to 70, on blue."""
    picture = np.full((height, width, 3), BLUE, np.uint8)
    mask = np.zeros((height, width), bool)
    mask[40:70, 60:100] = True
    picture[mask] = GREEN
    return picture, mask


@pytest.mark.parametrize("context", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("side", [48, 128])  # smaller and larger than the window
def test_a_region_is_in_the_middle_at_its_scale(context: float, side: int) -> None:
    picture, mask = scene()
    shown = show_region(picture, encode_mask(mask), (60, 40, 100, 70), side, Look(context, "plain"))
    assert shown.shape == (side, side, 3) and shown.dtype == np.uint8
    green = (np.abs(shown.astype(int) - GREEN).max(-1)) < 60
    rows, columns = np.flatnonzero(green.any(1)), np.flatnonzero(green.any(0))
    for found, length in ((columns, 40), (rows, 30)):
        half = side * length / (40 * context) / 2
        assert abs(found[0] - (side / 2 - half)) <= 1.5
        assert abs(found[-1] + 1 - (side / 2 + half)) <= 1.5


def test_what_lies_beyond_the_photo_is_grey() -> None:
    picture = np.full((50, 50, 3), BLUE, np.uint8)
    mask = np.zeros((50, 50), bool)
    mask[:20, :20] = True
    shown = show_region(picture, encode_mask(mask), (0, 0, 20, 20), 64, Look(2.0, "plain"))
    assert tuple(shown[0, 0]) == GREY and tuple(shown[10, 40]) == GREY
    assert tuple(shown[40, 40]) == BLUE


def test_the_whole_photo_can_be_shown() -> None:
    picture, _ = scene(37, 211)
    every = encode_mask(np.ones((37, 211), bool))
    for look in LOOKS:
        assert show_region(picture, every, (0, 0, 211, 37), 64, look).shape == (64, 64, 3)


@pytest.mark.parametrize("style", STYLES)
def test_styles(style: str) -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)
    mask = np.zeros((96, 96), bool)
    mask[24:72, 24:72] = True
    rle, box = encode_mask(mask), (24, 24, 72, 72)
    plain = show_region(picture, rle, box, 96, Look(2.0, "plain"))
    np.testing.assert_array_equal(plain, picture)  # a window of the photo's own size, at its scale
    shown = show_region(picture, rle, box, 96, Look(2.0, style))  # type: ignore[arg-type]
    if style in ("grey", "blur"):
        np.testing.assert_array_equal(shown[mask], picture[mask])
    if style == "grey":
        assert (shown[~mask] == GREY).all()
    if "blur" in style:
        assert shown[:8, :8].std() < 0.5 * picture[:8, :8].std()
    if style == "circle":
        np.testing.assert_array_equal(shown[40:56, 40:56], picture[40:56, 40:56])
    red = (np.abs(shown.astype(int) - RED).max(-1) < 40).sum()
    assert (red > 100) == ("circle" in style)


def test_the_mask_that_is_set_apart_is_the_regions_own() -> None:
    """The cut follows the mask, not the box, to a pixel."""
    y, x = np.mgrid[:96, :96]
    disc = np.hypot(x - 48, y - 48) <= 24
    picture = np.full((96, 96, 3), BLUE, np.uint8)
    shown = show_region(picture, encode_mask(disc), (24, 24, 73, 73), 96, Look(96 / 49, "grey"))
    inside = (shown == BLUE).all(-1)
    assert (inside != disc).sum() < 2 * np.pi * 24


def test_an_ellipse_goes_around_the_box_and_stays_in_the_picture() -> None:
    blank = np.zeros((100, 100, 3), np.uint8)
    drawn = encircle(blank, (40, 45, 60, 55))
    assert not blank.any()
    rows, columns = np.nonzero(drawn[..., 0] > 128)
    assert abs(columns.min() - (50 - 10 * 2**0.5)) <= 2 and abs(columns.max() - (50 + 10 * 2**0.5)) <= 2
    assert abs(rows.min() - (50 - 5 * 2**0.5)) <= 2
    assert not drawn[48:52, 44:56].any()  # nothing of what it shows is drawn over, but the corners
    large = encircle(blank, (2, 2, 98, 98))
    assert large[50, 1:4, 0].max() > 128 and large[50, 96:99, 0].max() > 128


def test_setting_apart_leaves_the_mask_as_it_is() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    everything = np.ones((32, 32), bool)
    np.testing.assert_array_equal(set_apart(picture, everything, "blur"), picture)


@pytest.mark.parametrize("wrong", [{"style": "sepia"}, {"context": 0.5}, {"context": float("nan")}])
def test_looks_are_checked(wrong: dict[str, object]) -> None:
    with pytest.raises(BadPrompt):
        Look(**wrong)  # type: ignore[arg-type]
