"""Many single clicks in one window: decoded a batch at a time, and again where their logits were dropped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from adapters.base import Scene
from adapters.decoding import prompts_at_once, render
from adapters.rle import IntArray
from sam.model import Candidates
from sam.prompts import Prompts


@dataclass(frozen=True, eq=False)
class Clicks:
    """N clicks, three masks each.

    Attributes:
        window: where they are.
        points: (N, 2) float32, ``x, y`` pixels of the window.
        per_batch: clicks decoded at a time.
    """

    window: Scene
    points: Tensor
    per_batch: int

    @classmethod
    def of(cls, window: Scene, points: Tensor, most_per_batch: int) -> Clicks:
        """(N, 2) clicks of any float type, at most ``most_per_batch`` of them decoded at a time."""
        return cls(window, points.float(), prompts_at_once(window, most_per_batch))

    def decoded(self) -> Iterator[tuple[int, Candidates]]:
        """Every batch: the number of its first click, and the decoder's answer."""
        for start in range(0, len(self.points), self.per_batch):
            yield start, self._decode(self.points[start : start + self.per_batch])

    def logits(self, candidates: Candidates, index: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Low-resolution logits of chosen candidates, without most of the padding.

        Args:
            candidates: of one batch.
            index: (n, 2) int64 rows of (click of the batch, column).

        Yields:
            Rows of ``index`` and their (k, rows, columns) float32 logits.
        """
        return render(self.window, candidates, index, inside=cells_drawn(self.window))

    def again(self, index: IntArray) -> Iterator[tuple[IntArray, Tensor]]:
        """Decode again.

        Args:
            index: (n, 2) int64 rows of (click, column), the clicks ascending.

        Yields:
            Rows of ``index`` and their logits, as :meth:`logits` gives them.
        """
        clicks = np.unique(index[:, 0])
        for some in np.split(clicks, range(self.per_batch, len(clicks), self.per_batch)):
            rows = index[np.isin(index[:, 0], some)]
            if len(rows):
                candidates = self._decode(self.points[torch.from_numpy(some)])
                local = np.stack([np.searchsorted(some, rows[:, 0]), rows[:, 1]], 1)
                chosen = torch.from_numpy(local).to(candidates.iou_predictions.device)
                yield rows, torch.cat([logits for _, logits in self.logits(candidates, chosen)])

    def _decode(self, points: Tensor) -> Candidates:
        labels = torch.ones(len(points), 1, dtype=torch.int64)
        return self.window.decode(Prompts(points=points[:, None], labels=labels), multimask=True)


def cells_drawn(window: Scene) -> tuple[int, int]:
    """(rows, columns) of the embedding's cells to draw: those that see the image, and one more, since where
    logits are enlarged the border reads the cell beyond it."""
    rows, columns = window.embedding.features.shape[-2:]
    return min(rows, cells_seen(window, 0, rows) + 1), min(columns, cells_seen(window, 1, columns) + 1)


def cells_seen(window: Scene, axis: int, low: int) -> int:
    """Of ``low`` cells along an axis of the square, those that see the image and not its padding alone."""
    return -(-window.embedding.input_size[axis] * low // window.model.image_size)
