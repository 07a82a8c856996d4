"""Boxes to masks (paper §3; App. D.4 for the refinement)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch

from adapters.base import Request, Scene
from adapters.checks import number_array, prompt_count, which_masks, whole_number
from adapters.decoding import Masks, segment
from adapters.results import FloatArray, Instances
from sam.errors import BadPrompt
from sam.prompts import Prompts

EDGE_TOLERANCE = 1.0
"""A box may leave the image by this many pixels, which is how detectors round; it is clipped."""
MAX_REFINE = 10


@dataclass(frozen=True, eq=False)
class Boxes(Request):
    """Segment the object in each box.

    Attributes:
        boxes: (N, 4) ``x1, y1, x2, y2`` pixels of the image. Held as float32.
        masks: ``best`` is the answer of the single-mask token, since a box leaves little doubt; ``all`` gives
            the three masks of an ambiguous prompt.
        refine: rounds in which the best mask's logits are fed back beside the box (the paper uses 1 for
            instance segmentation).

    Raises:
        BadPrompt: no box or too many, another shape, a value that is not finite, x2 <= x1 or y2 <= y1.
    """

    kind: ClassVar[str] = "boxes"
    boxes: npt.ArrayLike
    masks: Masks = "best"
    refine: int = 0

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
        prompts = Prompts(boxes=torch.from_numpy(boxes))
        return segment(scene, prompts, multimask=every, masks=request.masks, refine=request.refine)


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
        )
    return clipped


def _named(boxes: FloatArray, number: int) -> str:
    return f"box {number} [{', '.join(f'{v:g}' for v in boxes[number].tolist())}]"
