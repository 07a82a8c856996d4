"""Edge pictures and contact sheets, and which pictures an outcome gets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adapters.results import EdgeMap, Instances
from adapters.rle import bounding_boxes, encode_masks
from composer.contact_sheet import CAPTION, GAP, OUTLINE, TILE, draw_contact_sheet
from composer.edge_picture import DIM, draw_edges
from composer.formats.base import Answer, Outcome
from composer.images import open_image
from composer.overlay import OverlayWriter, pictures_of

GREY = np.full((60, 90, 3), 200, np.uint8)


def squares(count: int) -> Instances:
    masks = np.zeros((count, 60, 90), bool)
    for i in range(count):
        masks[i, 10 : 20 + i % 30, 20:40] = True
    rles = tuple(encode_masks(masks))
    return Instances((60, 90), rles, bounding_boxes(rles), np.linspace(1, 0, count, dtype=np.float32))


def line() -> EdgeMap:
    values = np.zeros((60, 90), np.float32)
    values[30], values[40] = 1.0, 0.25
    return EdgeMap(values)


def test_edges_are_bright_on_the_dimmed_photo() -> None:
    picture = np.asarray(draw_edges(GREY, line())).astype(int)
    assert picture.shape == (60, 90, 3)
    assert (picture[5] == round(200 * DIM)).all()
    brightness = picture.sum(2).mean(1)
    assert brightness[30] > 550 and brightness[30] > brightness[40] and (picture[40] != picture[5]).any()
    with pytest.raises(ValueError, match="on one of"):
        draw_edges(GREY[:5], line())


def test_a_sheet_has_a_tile_for_each_in_order_and_no_more_than_asked_for() -> None:
    sheet = np.asarray(draw_contact_sheet(GREY, squares(11), limit=5, columns=3))
    assert sheet.shape == (2 * (TILE + CAPTION + GAP) + GAP, 3 * (TILE + GAP) + GAP, 3)
    tiles = [
        sheet[y : y + TILE, x : x + TILE]
        for y in (GAP, 2 * GAP + TILE + CAPTION)
        for x in (GAP, 2 * GAP + TILE, 3 * GAP + 2 * TILE)
    ]
    used = [(tile != 255).any() for tile in tiles]
    assert used == [True] * 5 + [False]
    for tile in tiles[:5]:
        assert (tile == OUTLINE).all(2).sum() > 50  # the mask's outline
        assert (np.abs(tile.astype(int) - 200) <= 1).all(2).any()  # inside it the photo as it is
        assert (np.abs(tile.astype(int) - 80) <= 1).all(2).any()  # outside it dimmed
    captions = [sheet[GAP + TILE : GAP + TILE + CAPTION, x : x + TILE] for x in (GAP, 2 * GAP + TILE)]
    assert (captions[0] < 128).any() and (captions[0] != captions[1]).any()


def test_a_sheet_of_nothing_and_of_one_pixel() -> None:
    assert draw_contact_sheet(GREY, squares(0)).size[0] > 100
    dot = np.zeros((1, 60, 90), bool)
    dot[0, 59, 89] = True
    rles = tuple(encode_masks(dot))
    draw_contact_sheet(GREY, Instances((60, 90), rles, bounding_boxes(rles), np.ones(1, np.float32)))
    with pytest.raises(ValueError, match="on one of"):
        draw_contact_sheet(GREY[:9], squares(1))


def outcome(*kinds: str) -> Outcome:
    results = {"edges": line(), "proposals": squares(9), "boxes": squares(2)}
    answers = tuple(Answer({"kind": kind}, results[kind]) for kind in kinds)
    return Outcome(open_image(GREY), answers)


@pytest.mark.parametrize(
    ("kinds", "names"),
    [
        (("boxes",), ["overlay"]),
        (("edges",), ["overlay"]),
        (("proposals",), ["overlay"]),
        (("proposals", "edges"), ["overlay", "edges.overlay"]),
        (("edges", "boxes", "proposals"), ["overlay", "edges.overlay", "proposals.overlay"]),
        (("boxes", "edges", "edges"), ["overlay", "edges.overlay", "edges-2.overlay"]),
        ((), ["overlay"]),
    ],
)
def test_each_kind_has_a_picture_of_its_own(kinds: tuple[str, ...], names: list[str], tmp_path: Path) -> None:
    assert list(pictures_of(outcome(*kinds))) == names
    written = OverlayWriter().write("x", outcome(*kinds), tmp_path)
    assert [path.name for path in written] == [f"x.{name}.png" for name in names]
    for path in written:
        with Image.open(path) as picture:
            picture.load()


def test_proposals_are_not_on_the_overlay_of_the_others() -> None:
    alone = np.asarray(pictures_of(outcome("boxes"))["overlay"])
    together = np.asarray(pictures_of(outcome("boxes", "proposals"))["overlay"])
    assert (alone == together).all()
