"""Boxes as prompts: IoU of the answer to each segment's own box, beside that of the box itself, filled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from adapters.base import Scene
from adapters.boxes import Boxes, BoxesAdapter
from adapters.results import Instances
from adapters.rle import RLE, areas, bounding_boxes
from composer.evaluation.points import IoUs, rle_iou

AnswerBoxes = Callable[[Scene, Boxes], Instances]


@dataclass(frozen=True)
class BoxScores:
    """Of n masks of one image, IoU in [0, 1].

    Attributes:
        top: (n,) of the answer that a user gets, the single-mask token's.
        oracle: (n,) of the best among that answer and the three masks of an ambiguous prompt.
        filled: (n,) of the box itself as a mask.
    """

    top: IoUs
    oracle: IoUs
    filled: IoUs


def score_boxes(scene: Scene, masks: Sequence[RLE], answer: AnswerBoxes | None = None) -> BoxScores:
    """Prompt with the tight box of every mask of one image.

    Args:
        scene: the image.
        masks: n ground-truth masks at its size, none empty.
        answer: answers a request; default: the ``boxes`` adapter.
    """
    if not masks:
        return BoxScores(np.zeros(0), np.zeros(0), np.zeros(0))
    answer = answer or BoxesAdapter()
    boxes = bounding_boxes(masks)
    single = answer(scene, Boxes(boxes))
    several = answer(scene, Boxes(boxes, masks="all"))
    top = np.array([rle_iou(rle, mask) for rle, mask in zip(single.rles, masks, strict=True)])
    options = len(several) // len(masks)
    others = np.array([rle_iou(rle, masks[i // options]) for i, rle in enumerate(several.rles)])
    sides = boxes[:, 2:] - boxes[:, :2]
    filled = areas(masks) / sides.prod(1).astype(np.float64)
    return BoxScores(top, np.maximum(top, others.reshape(-1, options).max(1)), filled)
