"""Canvases of one size, stacked for the device where they are composed, so that the loop only copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sam.training.canvas import Sample, UInt8
from sam.training.deepest import deepest_point


class Batch(NamedTuple):
    """B canvases of side S with K targets each.

    Attributes:
        pixels: (B, S, S, 3) uint8.
        ids: (B, S / 4, S / 4) uint8: the canvases' ids at the middle of each cell of 4 x 4 pixels.
        targets: (B, K, S / 4, S / 4) uint8.
        deepest: (B, K, 2) int16 x, y: of each target the cell farthest from its border.
        texts: (B, K, d) float32 unit vectors, NaN for a target without one; None where no set has any.
    """

    pixels: Tensor
    ids: Tensor
    targets: Tensor
    deepest: Tensor
    texts: Tensor | None

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Batch:
        """Stack ``samples``, at least one."""
        texts = [s.texts for s in samples if s.texts is not None]
        return cls(
            torch.from_numpy(np.stack([s.pixels for s in samples])),
            torch.from_numpy(np.stack([s.ids[2::4, 2::4] for s in samples])),
            torch.from_numpy(np.stack([s.targets for s in samples])),
            torch.tensor([[_deepest(target) for target in s.targets] for s in samples], dtype=torch.int16),
            torch.from_numpy(np.stack(texts)) if len(texts) == len(samples) else None,
        )

    def to(self, device: torch.device) -> Batch:
        """On ``device``; the host does not wait where the memory is pinned."""
        pixels, ids, targets, deepest = (part.to(device, non_blocking=True) for part in self[:4])
        texts = None if self.texts is None else self.texts.to(device, non_blocking=True)
        return Batch(pixels, ids, targets, deepest, texts)


def _deepest(target: UInt8) -> tuple[int, int]:
    """Here, where workers have the time: a GPU would need hundreds of small steps."""
    found = deepest_point(target > 0)
    assert found is not None, "no target is empty"
    return found[:2]


def in_parts(samples: Sequence[Sample], parts: int) -> list[Batch]:
    """One batch for each of ``parts`` runs of samples that follow each other."""
    size = len(samples) // parts
    return [Batch.of(samples[part * size : (part + 1) * size]) for part in range(parts)]
