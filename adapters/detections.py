"""What detectors give, and what gives it: boxes with names and scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from adapters.results import FloatArray
from adapters.rle import IntArray

if TYPE_CHECKING:
    from adapters.base import Scene


@dataclass(frozen=True, eq=False)
class Detections:
    """n boxes that a detector found in one image.

    Attributes:
        boxes: (n, 4) float32 ``x1, y1, x2, y2`` pixels of the image, as the detector says.
        scores: (n,) float32 in [0, 1].
        labels: n class names.

    Raises:
        ValueError: columns of different lengths.
    """

    boxes: FloatArray
    scores: FloatArray
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        boxes = np.asarray(self.boxes, np.float32).reshape(-1, 4)
        scores = np.asarray(self.scores, np.float32).reshape(-1)
        if not len(boxes) == len(scores) == len(self.labels):
            raise ValueError(f"{len(boxes)} boxes, {len(scores)} scores, {len(self.labels)} labels")
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "scores", scores)

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, chosen: IntArray) -> Detections:
        """Those of ``chosen`` numbers, in that order."""
        return Detections(self.boxes[chosen], self.scores[chosen], tuple(self.labels[i] for i in chosen))


class Detector(Protocol):
    """Finds boxes. Safe to share between threads.

    Attributes:
        names: the classes that it knows.
        open_vocabulary: it takes any phrase as a class.
    """

    names: tuple[str, ...]
    open_vocabulary: bool

    def detect(
        self, scene: Scene, *, classes: Sequence[str] | None, conf: float, iou: float, limit: int
    ) -> Detections:
        """Boxes in an image, the highest score first.

        Args:
            scene: the image.
            classes: names to look for; None: all that the detector knows.
            conf: least score.
            iou: box IoU above which two boxes of a class are one object.
            limit: most boxes.

        Raises:
            UsageError: a class that the detector does not know.
        """
