"""All masks of a grid of clicks, none of them filtered: what `edges` and `proposals` choose from.

A grid of 64 x 64 clicks has 12,288 masks. What tells duplicates apart and ranks them (box, predicted IoU,
stability) is read off the low-resolution logits of each and kept; the logits themselves are kept only while
they fit into a budget, and decoded again for the chosen few where they do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from adapters.base import Scene
from adapters.clicks import Clicks, cells_drawn, cells_seen
from adapters.decoding import STABILITY_OFFSET
from adapters.results import FloatArray
from adapters.rle import IntArray
from adapters.selection import box_nms, stability_score
from sam.mask_decoder import NUM_MULTIMASK_OUTPUTS
from sam.model import MASK_THRESHOLD

HELD_LOGITS_BUDGET = 512 << 20
"""Most bytes of low-resolution logits held until it is known which are wanted."""


@dataclass(frozen=True, eq=False)
class GridMasks:
    """The n = 3 N masks of N clicks in one window, three for each click, in the order of the clicks.

    Attributes:
        clicks: where they are, and how to decode them again.
        boxes: (n, 4) float32, ``x1, y1, x2, y2`` pixels of the window, to a fraction of a cell of the logits;
            zeros for an empty mask.
        predicted_iou: (n,) float32.
        stability: (n,) float32 in [0, 1], counted in low-resolution cells.
        held: the float32 logits in batches, (n, rows, columns) without most of the padding, or None.
    """

    clicks: Clicks
    boxes: FloatArray
    predicted_iou: FloatArray
    stability: FloatArray
    held: tuple[Tensor, ...] | None

    def distinct(self, threshold: float) -> IntArray:
        """Numbers of the masks that are neither empty nor duplicates of one with a higher predicted IoU.

        Args:
            threshold: box IoU above which two masks are duplicates.
        """
        present = np.flatnonzero(self.boxes[:, 2] > self.boxes[:, 0])
        return present[box_nms(self.boxes[present], self.predicted_iou[present], threshold)]

    def logits_of(self, chosen: IntArray) -> Iterator[tuple[IntArray, Tensor]]:
        """Low-resolution logits of chosen masks, a batch at a time.

        Yields:
            (k,) ascending numbers of masks, and their (k, h, w) float32 logits.
        """
        wanted = np.sort(chosen)
        if self.held is not None:
            start = 0
            for batch in self.held:
                numbers = wanted[(wanted >= start) & (wanted < start + len(batch))]
                if len(numbers):
                    yield numbers, self._whole(batch[torch.from_numpy(numbers - start).to(batch.device)])
                start += len(batch)
            return
        pairs = np.stack([wanted // NUM_MULTIMASK_OUTPUTS, wanted % NUM_MULTIMASK_OUTPUTS], 1)
        for rows, logits in self.clicks.again(pairs):
            yield rows[:, 0] * NUM_MULTIMASK_OUTPUTS + rows[:, 1], self._whole(logits)

    def _whole(self, logits: Tensor) -> Tensor:
        """Logits of the cells that were drawn, with zeros for the others: (k, h, w) of the whole square."""
        height, width = (4 * side for side in self.clicks.window.embedding.features.shape[-2:])
        return F.pad(logits, (0, width - logits.shape[2], 0, height - logits.shape[1]))


def decode_grid(window: Scene, points: Tensor, points_per_batch: int) -> GridMasks:
    """Decode every click of a grid, three masks each.

    Args:
        window: an image, or a window of one.
        points: (N, 2) ``x, y`` pixels of the window, at least one.
        points_per_batch: most clicks decoded at a time.
    """
    clicks = Clicks.of(window, points, points_per_batch)
    height, width = (4 * side for side in window.embedding.features.shape[-2:])
    drawn = cells_drawn(window)
    hold = NUM_MULTIMASK_OUTPUTS * len(points) * 16 * drawn[0] * drawn[1] * 4 <= HELD_LOGITS_BUDGET
    held, boxes, iou, stability = [], [], [], []
    for _, candidates in clicks.decoded():
        every = torch.ones_like(candidates.iou_predictions, dtype=torch.bool).nonzero()
        logits = torch.cat([part for _, part in clicks.logits(candidates, every)])
        inside = logits[:, : cells_seen(window, 0, height), : cells_seen(window, 1, width)]
        boxes.append(_boxes(inside).cpu().numpy() * _pixels_per_cell(window, height, width))
        iou.append(candidates.iou_predictions.flatten().cpu().numpy())
        stability.append(stability_score(inside, MASK_THRESHOLD, STABILITY_OFFSET).cpu().numpy())
        if hold:
            held.append(logits)
    limit = np.array(window.size[::-1] * 2, np.float32)
    return GridMasks(
        clicks,
        np.minimum(np.concatenate(boxes), limit).astype(np.float32),
        np.concatenate(iou),
        np.concatenate(stability),
        tuple(held) if hold else None,
    )


def _pixels_per_cell(window: Scene, height: int, width: int) -> FloatArray:
    """(4,) pixels of the window that a cell stands for, for x, y, x, y."""
    square, resized = window.model.image_size, window.embedding.input_size
    x = square / width * window.size[1] / resized[1]
    y = square / height * window.size[0] / resized[0]
    return np.array([x, y, x, y], np.float32)


def _boxes(logits: Tensor) -> Tensor:
    """(n, h, w) logits -> (n, 4) boxes of the masks in cells, between which the logits are taken as straight.

    As fine as the full-size mask's box to a fraction of a cell, without drawing it. Zeros for an empty mask.
    """
    columns, rows = logits.amax(1), logits.amax(2)
    (x1, x2), (y1, y2) = _span(columns), _span(rows)
    present = (columns > MASK_THRESHOLD).any(1)
    return torch.stack([x1, y1, x2, y2], 1) * present[:, None]


def _span(profile: Tensor) -> tuple[Tensor, Tensor]:
    """Where (n, w) profiles first and last cross the threshold."""
    start = _first_crossing(profile)
    return start, profile.shape[1] - _first_crossing(profile.flip(1))


def _first_crossing(profile: Tensor) -> Tensor:
    first = (profile > MASK_THRESHOLD).to(torch.uint8).argmax(1, keepdim=True)
    here = profile.gather(1, first) - MASK_THRESHOLD
    before = profile.gather(1, (first - 1).clamp(min=0)) - MASK_THRESHOLD
    # Between the centres of two cells; a mask that begins in the first cell begins at the border.
    back = here / (here - before).clamp(min=1e-6)
    return torch.where(first > 0, first + 0.5 - back, torch.zeros_like(here))[:, 0].clamp(min=0)
