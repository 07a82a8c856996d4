"""Edges: drawn in tiles as if drawn whole, scaled, thinned, from masks or from the model's own head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.nn import functional as F

from adapters.base import Defaults, Scene
from adapters.edge_drawing import EdgeDrawer
from adapters.edge_thinning import edge_normals, thin_edges
from adapters.edges import LINE, Edges, EdgesAdapter, before_padding
from adapters.results import EdgeMap
from composer import Composer
from sam.embedding import upsample_logits
from sam.errors import BadPrompt

MakeScene = Callable[..., Scene]
Values = npt.NDArray[np.float32]


def ask(scene: Scene, **options: object) -> EdgeMap:
    return EdgesAdapter()(scene, Edges(**{"points_per_side": 4, **options}))  # type: ignore[arg-type]


def plain_edges(low_res: torch.Tensor, square: int, inside: tuple[int, int], size: tuple[int, int]) -> Values:
    """The paper's words: Sobel of every full-size probability map, on its outline, the maximum over maps."""
    steepest = np.zeros(size, np.float32)
    for logits in upsample_logits(low_res, square, inside, size).numpy():
        probability = 1 / (1 + np.exp(-logits.astype(np.float64)))
        x = cv2.Sobel(probability, cv2.CV_64F, 1, 0, borderType=cv2.BORDER_REPLICATE)
        y = cv2.Sobel(probability, cv2.CV_64F, 0, 1, borderType=cv2.BORDER_REPLICATE)
        mask = (logits > 0).astype(np.uint8)
        square_of_three = np.ones((3, 3), np.uint8)
        edge = cv2.dilate(mask, square_of_three) != cv2.erode(mask, square_of_three)
        steepest = np.maximum(steepest, np.hypot(x, y) * edge)
    return steepest.astype(np.float32)


@pytest.mark.parametrize(
    ("inside", "size"),
    [((64, 64), (64, 64)), ((48, 64), (150, 200)), ((64, 40), (33, 21)), ((60, 64), (31, 33))],
)
def test_tiles_are_drawn_as_the_whole_would_be(inside: tuple[int, int], size: tuple[int, int]) -> None:
    noise = torch.randn(7, 1, 5, 5, generator=torch.Generator().manual_seed(1))
    low_res = 4 * F.interpolate(noise, (32, 32), mode="bicubic")[:, 0]
    drawer = EdgeDrawer((32, 32), 64, inside, size)
    drawer.add(low_res[:4])
    drawer.add(low_res[4:])
    expected = plain_edges(low_res, 64, inside, size)
    assert (expected > 0).mean() > 0.02
    found = drawer.values()
    # A logit within rounding of 0 may fall on either side of it: there alone the outline may differ.
    differ = np.abs(found - expected) > 1e-4
    assert differ.mean() < 1e-3


