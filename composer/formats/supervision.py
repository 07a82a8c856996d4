"""To the ``supervision`` library: one ``Detections`` for all that was found in an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from adapters.results import Instances
from composer.formats.base import Outcome

if TYPE_CHECKING:
    import supervision


def to_detections(outcome: Outcome) -> supervision.Detections:
    """The instances of every answer, in order.

    Args:
        outcome: what was found.

    Returns:
        ``Detections`` with masks (one byte a pixel a mask), scores, class ids, ``data["class_name"]``, and
        ``data["answer"]``: (n,) int64, which request each instance answers.
    """
    instances = outcome.instances
    detections = instances.to_supervision()
    counts = [len(a.result) if isinstance(a.result, Instances) else 0 for a in outcome.answers]
    detections.data["answer"] = np.repeat(np.arange(len(counts)), counts)
    return detections
