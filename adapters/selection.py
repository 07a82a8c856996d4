"""Which masks to keep: stability, box suppression, crop edges, coverage (App. B, "Automatic mask
generation").

Boxes are ``x1, y1, x2, y2`` in pixels, x2 and y2 one past the last pixel, as everywhere in this project.
segment-anything's own boxes end ON the last pixel, and so do its suppression and its edge test; both are done
here in its frame, since at the size of small masks the one pixel decides which of two duplicates stays.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.ops import nms

from adapters.results import FloatArray
from adapters.rle import BoolArray, IntArray

CROP_EDGE_TOLERANCE = 20.0
"""A mask this near to a crop's edge, in pixels, was probably cut by it."""


def stability_score(logits: Tensor, threshold: float = 0.0, offset: float = 1.0) -> Tensor:
    """IoU of a mask with itself, thresholded ``offset`` higher and lower (paper §4, App. B).

    Args:
        logits: (n, H, W) float.
        threshold, offset: logits.

    Returns:
        (n,) float32 in [0, 1]; 0 where even the lower threshold leaves nothing.
    """
    higher = (logits > threshold + abs(offset)).flatten(1).sum(1)
    lower = (logits > threshold - abs(offset)).flatten(1).sum(1)
    return higher.float() / lower.clamp(min=1).float()


def mask_boxes(masks: BoolArray) -> FloatArray:
    """(n, H, W) bool -> (n, 4) float32 tight boxes; zeros for an empty mask."""
    boxes = np.zeros((len(masks), 4), np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(rows):
            box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes


def box_nms(boxes: FloatArray, scores: npt.NDArray[np.floating], threshold: float) -> IntArray:
    """Greedy suppression: a box goes if its IoU with a better one that stayed exceeds ``threshold``.

    Args:
        boxes: (n, 4) float32.
        scores: (n,), higher is better; ties keep their order.
        threshold: IoU in [0, 1].

    Returns:
        (k,) int64 indices of the boxes that stay, best first.
    """
    if not len(boxes):
        return np.zeros(0, np.int64)
    kept = nms(torch.from_numpy(_last_pixel(boxes)), torch.as_tensor(scores, dtype=torch.float32), threshold)
    indices: IntArray = kept.numpy()
    return indices


def touches_inner_edge(
    boxes: FloatArray,
    crop_box: tuple[int, int, int, int],
    image_size: tuple[int, int],
    tolerance: float = CROP_EDGE_TOLERANCE,
) -> BoolArray:
    """Which boxes come within ``tolerance`` px of a crop's edge that is not also the image's edge.

    Args:
        boxes: (n, 4) float32 in the image's frame.
        crop_box: ``x1, y1, x2, y2`` of the crop.
        image_size: (H, W) of the image.
    """
    height, width = image_size
    edges = _last_pixel(boxes)
    near_crop = np.abs(edges - np.array(crop_box, np.float32)) <= tolerance
    near_image = np.abs(edges - np.array([0, 0, width, height], np.float32)) <= tolerance
    return np.asarray((near_crop & ~near_image).any(axis=1))


def covers_image(areas: IntArray, image_size: tuple[int, int], fraction: float) -> BoolArray:
    """Which masks cover ``fraction`` of the image or more: "generally uninteresting" (App. B)."""
    return np.asarray(areas >= fraction * image_size[0] * image_size[1])


def _last_pixel(boxes: FloatArray) -> FloatArray:
    shifted = boxes.astype(np.float32)
    shifted[:, 2:] = np.maximum(shifted[:, 2:] - 1, shifted[:, :2])
    return shifted
