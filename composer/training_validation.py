"""Held-out photos of a training run, and the figures of weights on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from adapters.base import Defaults, Scene
from composer.evaluation.ground_truth import GroundTruth
from composer.evaluation.scoring import evaluate_boxes, evaluate_points
from composer.images import open_image
from composer.limits import shipped_limits
from composer.training_photos import open_truth
from composer.training_sets import Validation
from sam.model import SegmentAnything
from sam.training.panoptic import read_panoptic_index

CLICKS = (1, 2, 3)


def held_out(folder: Path, validation: Validation) -> GroundTruth:
    """The labelled ones among the first photos of a source.

    Counted as ``skip`` counts them: in a panoptic folder, photos without a segment do not let later ones in,
    which are trained on.
    """
    count = validation.limit_images
    truth = open_truth(validation.format, folder, validation.images, validation.annotations)
    if validation.format not in ("panoptic", "shapes"):
        return truth.limited(count)
    first = {record.photo for record in read_panoptic_index(folder)[:count]}
    return replace(truth, images=tuple(image for image in truth.images if image.path in first))


class Validator:
    """Evaluates weights on the held-out photos of a run.

    Args:
        validation: what to evaluate on.
        truth: the photos; see :func:`held_out`.
    """

    def __init__(self, validation: Validation, truth: GroundTruth) -> None:
        self.validation = validation
        self.truth = truth

    def __call__(self, model: SegmentAnything) -> dict[str, float]:
        """Mean IoU in [0, 1]: ``miou@1`` … ``miou@3``, ``oracle@1``, ``box``, ``box_filled``."""
        scenes: dict[Path, Scene] = {}

        def open_scene(path: Path) -> Scene:
            if path not in scenes:
                pixels = open_image(path, limits=shipped_limits()).pixels
                scenes[path] = Scene(pixels, model, lambda image: model.encode([image])[0], Defaults())
            return scenes[path]

        which = self.validation.which
        points = evaluate_points(open_scene, self.truth, CLICKS, which)
        boxes = evaluate_boxes(open_scene, self.truth, which)
        found = {f"miou@{count}": value for count, value in points.miou.items()}
        assert boxes.box_filled is not None
        return {**found, "oracle@1": points.oracle[1], "box": boxes.miou[1], "box_filled": boxes.box_filled}
