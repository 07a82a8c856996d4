"""Overlays show every mask where it is, and change nothing else."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from adapters.results import Instances
from adapters.rle import bounding_boxes, encode_mask, encode_masks
from composer.colours import PALETTE, ColourChooser
from composer.formats.base import Answer, Outcome
from composer.images import open_image
from composer.overlay import (
    BACKGROUND,
    BOX,
    FOREGROUND,
    OverlayWriter,
    draw_instances,
    draw_outcome,
    draw_prompts,
    line_width,
    prompts_of,
)
from composer.windows import mask_window, outlines

GREY = np.full((200, 300, 3), 120, np.uint8)


def instances_of(*masks: np.ndarray, labels: tuple[str | None, ...] | None = None) -> Instances:
    rles = tuple(encode_masks(np.stack(masks)))
    scores = np.ones(len(rles), np.float32)
    return Instances(masks[0].shape[:2], rles, bounding_boxes(rles), scores, labels)


def box(x1: int, y1: int, x2: int, y2: int, size: tuple[int, int] = (200, 300)) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[y1:y2, x1:x2] = True
    return mask


def drawn(pixels: np.ndarray, instances: Instances, **options: Any) -> np.ndarray:
    return np.asarray(draw_instances(pixels, instances, **options)).astype(int)


# Masks


def test_photo_outside_tint_inside_and_the_callers_pixels_untouched() -> None:
    before = GREY.copy()
    picture = drawn(GREY, instances_of(box(50, 40, 150, 120)))
    np.testing.assert_array_equal(GREY, before)
    outside = ~box(47, 37, 153, 123)
    assert (picture[outside] == 120).all()
    inside = picture[45:115, 55:145].reshape(-1, 3)
    assert (inside == inside[0]).all()
    assert abs(inside[0] - 120).max() > 20


def test_nothing_to_draw_gives_the_photo() -> None:
    np.testing.assert_array_equal(drawn(GREY, Instances.empty((200, 300))), GREY)
    np.testing.assert_array_equal(drawn(GREY, instances_of(np.zeros((200, 300), bool))), GREY)


def test_small_masks_lie_on_large_ones_in_pure_colours() -> None:
    large, small = box(20, 20, 280, 180), box(120, 80, 180, 120)
    for order in ((large, small), (small, large)):
        picture = drawn(GREY, instances_of(*order))
        alone = drawn(GREY, instances_of(small))
        tint, other = picture[100, 150], picture[100, 60]
        assert abs(tint - other).max() > 20
        # The small mask's tint is a mix of its colour with the photo, with no trace of the large one's.
        mixes = np.round(GREY[0, 0] * 0.55 + PALETTE.astype(float) * 0.45)
        assert abs(mixes - tint).max(1).min() <= 1
        assert abs(mixes - alone[100, 150]).max(1).min() <= 1


def test_outlines_are_crisp_and_of_holes_too() -> None:
    ring = box(50, 40, 150, 140) & ~box(80, 70, 120, 110)
    picture = drawn(GREY, instances_of(ring))
    tint = picture[55, 65]
    for y, x in [(40, 100), (139, 100), (90, 50), (90, 149), (69, 100), (90, 79)]:
        assert abs(picture[y, x] - tint).max() > 30, (y, x)
    assert (picture[90, 100] == 120).all()


@pytest.mark.parametrize(
    ("size", "width"), [((20, 20), 1), ((480, 640), 1), ((1080, 810), 2), ((3000, 4000), 9)]
)
def test_line_width_follows_the_size(size: tuple[int, int], width: int) -> None:
    assert line_width(np.broadcast_to(np.uint8(0), (*size, 3))) == width


def test_a_picture_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="instances of a"):
        draw_instances(GREY[:100], instances_of(box(0, 0, 5, 5)))


def test_one_pixel_picture() -> None:
    assert drawn(GREY[:1, :1], instances_of(np.ones((1, 1), bool), labels=("x",))).shape == (1, 1, 3)


def test_memory_stays_near_the_photos_own() -> None:
    """300 masks of two megapixels are 600 MB as one byte a pixel; drawing them takes a few photos' worth."""
    size = (1250, 1600)
    y, x = np.ogrid[: size[0], : size[1]]
    rles = tuple(encode_mask((x - 5 * i) ** 2 + (y - 600) ** 2 < (100 + i) ** 2) for i in range(300))
    instances = Instances(size, rles, bounding_boxes(rles), np.ones(300, np.float32))
    photo = np.zeros((*size, 3), np.uint8)
    tracemalloc.start()
    try:
        draw_instances(photo, instances)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * photo.nbytes


