"""Masks that compete for a place in the answer: only those that win are drawn.

The paper's order is stability, then suppression of duplicates by their boxes. A box takes a fraction of the
work of a mask, though, and of thousands of masks a few hundred stay: here boxes come first, and the stability
of a mask is looked at only when no better one has suppressed it. If it fails, it is out, and what it had
suppressed is looked at again. What stays at the end is the same: whoever is suppressed by a mask that stays
would be suppressed whatever the stability of either.

Low-resolution logits are held until the winners are known, up to a budget. When it is used up, those that win
so far are drawn and all logits are dropped; one that was beaten by a mask that later goes itself is decoded
again, which is rare.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from adapters.drawing import DrawnMask, MaskDrawer
from adapters.results import FloatArray
from adapters.rle import BoolArray, IntArray
from adapters.selection import box_nms

HELD_LOGITS_BUDGET = 256 << 20
"""Most bytes of low-resolution logits held until it is known which are wanted."""
BOXES_AT_ONCE = 96
"""So many masks wait before their boxes are found: each step has its price, however few there are."""
DRAWN_AT_ONCE = 256

Redraw = Callable[[IntArray], Iterator[tuple[IntArray, Tensor]]]
"""(k, 2) rows of (prompt, column), by prompt -> in the same order, rows of it and their (m, h, w) logits."""
Wanted = Callable[[FloatArray], BoolArray]
"""(n, 4) boxes in the frame of the whole image -> (n,) which of them may stay at all."""


class Winners(NamedTuple):
    """The n masks that stay, the highest predicted IoU first.

    Attributes:
        rows: (n, 2) int64 (prompt, column).
        predicted_iou: (n,) float32.
        drawn: n masks, none of them empty.
    """

    rows: IntArray
    predicted_iou: FloatArray
    drawn: list[DrawnMask]


class Contest:
    """Collects the masks of one window and keeps what is stable and no duplicate of a better one.

    Args:
        drawer: of the window.
        redraw: decodes chosen masks again.
        wanted: which boxes may stay, whatever else there is.
        nms_thresh: box IoU above which two masks are duplicates: the higher predicted IoU stays.
        min_stability: masks below it go.
        offset: of the stability score, logits.
    """

    def __init__(
        self,
        drawer: MaskDrawer,
        redraw: Redraw,
        wanted: Wanted,
        *,
        nms_thresh: float,
        min_stability: float = 0.0,
        offset: float = 1.0,
    ) -> None:
        self._drawer = drawer
        self._redraw = redraw
        self._wanted = wanted
        self._nms_thresh = nms_thresh
        self._min_stability = min_stability
        self._offset = offset
        self._index = np.zeros((0, 2), np.int64)
        self._iou = np.zeros(0, np.float32)
        self._boxes = np.zeros((0, 4), np.float32)
        self._out: set[int] = set()
        self._logits: dict[int, Tensor] = {}
        self._drawn: dict[int, DrawnMask] = {}
        self._waiting: list[tuple[Tensor, Tensor, Tensor]] = []
        self._held_bytes = 0

    def add(self, index: Tensor, predicted_iou: Tensor, logits: Tensor) -> None:
        """Let n more masks compete.

        Args:
            index: (n, 2) int64 rows of (prompt, column).
            predicted_iou: (n,) float32.
            logits: (n, h, w) float32; held as it is.
        """
        self._waiting.append((index, predicted_iou, logits))
        if sum(len(batch) for _, _, batch in self._waiting) >= BOXES_AT_ONCE:
            self._enter()
        if self._held_bytes > HELD_LOGITS_BUDGET:
            self._settle()
            self._logits.clear()
            self._held_bytes = 0

    def winners(self) -> Winners:
        """The masks that stay; nothing may be added afterwards."""
        self._enter()
        kept = self._settle()
        return Winners(self._index[kept], self._iou[kept], [self._drawn[number] for number in kept.tolist()])

    def _enter(self) -> None:
        """Find the boxes of what waits, and leave out what is empty or not wanted."""
        if not self._waiting:
            return
        index, iou, logits = (torch.cat(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting.clear()
        boxes = self._drawer.boxes(logits).astype(np.float32)
        chosen = np.flatnonzero((boxes[:, 2] > 0) & self._wanted(boxes))
        held = logits if len(chosen) == len(logits) else logits[torch.from_numpy(chosen).to(logits.device)]
        start = len(self._iou)
        self._logits.update(enumerate(held, start))
        self._held_bytes += held.nbytes
        self._index = np.concatenate([self._index, index.cpu().numpy()[chosen]])
        self._iou = np.concatenate([self._iou, iou.float().cpu().numpy()[chosen]])
        self._boxes = np.concatenate([self._boxes, boxes[chosen]])

    def _settle(self) -> IntArray:
        """Numbers of the masks that stay among those that have come so far, all of them drawn."""
        while True:
            alive = np.setdiff1d(np.arange(len(self._iou)), np.array(sorted(self._out), np.int64))
            kept = alive[box_nms(self._boxes[alive], self._iou[alive], self._nms_thresh)]
            new = np.array([number for number in kept.tolist() if number not in self._drawn], np.int64)
            if not len(new):
                return kept
            self._draw(new)

    def _draw(self, numbers: IntArray) -> None:
        """Draw masks, and put those that are not stable out of the contest."""
        for some, logits in self._logits_of(np.sort(numbers)):
            drawn = self._drawer.draw(logits, offset=self._offset, min_stability=self._min_stability)
            for number, mask in zip(some.tolist(), drawn, strict=True):
                if mask.rle is not None and mask.area:
                    self._drawn[number] = mask
                else:
                    self._out.add(number)

    def _logits_of(self, numbers: IntArray) -> Iterator[tuple[IntArray, Tensor]]:
        held = np.array([number in self._logits for number in numbers.tolist()], np.bool_)
        for some in _split(numbers[held], DRAWN_AT_ONCE):
            yield some, torch.stack([self._logits[number] for number in some.tolist()])
        dropped = numbers[~held]
        start = 0
        for rows, logits in self._redraw(self._index[dropped]) if len(dropped) else ():
            yield dropped[start : start + len(rows)], logits
            start += len(rows)


def _split(numbers: IntArray, size: int) -> list[IntArray]:
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]
