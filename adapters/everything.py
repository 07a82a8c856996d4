"""All masks of an image: a grid of clicks, keeping what is confident, stable and new (paper §4, App. B)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch

from adapters.base import Request, Scene
from adapters.checks import number_array, real_number, whole_number
from adapters.clicks import Clicks
from adapters.contest import Contest
from adapters.crops import Crop, crop_windows, point_grid
from adapters.decoding import collect, drawer_of
from adapters.regions import clean_instances, drop_small
from adapters.results import Instances
from adapters.selection import box_nms, covers_image, touches_inner_edge
from sam.errors import BadPrompt

MAX_POINTS_PER_SIDE = 256
MAX_CROP_LAYERS = 4
ANY = float("inf")


@dataclass(frozen=True, eq=False)
class Everything(Request):
    """Segment everything, with segment-anything's names and defaults.

    Attributes:
        points_per_side: a grid of this many clicks a side; None takes ``point_grids``.
        points_per_batch: most clicks decoded at a time: memory and speed, not the result.
        pred_iou_thresh: only masks whose predicted IoU exceeds it; 0 keeps all; None: the preset's own.
        stability_score_thresh: only masks at least as stable, in [0, 1]; None: the preset's own.
        stability_score_offset: how far the threshold is moved for the stability score, logits.
        box_nms_thresh: box IoU above which masks of one window are duplicates: the higher score stays.
        crop_n_layers: layers of zoomed-in windows; layer i has 4^i of them, each encoded on its own.
        crop_nms_thresh: box IoU above which masks of two windows are duplicates; the smaller window's stays.
        crop_overlap_ratio: overlap of the first layer's windows over the image's shorter side, in [0, 1].
        crop_n_points_downscale_factor: layer i has ``points_per_side / factor**i`` clicks a side.
        min_mask_region_area: fill holes and remove components of fewer pixels (the paper: 100).
        point_grids: for each layer (n, 2) clicks ``x, y`` in [0, 1] of the window; with
            ``points_per_side=None``.
        max_mask_area_fraction: drop masks that cover this much of the image or more (App. B); None keeps
            them, as segment-anything does. Applied last, so that the others are the same either way.
        min_mask_area: drop masks whose largest component has fewer pixels (the paper: 100).

    Raises:
        BadPrompt: a value out of its range, naming the field.
    """

    kind: ClassVar[str] = "everything"
    points_per_side: int | None = 32
    points_per_batch: int = 64
    pred_iou_thresh: float | None = None
    stability_score_thresh: float | None = None
    stability_score_offset: float = 1.0
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    min_mask_region_area: float = 0
    point_grids: Sequence[npt.ArrayLike] | None = None
    max_mask_area_fraction: float | None = 0.95
    min_mask_area: float = 0

    def __post_init__(self) -> None:
        whole_number(self.points_per_batch, "points_per_batch", 1, 4096)
        whole_number(self.crop_n_layers, "crop_n_layers", 0, MAX_CROP_LAYERS)
        whole_number(self.crop_n_points_downscale_factor, "crop_n_points_downscale_factor", 1, 16)
        for field in ("box_nms_thresh", "crop_nms_thresh", "crop_overlap_ratio"):
            real_number(getattr(self, field), field, 0, 1)
        for field in ("stability_score_offset", "min_mask_region_area", "min_mask_area"):
            real_number(getattr(self, field), field, 0, 1e9)
        if self.pred_iou_thresh is not None:
            real_number(self.pred_iou_thresh, "pred_iou_thresh", -ANY, ANY)
        if self.stability_score_thresh is not None:
            real_number(self.stability_score_thresh, "stability_score_thresh", 0, 1)
        if self.max_mask_area_fraction is not None:
            real_number(self.max_mask_area_fraction, "max_mask_area_fraction", 0, 1)
        self._check_grids()

    def _check_grids(self) -> None:
        if (self.points_per_side is None) == (self.point_grids is None):
            raise BadPrompt(
                "give either points_per_side or point_grids, the other as None", field="point_grids"
            )
        if self.point_grids is None:
            whole_number(self.points_per_side, "points_per_side", 1, MAX_POINTS_PER_SIDE)
            return
        if not isinstance(self.point_grids, Sequence | np.ndarray):
            raise BadPrompt("point_grids must be a list with a grid for each layer", field="point_grids")
        if len(self.point_grids) != self.crop_n_layers + 1:
            raise BadPrompt(
                f"{len(self.point_grids)} point_grids for the image and {self.crop_n_layers} crop layers",
                field="point_grids",
            )
        for grid in self.point_grids:
            points = number_array(grid, "point_grids", "(n, 2) for each layer")
            if points.ndim != 2 or points.shape[1] != 2:
                raise BadPrompt(
                    f"each of point_grids must be (n, 2), not {points.shape}", field="point_grids"
                )
            if len(points) > MAX_POINTS_PER_SIDE**2:
                raise BadPrompt(
                    f"a grid of {len(points)} points: give at most {MAX_POINTS_PER_SIDE**2}",
                    field="point_grids",
                )
            if ((points < 0) | (points > 1)).any():
                raise BadPrompt("point_grids are fractions of the window, in [0, 1]", field="point_grids")

    def grid(self, layer: int) -> npt.NDArray[np.float64]:
        """(n, 2) clicks ``x, y`` in [0, 1] of each window of ``layer``."""
        if self.point_grids is not None:
            return np.asarray(self.point_grids[layer], np.float64).reshape(-1, 2)
        per_side = self.points_per_side or 1
        return point_grid(max(1, int(per_side / self.crop_n_points_downscale_factor**layer)))


class EverythingAdapter:
    """Answers :class:`Everything` with the kept masks, the highest predicted IoU first."""

    request: type[Request] = Everything

    def __call__(self, scene: Scene, request: Everything) -> Instances:
        """Segment everything in ``scene``."""
        crops = crop_windows(scene.size, request.crop_n_layers, request.crop_overlap_ratio)
        parts = [masks_of_crop(scene, scene, request, crops[0])]
        windows = scene.crops([crop.box for crop in crops[1:]])
        parts += [
            masks_of_crop(scene, window, request, crop)
            for window, crop in zip(windows, crops[1:], strict=True)
        ]
        found = Instances.concatenate(parts)
        if len(crops) > 1:
            sides = found.crop_boxes[:, 2:] - found.crop_boxes[:, :2]
            found = found[box_nms(found.boxes, 1 / sides.prod(axis=1), request.crop_nms_thresh)]
        if request.min_mask_region_area > 0:
            nms_thresh = max(request.box_nms_thresh, request.crop_nms_thresh)
            found = clean_instances(found, request.min_mask_region_area, nms_thresh)
        if request.min_mask_area > 0:
            found = drop_small(found, request.min_mask_area)
        if request.max_mask_area_fraction is not None:
            found = found[~covers_image(found.areas, scene.size, request.max_mask_area_fraction)]
        return found[np.argsort(-found.scores, kind="stable")]


def masks_of_crop(scene: Scene, window: Scene, request: Everything, crop: Crop) -> Instances:
    """The masks of one window, in the frame of the whole image: filtered, and duplicates suppressed."""
    origin = crop.box[:2]
    # Of the window's size, not the image's: its clicks are its own.
    points = torch.from_numpy(request.grid(crop.layer) * np.array(window.size[::-1], np.float64))
    clicks = Clicks.of(window, points, request.points_per_batch)
    contest = Contest(
        drawer_of(window, origin=origin, canvas=scene.size),
        clicks.again,
        lambda boxes: ~touches_inner_edge(boxes, crop.box, scene.size),
        nms_thresh=request.box_nms_thresh,
        min_stability=_chosen(request.stability_score_thresh, window.defaults.stability_score_thresh),
        offset=request.stability_score_offset,
    )
    min_iou = _chosen(request.pred_iou_thresh, window.defaults.pred_iou_thresh)
    for first, candidates in clicks.decoded():
        # Predicted IoU comes first, because it is known before any mask is drawn.
        iou = candidates.iou_predictions
        confident = iou > min_iou if min_iou > 0 else torch.ones_like(iou, dtype=torch.bool)
        for index, logits in clicks.logits(candidates, confident.nonzero()):
            contest.add(index + index.new_tensor([first, 0]), iou[tuple(index.T)], logits)
    winners = contest.winners()
    click, column = torch.from_numpy(winners.rows).unbind(1)
    return collect(
        scene.size,
        winners.drawn,
        torch.from_numpy(winners.predicted_iou),
        ambiguity=column,
        points=clicks.points[click] + torch.tensor(origin, dtype=torch.float32),
    ).replace(crop_boxes=np.tile(np.array(crop.box, np.float32), (len(click), 1)))


def _chosen(value: float | None, default: float) -> float:
    return default if value is None else value