@pytest.mark.parametrize("inside", [(64, 41), (33, 64), (64, 64), (8, 64)])
def test_where_the_padding_begins_is_no_edge(inside: tuple[int, int]) -> None:
    low_res = torch.full((1, 32, 32), -30.0)
    rows, columns = (max(1, side // 2) for side in inside)
    low_res[:, :rows, :columns] = 3.0  # a mask of the whole image, which ends where the padding begins
    for maps, some in ((low_res, True), (before_padding(low_res, 64, inside), False)):
        drawer = EdgeDrawer((32, 32), 64, inside, (50, 50))
        drawer.add(maps)
        assert drawer.values().any() == (some and inside != (64, 64))
    inner = before_padding(low_res, 64, inside, skipped=3)
    kept = [max(1, side * 32 // 64 - 3 if side < 64 else 32) for side in inside]
    assert (inner == low_res[:, : kept[0], : kept[1]].mean()).all()


def test_masks_without_an_outline_have_no_edges() -> None:
    drawer = EdgeDrawer((32, 32), 64, (64, 64), (50, 50))
    drawer.add(torch.stack([torch.full((32, 32), -5.0), torch.full((32, 32), 5.0)]))
    assert not drawer.values().any()


def test_the_highest_edge_is_1_and_batches_do_not_matter(make_scene: MakeScene) -> None:
    found, one = ask(make_scene()), ask(make_scene(), points_per_batch=1)
    assert found.values.shape == (40, 60) and found.values.dtype == np.float32
    assert found.values.max() == 1 and found.values.min() == 0
    np.testing.assert_allclose(found.values, one.values, atol=2e-3)


def test_fewer_duplicates_fewer_edges(make_scene: MakeScene) -> None:
    scene = make_scene()
    all_masks, few = ask(scene, box_nms_thresh=1.0), ask(scene, box_nms_thresh=0.0)
    assert (few.values > 0).sum() < (all_masks.values > 0).sum()


@pytest.mark.parametrize("layers", [1, 2])
def test_windows_add_edges_of_their_own(make_scene: MakeScene, layers: int) -> None:
    scene = make_scene(90, 130)
    whole, zoomed = ask(scene), ask(scene, crop_n_layers=layers, crop_n_points_downscale_factor=2)
    assert zoomed.values.shape == (90, 130)
    assert (zoomed.values > 0).sum() > (whole.values > 0).sum()


def test_a_picture_of_one_pixel(make_scene: MakeScene) -> None:
    assert ask(make_scene(1, 1), thin=True).values.shape == (1, 1)


def test_nothing_found_is_a_map_of_zeros(make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.grid_masks.GridMasks.distinct", lambda self, t: np.zeros(0, np.int64))
    assert not ask(make_scene()).values.any()


def test_edges_of_the_head_and_of_both(small_preset: Path, photo: npt.NDArray[np.uint8]) -> None:
    scene = Composer.load(small_preset).open(photo)
    masks, head, both = (ask(scene, source=source).values for source in ("masks", "head", "both"))
    assert head.max() == both.max() == 1
    inside = scene.embedding.input_size
    logits = scene.upsample(before_padding(scene.embedding.edge_logits[:, 0], 128, inside, LINE))[0]
    expected = logits.sigmoid().numpy()
    np.testing.assert_allclose(head, expected / expected.max(), rtol=1e-5)
    product = np.sqrt(masks * head)
    np.testing.assert_allclose(both, product / product.max(), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(ask(scene).values, masks)  # the preset's own source


def test_a_head_looks_at_several_sizes(small_preset: Path, photo: npt.NDArray[np.uint8]) -> None:
    composer = Composer.load(small_preset)
    encoded = composer.model.encode([photo])[0]

    def of_head(*sizes: int) -> Values:
        defaults = replace(composer.preset.defaults, edge_sizes=sizes)
        scene = Scene(photo, composer.model, lambda _: encoded, defaults, embedding=encoded)
        return ask(scene, source="head").values

    def alone(side: int) -> Values:
        logits, square, inside = composer.model.edges_at(photo, side)
        assert square == {96: 96, 128: 128, 200: 224}[side] and max(inside) == side
        inner = before_padding(logits, square, inside, LINE)
        return upsample_logits(inner, square, inside, photo.shape[:2])[0].sigmoid().numpy()

    np.testing.assert_allclose(alone(128) / alone(128).max(), of_head(), rtol=1e-4)
    small, own, large = alone(96), alone(128), alone(200)
    assert np.abs(small - own).max() > 0.001 and np.abs(large - own).max() > 0.001
    for sizes, parts in (((96, 200), (small, large)), ((96, 128, 200), (small, own, large))):
        mean = np.mean(parts, 0)
        np.testing.assert_allclose(of_head(*sizes), mean / mean.max(), rtol=1e-4)


def test_the_presets_source_is_the_default(make_scene: MakeScene) -> None:
    with pytest.raises(BadPrompt, match='no edge head; use source="masks"'):
        ask(make_scene(defaults=Defaults(edge_source="head")))


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"points_per_side": 0}, "points_per_side"),
        ({"points_per_side": 1000}, "points_per_side"),
        ({"points_per_batch": 0}, "points_per_batch"),
        ({"box_nms_thresh": 1.5}, "box_nms_thresh"),
        ({"crop_n_layers": 9}, "crop_n_layers"),
        ({"crop_overlap_ratio": float("nan")}, "crop_overlap_ratio"),
        ({"crop_n_points_downscale_factor": 0}, "crop_n_points_downscale_factor"),
        ({"source": "sobel"}, "source"),
        ({"thin": 1}, "thin"),
    ],
)
def test_fields_out_of_range_are_named(options: dict[str, object], field: str) -> None:
    with pytest.raises(BadPrompt, match=field) as error:
        Edges(**options)  # type: ignore[arg-type]
    assert error.value.field == field


class TestThinning:
    @staticmethod
    def ridge(angle: float, size: int = 81) -> tuple[Values, Values]:
        """A soft line through the middle, its normal at ``angle``, and each pixel's distance from it."""
        y, x = np.mgrid[:size, :size].astype(np.float32) - size // 2
        distance = x * np.cos(angle) + y * np.sin(angle)
        return np.exp(-(distance**2) / (2 * 3.0**2)).astype(np.float32), np.abs(distance)

    @pytest.mark.parametrize("degrees", [0, 20, 45, 70, 90, 115, 160])
    def test_of_a_ridge_its_crest_stays(self, degrees: float) -> None:
        values, distance = self.ridge(np.radians(degrees))
        thinned = thin_edges(values)
        middle = np.s_[15:-15, 15:-15]
        kept = thinned[middle] > 0
        assert distance[middle][kept].max() < 1.5
        assert kept[distance[middle] < 0.4].mean() > 0.95
        np.testing.assert_allclose(thinned[middle][kept], values[middle][kept])

    @pytest.mark.parametrize("degrees", [0, 30, 60, 90, 120, 150])
    def test_normals_point_across(self, degrees: float) -> None:
        values, distance = self.ridge(np.radians(degrees))
        found = np.degrees(edge_normals(values)[distance < 1])
        apart = np.abs((found - degrees + 90) % 180 - 90)
        assert np.median(apart) < 6

    def test_a_result_can_be_thinned_and_stays_a_map(self, make_scene: MakeScene) -> None:
        found = ask(make_scene(90, 130))
        thinned = found.thin()
        assert isinstance(thinned, EdgeMap)
        assert 0 < (thinned.values > 0).sum() < 0.8 * (found.values > 0).sum()
        np.testing.assert_array_equal(ask(make_scene(90, 130), thin=True).values, thinned.values)