# Colours


def colours_of(instances: Instances) -> list[tuple[int, ...]]:
    chooser = ColourChooser(instances.image_size)
    order = np.argsort(-instances.areas, kind="stable")
    chosen = {int(i): chooser.choose(instances.rles[i], mask_window(instances.rles[i])) for i in order}
    return [tuple(chosen[i].tolist()) for i in range(len(instances))]


def test_the_palettes_colours_are_far_apart() -> None:
    apart = np.abs(PALETTE[:, None].astype(int) - PALETTE[None]).sum(-1)
    assert apart[~np.eye(len(PALETTE), dtype=bool)].min() > 100


@pytest.mark.parametrize("cell", [1, 7, 40])
def test_neighbours_differ(cell: int) -> None:
    """A board of cells: all four sides of each have another colour, even for cells of a pixel."""
    size = (6 * cell, 9 * cell)
    board = [
        box(x * cell, y * cell, (x + 1) * cell, (y + 1) * cell, size) for y in range(6) for x in range(9)
    ]
    grid = np.array(colours_of(instances_of(*board))).reshape(6, 9, 3)
    assert (grid[1:] != grid[:-1]).any(-1).all()
    assert (grid[:, 1:] != grid[:, :-1]).any(-1).all()


def test_a_mask_keeps_its_colour_when_others_far_away_come_and_go() -> None:
    mine, near, far = box(10, 10, 60, 60), box(60, 10, 90, 60), box(200, 100, 280, 180)
    both = colours_of(instances_of(mine, far))
    assert colours_of(instances_of(mine))[0] == both[0]
    assert colours_of(instances_of(far, mine)) == both[::-1]
    assert colours_of(instances_of(mine, near))[0] == both[0]


@settings(max_examples=30)
@given(st.integers(0, 2**31))
def test_overlapping_masks_differ(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 100, (8, 2))
    size = (200, 256)  # of which the sketch has every pixel: in larger photos a strip of one may be missed
    masks = [box(x, y, x + rng.integers(60, 150), y + rng.integers(60, 100), size) for x, y in corners]
    colours = colours_of(instances_of(*masks))
    for i in range(8):
        for j in range(i):
            if (masks[i] & masks[j]).sum() > 0:
                # What a later mask hides completely may share its colour; what shows beside it may not.
                shown_i, shown_j = shown(masks, i), shown(masks, j)
                if touching(shown_i, shown_j):
                    assert colours[i] != colours[j]


def shown(masks: list[np.ndarray], index: int) -> np.ndarray:
    order = sorted(range(len(masks)), key=lambda i: -int(masks[i].sum()))
    visible = masks[index].copy()
    for i in order[order.index(index) + 1 :]:
        visible &= ~masks[i]
    return visible


