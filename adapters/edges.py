"""Edges of everything: a grid of clicks, and how sharply each mask ends (paper App. D.2)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import ClassVar, get_args

import numpy as np
import torch
from torch import Tensor

from adapters import rle as run_length
from adapters.base import EdgeSource, Request, Scene
from adapters.checks import earlier_instances, of_this_image, real_number, whole_number
from adapters.crops import Crop, crop_windows, point_grid
from adapters.edge_drawing import EdgeDrawer
from adapters.everything import MAX_CROP_LAYERS, MAX_POINTS_PER_SIDE
from adapters.grid_masks import decode_grid
from adapters.overlaps import grown
from adapters.results import EdgeMap, FloatArray, Instances
from sam.embedding import upsample_logits
from sam.errors import BadPrompt
from sam.model import MASK_THRESHOLD

LINE = 2
"""Cells beside the padding in which edge heads see where the image ends: a line that is in no image."""
MAX_MARGIN = 1000


@dataclass(frozen=True, eq=False)
class Edges(Request):
    """Edges of whatever can be segmented, with the paper's settings as defaults.

    Attributes:
        points_per_side: a grid of this many clicks a side, three masks each, none of them filtered.
        points_per_batch: most clicks decoded at a time: memory and speed, not the result.
        box_nms_thresh: box IoU above which masks are duplicates: the higher predicted IoU stays.
        crop_n_layers: layers of zoomed-in windows; layer i has 4^i of them, for small things in large images.
        crop_overlap_ratio: overlap of the first layer's windows over the image's shorter side, in [0, 1].
        crop_n_points_downscale_factor: layer i has ``points_per_side / factor**i`` clicks a side.
        source: ``masks``, ``head`` or ``both``, see :data:`adapters.base.EdgeSource`; None: the preset's own.
            ``head`` decodes nothing, and costs a pass of the encoder for each of the preset's sizes.
        thin: suppress what is not the highest across its edge (:meth:`adapters.results.EdgeMap.thin`).
        within: keep only edges inside these masks, and on their outlines; the rest becomes 0. None: all.
        within_margin: how many pixels outside of the masks still count, since an outline lies on both sides.

    Raises:
        BadPrompt: a value out of its range, naming the field.
    """

    kind: ClassVar[str] = "edges"
    points_per_side: int = 16
    points_per_batch: int = 64
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    source: EdgeSource | None = None
    thin: bool = False
    within: Instances | None = None
    within_margin: int = 3

    def __post_init__(self) -> None:
        whole_number(self.points_per_side, "points_per_side", 1, MAX_POINTS_PER_SIDE)
        whole_number(self.points_per_batch, "points_per_batch", 1, 4096)
        real_number(self.box_nms_thresh, "box_nms_thresh", 0, 1)
        whole_number(self.crop_n_layers, "crop_n_layers", 0, MAX_CROP_LAYERS)
        real_number(self.crop_overlap_ratio, "crop_overlap_ratio", 0, 1)
        whole_number(self.crop_n_points_downscale_factor, "crop_n_points_downscale_factor", 1, 16)
        if self.source is not None and self.source not in get_args(EdgeSource):
            known = ", ".join(get_args(EdgeSource))
            raise BadPrompt(f"source must be one of {known}, not {self.source!r}", field="source")
        if not isinstance(self.thin, bool):
            raise BadPrompt(f"thin must be true or false, not {self.thin!r}", field="thin")
        if self.within is not None:
            earlier_instances(self.within, "within")
        whole_number(self.within_margin, "within_margin", 0, MAX_MARGIN)


class EdgesAdapter:
    """Answers :class:`Edges` with a map whose highest value is 1, or 0 where nothing was found.

    Thinning and ``within`` come after that: an edge has the same value with and without ``within``.
    """

    request: type[Request] = Edges

    def __call__(self, scene: Scene, request: Edges) -> EdgeMap:
        """Find the edges in ``scene``.

        Raises:
            BadPrompt: edges of a head that the model does not have, or masks of another image's size.
        """
        if request.within is not None:
            of_this_image(request.within, scene.size, "within")
        source = request.source or scene.defaults.edge_source
        crops = crop_windows(scene.size, request.crop_n_layers, request.crop_overlap_ratio)
        windows = chain([scene], scene.crops([crop.box for crop in crops[1:]]))
        maps = {
            kind: np.zeros(scene.size, np.float32) for kind in ("masks", "head") if source in (kind, "both")
        }
        for window, crop in zip(windows, crops, strict=True):
            if "masks" in maps:
                _raise_to(maps["masks"], _edges_of_masks(window, request, crop), crop)
            if "head" in maps:
                _raise_to(maps["head"], _edges_of_head(window), crop)
        scaled = [_scaled(found) for found in maps.values()]
        values = scaled[0] if len(scaled) == 1 else _scaled(np.sqrt(scaled[0] * scaled[1]))
        found = EdgeMap(values)
        found = found.thin() if request.thin else found
        return found if request.within is None else _inside(found, request.within, request.within_margin)


def _inside(edges: EdgeMap, masks: Instances, margin: int) -> EdgeMap:
    region = run_length.decode_mask(run_length.union(masks.rles, masks.image_size))
    return EdgeMap(np.where(grown(region, margin), edges.values, np.float32(0)))


def _raise_to(values: FloatArray, found: FloatArray, crop: Crop) -> None:
    """The maximum of the whole image's map and that of a window."""
    x1, y1, x2, y2 = crop.box
    np.maximum(values[y1:y2, x1:x2], found, out=values[y1:y2, x1:x2])


