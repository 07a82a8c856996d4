"""Instances in the records of other tools: COCO, SA-1B, supervision."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from adapters.rle import to_json

if TYPE_CHECKING:
    import supervision

    from adapters.results import FloatArray, Instances

UNLABELLED = "object"
"""Class name that exports give an instance without a label."""


def coco_records(instances: Instances, image_id: int) -> list[dict[str, Any]]:
    """One COCO record for each instance, which pycocotools reads as annotations and as results."""
    class_ids = _class_ids(instances)
    return [
        {
            "id": i + 1,
            "image_id": image_id,
            "category_id": class_ids[i] + 1,
            "bbox": _xywh(instance.box),
            "area": int(area),
            "segmentation": to_json(instance.rle),
            "iscrowd": 0,
            "score": instance.score,
        }
        for i, (instance, area) in enumerate(zip(instances, instances.areas, strict=True))
    ]


def sa1b_record(instances: Instances, file_name: str, image_id: int) -> dict[str, Any]:
    """The content of one SA-1B file. A score that was not computed becomes None."""
    height, width = instances.image_size
    annotations = [
        {
            "id": i + 1,
            "segmentation": to_json(instance.rle),
            "bbox": _xywh(instance.box),
            "area": int(area),
            "predicted_iou": _number(instance.predicted_iou),
            "stability_score": _number(instance.stability),
            "crop_box": _xywh(instance.crop_box),
            "point_coords": [] if np.isnan(instance.point).any() else [instance.point.tolist()],
        }
        for i, (instance, area) in enumerate(zip(instances, instances.areas, strict=True))
    ]
    image = {"image_id": image_id, "width": width, "height": height, "file_name": file_name}
    return {"image": image, "annotations": annotations}


def detections(instances: Instances) -> supervision.Detections:
    """``supervision.Detections``; ``class_id`` counts from 0 in the order of ``instances.class_names``."""
    import supervision

    return supervision.Detections(
        xyxy=instances.boxes.copy(),
        mask=instances.masks,
        confidence=instances.scores.copy(),
        class_id=np.array(_class_ids(instances), dtype=int),
        data={"class_name": np.array([label or UNLABELLED for label in instances.labels], dtype=np.str_)},
    )


def _class_ids(instances: Instances) -> list[int]:
    number = {name: i for i, name in enumerate(instances.class_names)}
    return [number[label or UNLABELLED] for label in instances.labels]


def _xywh(box: FloatArray) -> list[float]:
    x1, y1, x2, y2 = box.tolist()
    return [x1, y1, x2 - x1, y2 - y1]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
