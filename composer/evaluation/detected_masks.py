"""A detector's boxes as masks: the paper's zero-shot instance segmentation (App. D.4)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from adapters.boxes import Boxes, BoxesAdapter
from adapters.detect import Detect, DetectAdapter
from adapters.rle import to_json
from composer.evaluation.instance_truth import InstanceTruth, Result
from composer.evaluation.scoring import OpenScene
from sam.errors import BadAnnotation


def masks_of_boxes(
    open_scene: OpenScene,
    truth: InstanceTruth,
    detections: Sequence[Result],
    refine: int = 1,
    on_image: Callable[[str], None] | None = None,
) -> list[Result]:
    """Turn a detector's boxes into masks: the paper's zero-shot instance segmentation.

    Args:
        open_scene: opens a photo.
        truth: whose photos they are.
        detections: COCO results with boxes.
        refine: rounds in which a mask's logits are fed back beside its box.
        on_image: called with a photo's name before it is opened.

    Returns:
        The same results with masks; the score stays the detector's. Boxes outside of the photo are clipped,
        empty ones left out.

    Raises:
        BadAnnotation: annotations without masks, or a photo that is missing.
    """
    truth.check_masks()
    of_photo: dict[int, list[Result]] = defaultdict(list)
    for detection in detections:
        of_photo[detection["image_id"]].append(detection)
    photos = truth.photos_of(detections)
    truth.check_photos(photos)
    found: list[Result] = []
    for image_id in photos:
        path = truth.photo(image_id)
        if on_image:
            on_image(path.name)
        scene = open_scene(path)
        height, width = scene.size
        xywh = np.array([d["bbox"] for d in of_photo[image_id]], np.float64)
        xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)
        clipped = np.clip(xyxy, 0, [width, height, width, height])
        kept = np.flatnonzero((clipped[:, 2:] - clipped[:, :2] >= 1).all(1))
        if not len(kept):
            continue
        answer = BoxesAdapter()(scene, Boxes(clipped[kept], refine=refine))
        for row, rle in zip(kept, answer.rles, strict=True):
            found.append({**of_photo[image_id][row], "segmentation": to_json(rle)})
    return found


def masks_of_detector(
    open_scene: OpenScene,
    truth: InstanceTruth,
    request: Detect,
    on_image: Callable[[str], None] | None = None,
    *,
    class_agnostic: bool = False,
) -> list[Result]:
    """Run a detector and turn its boxes into masks.

    Args:
        open_scene: opens a photo.
        truth: whose photos they are; its categories are matched with the detector's classes by name.
        request: which detector, and how sure it has to be.
        on_image: called with a photo's name before it is opened.
        class_agnostic: give every result the first category, whatever the detector calls it.

    Returns:
        COCO results with masks; their boxes are the masks'. Classes that are no category are left out.

    Raises:
        BadAnnotation: annotations without masks, a category without a name, a photo that is missing, or none
            of what was found is of a category.
    """
    truth.check_masks()
    truth.check_photos(truth.image_ids)
    categories = {} if class_agnostic else truth.category_ids()
    any_category = min(truth.coco.cats) if class_agnostic else None
    found: list[Result] = []
    unknown: set[str] = set()
    for image_id in truth.image_ids:
        path = truth.photo(image_id)
        if on_image:
            on_image(path.name)
        for one in DetectAdapter()(open_scene(path), request):
            category = any_category if class_agnostic else categories.get(str(one.label))
            if category is None:
                unknown.add(str(one.label))
                continue
            result = {"image_id": image_id, "category_id": category, "score": one.score}
            found.append(result | {"segmentation": to_json(one.rle)})
    if unknown and not found:
        names = ", ".join(sorted(unknown)[:5])
        raise BadAnnotation(
            f"{truth.path}: has no category named {names}, as the detector's classes are; "
            "whatever the classes, it is evaluated with --class-agnostic"
        )
    return found
