"""Boxes to masks (paper §3; App. D.4 for the refinement)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from adapters.base import Request, Scene
from adapters.checks import number_array, prompt_count, real_number, which_masks, whole_number
from adapters.decoding import Masks
from adapters.results import FloatArray, Instances
from adapters.rle import bounding_boxes, cut_to_box
from adapters.windows import check_zoom, segment_boxes
from sam.errors import BadPrompt

EDGE_TOLERANCE = 1.0
"""A box may leave the image by this many pixels, which is how detectors round; it is clipped."""
MAX_REFINE = 10
MAX_MARGIN = 1000.0


@dataclass(frozen=True, eq=False)
class Boxes(Request):
    """Segment the object in each box.

    Attributes:
        boxes: (N, 4) ``x1, y1, x2, y2`` pixels of the image. Held as float32.
        masks: ``best`` is the answer of the single-mask token, since a box leaves little doubt; ``all`` gives
            the three masks of an ambiguous prompt.
        refine: rounds in which the best mask's logits are fed back beside the box (the paper uses 1 for
            instance segmentation).
        margin: how far a mask may leave its box at each side, as a share of the box's width and height; 0 for
            not at all, 10 or so for as far as it likes. None: the preset's own. Published checkpoints set no
            limit; weak weights spill over.
        zoom: look at each small box in a window of its own, so many times as wide as the box's longer side:
            finer masks of small things, for an encoder pass a window (:mod:`adapters.windows`). Neighbours
            share one, so that a mask may depend on the other boxes a little, and there are no low-resolution
            logits then. From 1.25 to 16, 2 is good; None or 0: the photo as a whole is all that is looked at.

    Raises:
        BadPrompt: no box or too many, another shape, a value that is not finite, x2 <= x1 or y2 <= y1.
    """

    kind: ClassVar[str] = "boxes"
    boxes: npt.ArrayLike
    masks: Masks = "best"
    refine: int = 0
    margin: float | None = None
    zoom: float | None = None

    def __post_init__(self) -> None:
        boxes = number_array(self.boxes, "boxes", "[[x1, y1, x2, y2], ...]")
        prompt_count(len(boxes) if boxes.ndim else 0, "boxes")
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise BadPrompt(f"boxes must be (N, 4) x1, y1, x2, y2, not {boxes.shape}", field="boxes")
        turned = (boxes[:, 2:] <= boxes[:, :2]).any(1)
        if turned.any():
            number = int(np.flatnonzero(turned)[0])
            raise BadPrompt(
                f"{_named(boxes, number)} is empty: x2 must exceed x1 and y2 exceed y1", field="boxes"
            )
        object.__setattr__(self, "boxes", boxes)
        which_masks(self.masks)
        whole_number(self.refine, "refine", 0, MAX_REFINE)
        if self.margin is not None:
            real_number(self.margin, "margin", 0, MAX_MARGIN)
        check_zoom(self.zoom)


class BoxesAdapter:
    """Answers :class:`Boxes` with one instance for each box, or three for ``masks="all"``."""

    request: type[Request] = Boxes

    def __call__(self, scene: Scene, request: Boxes) -> Instances:
        """Decode the boxes.

        Raises:
            BadPrompt: a box that leaves the image by more than a pixel.
        """
        boxes = clip_boxes(np.asarray(request.boxes, np.float32), scene.size)
        every = request.masks == "all"
        found = segment_boxes(
            scene, boxes, zoom=request.zoom, multimask=every, masks=request.masks, refine=request.refine
        )
        margin = scene.defaults.box_margin if request.margin is None else request.margin
        return cut_to_boxes(found, boxes, margin)


def cut_to_boxes(found: Instances, boxes: FloatArray, margin: float) -> Instances:
    """The instances without what lies farther outside of the boxes that asked for them.

    Args:
        found: answers with the number of their box in ``prompt_index``; their scores stay as they are.
        boxes: (N, 4) ``x1, y1, x2, y2`` pixels inside the image.
        margin: share of a box's width and height that it grows by at each side; infinite for no limit.
    """
    if margin > MAX_MARGIN or not len(found):
        return found
    height, width = found.image_size
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    grown = boxes + margin * sides * np.array([-1, -1, 1, 1], np.float32)
    # Pixels that the box touches belong to it.
    grown = np.concatenate([np.floor(grown[:, :2]), np.ceil(grown[:, 2:])], 1)
    limits = np.clip(grown, 0, [width, height, width, height]).astype(int).tolist()
    rles = tuple(
        cut_to_box(rle, limits[number])
        for rle, number in zip(found.rles, found.prompt_index.tolist(), strict=True)
    )
    return found.replace(rles=rles, boxes=bounding_boxes(rles))


def clip_boxes(boxes: FloatArray, size: tuple[int, int], tolerance: float = EDGE_TOLERANCE) -> FloatArray:
    """(N, 4) boxes clipped to an image of ``size`` (H, W).

    Raises:
        BadPrompt: a box that leaves the image by more than ``tolerance`` px, or lies outside of it.
    """
    height, width = size
    limit = np.array([width, height, width, height], np.float32)
    clipped = np.clip(boxes, 0, limit)
    outside = (np.abs(clipped - boxes) > tolerance).any(1) | (clipped[:, 2:] <= clipped[:, :2]).any(1)
    if outside.any():
        number = int(np.flatnonzero(outside)[0])
        raise BadPrompt(
            f"{_named(boxes, number)} is outside the image, {width} px wide and {height} px high",
            code="box_outside",
            field="boxes",
            allowed={"x": [0, width], "y": [0, height]},
        )
    return clipped


def _named(boxes: FloatArray, number: int) -> str:
    return f"box {number} [{', '.join(f'{v:g}' for v in boxes[number].tolist())}]"
