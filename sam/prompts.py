"""Prompts for the decoder: what to segment, as tensors in the pixel frame of the original image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sam.errors import BadPrompt


@dataclass(frozen=True)
class Prompts:
    """A batch of N prompts for one image (paper §3, "flexible prompt encoder").

    Coordinates are ``x, y`` pixels of the original image, before any resizing; (0, 0) is the centre of the
    top-left pixel, as in segment-anything.

    Attributes:
        points: (N, K, 2) float32, or None.
        labels: (N, K) int64, required with points: 1 foreground, 0 background, -1 padding (ignored).
        boxes: (N, 4) float32 ``x1, y1, x2, y2``, or None.
        mask_logits: (N, h, w) float32 low-resolution logits of an earlier decode, or None.
        text: (N, D) float32 unit-length CLIP vectors for weights trained with a text slot, or None.

    Raises:
        BadPrompt: no prompt at all, or shapes that do not agree.
    """

    points: Tensor | None = None
    labels: Tensor | None = None
    boxes: Tensor | None = None
    mask_logits: Tensor | None = None
    text: Tensor | None = None

    def __post_init__(self) -> None:
        given = [t for t in (self.points, self.boxes, self.mask_logits, self.text) if t is not None]
        if not given:
            raise BadPrompt("no prompt: give points, boxes, mask logits or a text vector", field="prompts")
        if (self.points is None) != (self.labels is None):
            raise BadPrompt("points and labels go together: one label for each point", field="labels")
        if self.points is not None and self.labels is not None:
            if self.points.ndim != 3 or self.points.shape[-1] != 2:
                raise BadPrompt(f"points must be (N, K, 2), not {tuple(self.points.shape)}", field="points")
            if self.labels.shape != self.points.shape[:2]:
                raise BadPrompt(
                    f"labels must be {tuple(self.points.shape[:2])} to go with the points, "
                    f"not {tuple(self.labels.shape)}",
                    field="labels",
                )
        if self.boxes is not None and (self.boxes.ndim != 2 or self.boxes.shape[-1] != 4):
            raise BadPrompt(f"boxes must be (N, 4), not {tuple(self.boxes.shape)}", field="boxes")
        if self.mask_logits is not None and self.mask_logits.ndim != 3:
            raise BadPrompt(
                f"mask logits must be (N, h, w), not {tuple(self.mask_logits.shape)}", field="mask_logits"
            )
        if self.text is not None and self.text.ndim != 2:
            raise BadPrompt(f"text vectors must be (N, D), not {tuple(self.text.shape)}", field="text")
        if len({len(t) for t in given}) != 1:
            raise BadPrompt(f"prompts of one call must agree on N, not {[len(t) for t in given]}")

    def __len__(self) -> int:
        for value in (self.points, self.boxes, self.mask_logits, self.text):
            if value is not None:
                return len(value)
        return 0

    def __getitem__(self, index: slice | Tensor) -> Prompts:
        """The prompts at ``index`` (a slice or an index tensor), for decoding in chunks."""
        return Prompts(**{k: None if v is None else v[index] for k, v in self._fields().items()})

    def to(self, device: torch.device) -> Prompts:
        """The same prompts on ``device``."""
        return Prompts(**{k: None if v is None else v.to(device) for k, v in self._fields().items()})

    def _fields(self) -> dict[str, Tensor | None]:
        return {
            "points": self.points,
            "labels": self.labels,
            "boxes": self.boxes,
            "mask_logits": self.mask_logits,
            "text": self.text,
        }