def touching(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((a[1:] & b[:-1]).any() or (a[:-1] & b[1:]).any() or (a[:, 1:] & b[:, :-1]).any())


# Labels


def test_labels_are_written_where_there_are_any_and_asked_for() -> None:
    masks = (box(50, 60, 150, 160), box(180, 60, 280, 160))
    plain = drawn(GREY, instances_of(*masks))
    np.testing.assert_array_equal(
        drawn(GREY, instances_of(*masks, labels=("dog", "cat")), labels=False), plain
    )
    named = drawn(GREY, instances_of(*masks, labels=("dog", None)))
    changed = np.argwhere((named != plain).any(-1))
    assert len(changed) > 100
    assert changed[:, 1].max() < 180  # nothing at the one without a label


@pytest.mark.parametrize("label", ["日本", "a" * 500, "two\nlines\t", "🙂", "%s {x} \\"])
def test_any_text_is_a_label(label: str) -> None:
    picture = drawn(GREY, instances_of(box(0, 0, 20, 20), labels=(label,)))
    assert picture.shape == GREY.shape
    assert (picture != drawn(GREY, instances_of(box(0, 0, 20, 20)))).any()


# Prompts


def test_clicks_and_boxes_are_marked() -> None:
    picture = np.asarray(
        draw_prompts(GREY, points=[[50, 50], [100, 50]], labels=[1, 0], boxes=[[150, 80, 250, 160]])
    )
    assert tuple(picture[50, 50]) == FOREGROUND
    assert tuple(picture[50, 100]) == BACKGROUND
    assert tuple(picture[80, 200]) == BOX
    assert tuple(picture[120, 250]) == BOX
    assert (picture[50, 43:58] == 255).all(-1).any()  # the white rim
    assert (picture[120, 200] == 120).all()
    row = picture[120, 140:160]  # across the left edge: white, blue, white
    assert [tuple(p) for p in row[(row != 120).any(-1)]] == [(255, 255, 255), BOX, (255, 255, 255)]
    assert (GREY == 120).all()


def test_padding_points_are_not_drawn_and_labels_default_to_foreground() -> None:
    np.testing.assert_array_equal(np.asarray(draw_prompts(GREY, points=[[50, 50]], labels=[-1])), GREY)
    assert tuple(np.asarray(draw_prompts(GREY, points=[[[50, 50]], [[90, 90]]]))[90, 90]) == FOREGROUND
    np.testing.assert_array_equal(np.asarray(draw_prompts(GREY)), GREY)


def test_prompts_outside_the_picture_are_no_accident() -> None:
    assert draw_prompts(GREY, points=[[-500, 10], [1e5, 1e5]], boxes=[[-50, -50, 900, 900]]).size == (
        300,
        200,
    )


@pytest.mark.parametrize(
    ("request_json", "drawn_prompts"),
    [
        ({"kind": "points", "points": [[1, 2]], "labels": [0]}, {"points": [[1, 2]], "labels": [0]}),
        ({"kind": "points", "points": [[1, 2]], "labels": None}, {"points": [[1, 2]]}),
        ({"kind": "boxes", "boxes": [[1, 2, 3, 4]]}, {"boxes": [[1, 2, 3, 4]]}),
        ({"kind": "everything", "points_per_side": 32}, {}),
    ],
)
def test_prompts_of_a_request(request_json: dict[str, Any], drawn_prompts: dict[str, Any]) -> None:
    assert prompts_of(request_json) == drawn_prompts


# The file


def test_the_file_shows_masks_and_prompts(tmp_path: Path, make_instances: Callable) -> None:
    instances = make_instances(labels=[None] * 8)
    image = open_image(np.full((60, 90, 3), 99, np.uint8), file_name="a.png")
    click = {"kind": "points", "points": [[20, 20]], "labels": [1]}
    outcome = Outcome(
        image, (Answer(click, instances), Answer({"kind": "boxes", "boxes": [[5, 5, 50, 50]]}, instances))
    )
    (path,) = OverlayWriter().write("a", outcome, tmp_path)
    assert path == tmp_path / "a.overlay.png"
    with Image.open(path) as picture:
        assert picture.mode == "RGB"
        pixels = np.asarray(picture)
    assert tuple(pixels[20, 20]) == FOREGROUND
    assert tuple(pixels[50, 30]) == BOX
    expected = np.asarray(draw_instances(image.pixels, outcome.instances))
    expected = np.asarray(draw_prompts(expected, points=click["points"], labels=click["labels"]))
    expected = np.asarray(draw_prompts(expected, boxes=[[5, 5, 50, 50]]))
    np.testing.assert_array_equal(pixels, expected)


def test_labels_lie_on_prompts() -> None:
    instances = instances_of(box(60, 80, 200, 180), labels=("dog",))
    image = open_image(GREY)
    labelled = drawn(GREY, instances)
    prompt = {"kind": "boxes", "boxes": [[60, 75, 200, 180]]}  # its upper edge runs through the label
    picture = np.asarray(draw_outcome(Outcome(image, (Answer(prompt, instances),))))
    label = (labelled != drawn(GREY, instances, labels=False)).any(-1)
    assert label[75].any()
    np.testing.assert_array_equal(picture[label], labelled[label])


# Windows


@given(st.integers(0, 2**31), st.integers(1, 30), st.integers(1, 30), st.sampled_from([0.0, 0.02, 0.5, 1.0]))
def test_a_window_holds_the_whole_mask_and_no_empty_border(
    seed: int, height: int, width: int, share: float
) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    window = mask_window(encode_mask(mask))
    restored = np.zeros_like(mask)
    restored[window.rows, window.columns] = window.mask
    np.testing.assert_array_equal(restored, mask)
    if mask.any():
        assert window.mask[[0, -1]].any(1).all()
        assert window.mask[:, [0, -1]].any(0).all()
    else:
        assert window.mask.shape == (0, 0)
        assert outlines(encode_mask(mask)) == []
