"""`everything` against segment-anything's own generator, with the same weights.

Accepted by matched masks, as the project promises: at least 99 % of masks have a partner of IoU >= 0.99, and
the counts differ by at most 1 %. segment-anything has no coverage filter, so it is switched off here.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from segment_anything import SamAutomaticMaskGenerator

from adapters.base import Defaults, Scene
from adapters.everything import Everything, EverythingAdapter
from adapters.results import Instances
from sam.image_encoder.vit import ViTConfig
from sam.model import SegmentAnything
from sam.variants import DecoderConfig, ModelConfig, build_model


def _load_helper() -> ModuleType:
    spec = importlib.util.spec_from_file_location("small_sam", Path(__file__).parent / "small_sam.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


small_sam = _load_helper()


@pytest.fixture(scope="module")
def reference() -> Any:
    return small_sam.build_small_sam()


@pytest.fixture(scope="module")
def model(reference: Any) -> SegmentAnything:
    encoder = ViTConfig(
        embed_dim=32,
        depth=2,
        num_heads=2,
        global_attn_indexes=(1,),
        image_size=small_sam.SIDE,
        window_size=7,
        out_chans=small_sam.DIM,
    )
    decoder = DecoderConfig(embed_dim=small_sam.DIM, num_heads=1, mlp_dim=256, iou_head_hidden_dim=64)
    ours = build_model(ModelConfig("small", encoder, decoder))
    ours.load_state_dict(reference.state_dict(), strict=True)
    return ours


def run_both(
    reference: Any, model: SegmentAnything, photo: np.ndarray, **options: Any
) -> tuple[list[dict[str, Any]], Instances]:
    expected = SamAutomaticMaskGenerator(reference, output_mode="coco_rle", **options).generate(photo)
    scene = Scene(photo, model, lambda pixels: model.encode([pixels])[0], Defaults())
    found = EverythingAdapter()(scene, Everything(**options, max_mask_area_fraction=None))
    return expected, found


def matched_fraction(expected: list[dict[str, Any]], found: Instances) -> float:
    """Share of masks of either side whose best partner has IoU >= 0.99."""
    theirs = [record["segmentation"] for record in expected]
    iou = np.asarray(coco_mask.iou(theirs, list(found.rles), [0] * len(found)))
    return float(min((iou.max(0) >= 0.99).mean(), (iou.max(1) >= 0.99).mean()))


OPTIONS = {"points_per_batch": 64, "pred_iou_thresh": 0.8, "stability_score_thresh": 0.6}


@pytest.mark.parametrize(
    ("size", "least", "options"),
    [
        pytest.param((225, 330), 100, {"points_per_side": 16}, id="wide"),
        pytest.param((330, 225), 100, {"points_per_side": 16}, id="tall"),
        pytest.param((225, 330), 60, {"points_per_side": 16, "min_mask_region_area": 100}, id="clean"),
        pytest.param((225, 330), 60, {"points_per_side": 16, "min_mask_region_area": 2000}, id="clean-most"),
        pytest.param((225, 330), 100, {"points_per_side": 12, "crop_n_layers": 1}, id="crops"),
        pytest.param(
            (330, 225),
            60,
            {"points_per_side": 12, "crop_n_layers": 1, "min_mask_region_area": 100},
            id="crops-clean",
        ),
        pytest.param(
            (225, 330),
            50,
            {
                "points_per_side": 12,
                "crop_n_layers": 2,
                "crop_n_points_downscale_factor": 2,
                "crop_overlap_ratio": 0.2,
                "box_nms_thresh": 0.5,
                "crop_nms_thresh": 0.4,
            },
            id="two-layers",
        ),
        pytest.param(
            (225, 330),
            100,
            {"points_per_side": 16, "stability_score_offset": 3.0, "stability_score_thresh": 0.2},
            id="offset",
        ),
    ],
)
def test_same_masks_as_segment_anything(
    reference: Any, model: SegmentAnything, size: tuple[int, int], least: int, options: dict[str, Any]
) -> None:
    photo = small_sam.smooth_photo(*size, seed=7)
    expected, found = run_both(reference, model, photo, **{**OPTIONS, **options})
    fraction = matched_fraction(expected, found)
    print(f"{len(expected)} masks expected, {len(found)} found, {fraction:.4f} matched at IoU >= 0.99")
    assert len(expected) >= least, "the comparison needs masks to mean something"
    assert abs(len(found) - len(expected)) <= 0.01 * len(expected)
    assert fraction >= 0.99


def test_same_columns_as_segment_anything(reference: Any, model: SegmentAnything) -> None:
    photo = small_sam.smooth_photo(225, 330, seed=7)
    expected, found = run_both(reference, model, photo, **OPTIONS, points_per_side=12, crop_n_layers=1)
    theirs = [record["segmentation"] for record in expected]
    iou = np.asarray(coco_mask.iou(theirs, list(found.rles), [0] * len(found)))
    partner = iou.argmax(1)
    same = iou.max(1) >= 0.99
    assert len({tuple(record["crop_box"]) for record in expected}) == 5
    records = found.to_sa1b("photo.jpg")["annotations"]
    for index in np.flatnonzero(same):
        mine, other = records[partner[index]], expected[index]
        assert mine["predicted_iou"] == pytest.approx(other["predicted_iou"], abs=1e-3)
        assert mine["stability_score"] == pytest.approx(other["stability_score"], abs=5e-3)
        assert mine["area"] == pytest.approx(other["area"], rel=1e-2)
        # Their box ends on the last pixel, so its width is one short of pycocotools'.
        assert mine["bbox"] == pytest.approx([*other["bbox"][:2], *(s + 1 for s in other["bbox"][2:])], abs=1)
        assert mine["crop_box"] == other["crop_box"]
        assert mine["point_coords"][0] == pytest.approx(other["point_coords"][0], abs=1e-3)


def test_coverage_filter_only_takes_away_what_covers(reference: Any, model: SegmentAnything) -> None:
    photo = small_sam.smooth_photo(225, 330, seed=7)
    scene = Scene(photo, model, lambda pixels: model.encode([pixels])[0], Defaults())
    everything = EverythingAdapter()(
        scene, Everything(**OPTIONS, points_per_side=12, max_mask_area_fraction=None)
    )
    limit = float(np.median(everything.areas)) / photo[..., 0].size
    filtered = EverythingAdapter()(
        scene, Everything(**OPTIONS, points_per_side=12, max_mask_area_fraction=limit)
    )
    small = everything.areas < limit * photo[..., 0].size
    assert 0 < small.sum() < len(everything)
    assert filtered.rles == everything[small].rles