def _scaled(values: FloatArray) -> FloatArray:
    highest = float(values.max())
    return np.clip(values / highest, 0, 1) if highest else values


def _edges_of_head(window: Scene) -> FloatArray:
    """The mean of what the head says at each size: small ones know what is an edge, large ones where."""
    own, embedding = window.model.image_size, window.embedding
    if embedding.edge_logits is None:
        raise BadPrompt('these weights have no edge head; use source="masks"', field="source")
    found = []
    for side in window.defaults.edge_sizes or (own,):
        logits, square, inside = (
            (embedding.edge_logits[:, 0], own, embedding.input_size) if side == own else window.edges_at(side)
        )
        inner = before_padding(logits, square, inside, LINE)
        found.append(upsample_logits(inner, square, inside, window.size)[0].sigmoid())
    values: FloatArray = torch.stack(found).mean(0).cpu().numpy()
    return values


def _edges_of_masks(window: Scene, request: Edges, crop: Crop) -> FloatArray:
    """The paper's edges in one window, not scaled."""
    per_side = max(1, int(request.points_per_side / request.crop_n_points_downscale_factor**crop.layer))
    points = torch.from_numpy(point_grid(per_side) * np.array(window.size[::-1], np.float64))
    masks = decode_grid(window, points, request.points_per_batch)
    embedding = window.embedding
    height, width = (4 * side for side in embedding.features.shape[-2:])
    drawer = EdgeDrawer(
        (height, width), window.model.image_size, embedding.input_size, window.size, embedding.features.device
    )
    for _, logits in masks.logits_of(masks.distinct(request.box_nms_thresh)):
        inner = before_padding(logits, window.model.image_size, embedding.input_size)
        drawer.add(inner, MASK_THRESHOLD)
    return drawer.values()


def before_padding(maps: Tensor, square: int, inside: tuple[int, int], skipped: int = 0) -> Tensor:
    """Maps that go on beyond the image as they end inside of it: where the padding begins is no edge.

    Args:
        maps: (n, h, w) over the padded square.
        square: its side, pixels.
        inside: (height, width) of the image in it.
        skipped: cells before the padding that show its border and not the image.
    """
    for axis, (cells, length) in enumerate(zip(maps.shape[1:], inside, strict=True), 1):
        if length < square:
            last = max(0, length * cells // square - 1 - skipped)
            maps = maps.index_select(axis, torch.arange(cells, device=maps.device).clamp(max=last))
    return maps
