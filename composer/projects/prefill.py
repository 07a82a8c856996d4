"""Confident masks for a person to accept or reject (paper §4, the semi-automatic stage)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from adapters.detect import Detect
from adapters.everything import Everything
from adapters.overlaps import highest_iou
from adapters.results import Instances
from adapters.rle import RLE, to_json
from composer.composer import Scene

SAME_OBJECT = 0.7
"""IoU of two masks above which they are one object."""
MIN_AREA = 100
"""The paper's: holes and islands of fewer pixels are cleaned up, smaller masks dropped."""
MOST = 200


def confident_masks(
    scene: Scene, present: Sequence[RLE], *, detect: bool = True, everything: bool = True
) -> list[tuple[str, Instances]]:
    """What a detector finds, then what automatic masks add to it.

    Args:
        scene: the photo.
        present: masks that are there already; nothing is proposed twice.
        detect: ask the preset's detector; :class:`sam.errors.UsageError` if it has none.
        everything: ask for automatic masks.

    Returns:
        Pairs of ``detect`` or ``everything`` and the new instances, best first, :data:`MOST` in all.
    """
    taken = list(present)
    answers: list[tuple[str, Instances]] = []
    if detect:
        answers.append(("detect", _answer(scene, Detect())))
    if everything:
        request = Everything(min_mask_region_area=MIN_AREA, min_mask_area=MIN_AREA)
        answers.append(("everything", _answer(scene, request)))
    kept = []
    room = MOST
    for kind, instances in answers:
        new = _new(instances, taken)[:room]
        taken += new.rles
        room -= len(new)
        kept.append((kind, new))
    return kept


def proposal_records(kind: str, instances: Instances) -> list[dict[str, Any]]:
    """The instances as masks of a :class:`composer.projects.document.Document`, without a uid."""
    records = []
    for instance in instances:
        point = [] if np.isnan(instance.point).any() else [instance.point.tolist()]
        records.append(
            {
                "segmentation": to_json(instance.rle),
                # A detector of one class has told nothing but that something is there.
                "label": None if instance.label in (None, "object") else instance.label,
                "source": kind,
                "predicted_iou": _number(instance.predicted_iou),
                "stability_score": _number(instance.stability),
                "point_coords": point,
                "point_labels": [1] * len(point),
            }
        )
    return records


def _answer(scene: Scene, request: Detect | Everything) -> Instances:
    answer = scene.run(request)
    assert isinstance(answer, Instances)
    return answer.replace(low_res_logits=None)


def _new(instances: Instances, taken: Sequence[RLE]) -> Instances:
    """Those that are neither among ``taken`` nor a worse version of one before them."""
    order = np.argsort(-instances.scores, kind="stable")
    rles = [instances.rles[i] for i in order]
    free = highest_iou(rles, taken) < SAME_OBJECT
    kept: list[int] = []
    for i in np.flatnonzero(free):
        if highest_iou([rles[i]], [rles[k] for k in kept])[0] < SAME_OBJECT:
            kept.append(int(i))
    return instances[order[kept]]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
