"""One mask for each object that a phrase names: the outline on which the masks that fit the phrase agree.

A text-image model tells what is in a picture better than how far it reaches: of twenty masks of a coat, its
sleeve, its collar and the street behind, the one that it likes best is often not the coat. So each mask
weighs as much as the phrase fits it, as if that were the chance that it is the right one, and the mask with
the highest expected IoU is taken (minimum Bayes risk), whichever it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from adapters.results import FloatArray
from adapters.rle import RLE, BoolArray, IntArray, areas

Weights = npt.NDArray[np.float64]
SHARPNESS = 0.5
"""Exponent of the odds that make a weight: how far the text-image model is trusted with outlines."""
OUTLINE = 3.0
"""How much of a logit a predicted IoU of 1 is worth: good outlines are named better too."""
SAME_MASK = 0.5
"""IoU from which two masks with one label are one object."""
INSIDE = 0.8
"""Share of a mask within another of the same label from which it is a part of it, or it of that."""
NEAR = 0.2
"""Least IoU of an answer with a mask that the phrase itself fits well enough."""
ENOUGH = 0.6
"""A further object needs this share of the first one's expected IoU, or a text score that is certain."""


class Overlaps(NamedTuple):
    """How n masks lie to each other.

    Attributes:
        iou: (n, n) float64.
        clash: (n, n) bool, where two cannot both be an object of one label: they overlap by half, or one
            holds the other.
    """

    iou: npt.NDArray[np.float64]
    clash: BoolArray


def overlaps(rles: Sequence[RLE]) -> Overlaps:
    """Compare n masks of one image with each other."""
    if not rles:
        return Overlaps(np.zeros((0, 0)), np.zeros((0, 0), np.bool_))
    sizes = areas(rles).astype(np.float64)
    # COCO's measure against a crowd: the share of the first that lies in the second.
    inside = np.asarray(coco_mask.iou(list(rles), list(rles), [1] * len(rles)), np.float64)
    shared = inside * sizes[:, None]
    iou = shared / (sizes[:, None] + sizes[None] - shared)
    return Overlaps(iou, (iou >= SAME_MASK) | (np.maximum(inside, inside.T) >= INSIDE))


def outlines(
    between: Overlaps, weights: Weights, scores: FloatArray, eligible: BoolArray, certain: float
) -> tuple[IntArray, FloatArray]:
    """The masks that stand for the objects of one phrase, the highest expected IoU first.

    Args:
        between: how the n masks lie to each other.
        weights: (n,), see :func:`weights_of`.
        scores: (n,) text score of the masks that fit well enough; 0 of all others.
        eligible: (n,) bool, masks that may be answers.
        certain: text score from which an object is one, however little else agrees with it.

    Returns:
        (k,) numbers of masks, and for each the best text score of those that it stands for.
    """
    seeds, left, weights = scores > 0, eligible.copy(), weights.copy()
    chosen: list[int] = []
    best: list[float] = []
    least = 0.0
    while seeds.any() and left.any():
        near = (between.iou[:, seeds] >= NEAR).any(1) & left
        expected = np.where(near, between.iou @ weights, -1.0)
        one = int(expected.argmax())
        if not near[one]:
            break
        score = float(scores[seeds & (between.iou[one] >= NEAR)].max())
        if not chosen:
            least = ENOUGH * float(expected[one])
        if expected[one] >= least or score >= certain:
            chosen.append(one)
            best.append(score)
        gone = between.clash[one] | (np.arange(len(left)) == one)
        left &= ~gone
        seeds &= ~gone
        weights[gone] = 0
    return np.array(chosen, np.int64), np.array(best, np.float32)


def weights_of(fit: FloatArray, predicted_iou: FloatArray) -> Weights:
    """(n,) weights that add up to 1, or are all 0 where nothing fits.

    Args:
        fit: (n,) logits of the phrase; ``-inf`` where a mask is none of its objects.
        predicted_iou: (n,).
    """
    logits = SHARPNESS * (fit.astype(np.float64) + OUTLINE * np.nan_to_num(predicted_iou).clip(0, 1))
    if not np.isfinite(logits).any():
        return np.zeros(len(fit))
    weights: Weights = np.exp(logits - logits.max())
    weights /= weights.sum()
    return weights
