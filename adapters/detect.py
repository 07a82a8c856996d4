"""A detector's boxes to labelled instances: zero-shot instance segmentation (paper App. D.4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from adapters.base import Defaults, Request, Scene
from adapters.boxes import MAX_MARGIN, MAX_REFINE, cut_to_boxes
from adapters.checks import real_number, whole_number
from adapters.results import Instances
from adapters.windows import check_zoom, segment_boxes
from sam.errors import BadPrompt, UsageError

MAX_DETECTIONS = 10_000
MAX_CLASSES = 1000
MAX_NAME = 1000
SCORE = "detector_score"
MIN_SIDE = 1.0
"""Boxes thinner than this, in pixels, hold nothing that could be segmented."""


@dataclass(frozen=True, eq=False)
class Detect(Request):
    """Find objects with a detector, and segment each.

    Attributes:
        classes: names to look for. None: all that the detector knows. A detector with an open vocabulary
            (YOLO-World, YOLOE) takes any phrases.
        conf: least score of a detection, in [0, 1]. None: what the preset says for a detector of its own, and
            0.25 for others (docs/decisions/0021).
        iou: box IoU above which two detections of a class are one object.
        detector: an ultralytics weights file (``yolo11n.pt``, an exported ``.onnx``) or the name of a
            published one, a detector of our own (``.safetensors``), or a COCO results file (``.json``) of any
            other detector. None: the preset's own.
        trust: read the detector's file even if that runs code which it holds; ``.pt`` files are pickles.
        annotations: of a COCO results file, the COCO file that names its photos and categories. Without it,
            photos are found by the number in their file name, and categories are numbers.
        refine: rounds in which each mask's logits are fed back beside its box.
        limit: at most so many detections, the highest scores.
        margin: how far a mask may leave its box, see :class:`adapters.boxes.Boxes`; None: the preset's own.
        zoom: look at small boxes in windows of their own, see :class:`adapters.boxes.Boxes`; None: do not.

    Raises:
        BadPrompt: a value out of its range, naming the field.
    """

    kind: ClassVar[str] = "detect"
    classes: Sequence[str] | None = None
    conf: float | None = None
    iou: float = 0.7
    detector: str | None = None
    trust: bool = False
    annotations: str | None = None
    refine: int = 1
    limit: int = 300
    margin: float | None = None
    zoom: float | None = None

    def __post_init__(self) -> None:
        if self.classes is not None:
            object.__setattr__(self, "classes", _class_names(self.classes))
        if self.conf is not None:
            real_number(self.conf, "conf", 0, 1)
        real_number(self.iou, "iou", 0, 1)
        for name in ("detector", "annotations"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, str(value))
        if not isinstance(self.trust, bool):
            raise BadPrompt(f"trust must be true or false, not {self.trust!r}", field="trust")
        whole_number(self.refine, "refine", 0, MAX_REFINE)
        whole_number(self.limit, "limit", 1, MAX_DETECTIONS)
        if self.margin is not None:
            real_number(self.margin, "margin", 0, MAX_MARGIN)
        check_zoom(self.zoom)


class DetectAdapter:
    """Answers :class:`Detect`: an instance for each detection that has a mask, the highest score first."""

    request: type[Request] = Detect

    def __call__(self, scene: Scene, request: Detect) -> Instances:
        """Detect, then decode all boxes together.

        Raises:
            UsageError: no such detector, or a class that it does not know.
            CheckpointError: a file that is no detector.
        """
        if scene.companions is None:
            raise UsageError("this scene has no detector: open it with a Composer", field="detector")
        detector = scene.companions.detector(
            request.detector, trust=request.trust, annotations=request.annotations
        )
        found = detector.detect(
            scene,
            classes=request.classes,
            conf=_conf(scene, request),
            iou=request.iou,
            limit=request.limit,
        )
        height, width = scene.size
        boxes = np.clip(found.boxes, 0, np.array([width, height, width, height], np.float32))
        solid = np.flatnonzero((boxes[:, 2:] - boxes[:, :2] >= MIN_SIDE).all(1))
        solid = solid[np.argsort(-found.scores[solid], kind="stable")]
        if not len(solid):
            return Instances.empty(scene.size, SCORE)
        kept = found[solid]
        answer = segment_boxes(scene, boxes[solid], zoom=request.zoom, multimask=False, refine=request.refine)
        margin = scene.defaults.box_margin if request.margin is None else request.margin
        answer = cut_to_boxes(answer, boxes[solid], margin).replace(
            labels=kept.labels, scores=kept.scores, detector_score=kept.scores, score_kind=SCORE
        )
        return answer[answer.areas > 0]


def _conf(scene: Scene, request: Detect) -> float:
    if request.conf is not None:
        return request.conf
    return scene.defaults.detector_conf if request.detector is None else Defaults.detector_conf


def _class_names(classes: Sequence[str]) -> tuple[str, ...]:
    several = isinstance(classes, Iterable) and not isinstance(classes, str)
    if not several or not all(isinstance(name, str) for name in classes):
        raise BadPrompt(f'classes must be names such as ["person"], not {classes!r}', field="classes")
    names = tuple(dict.fromkeys(name.strip() for name in classes))
    if not 0 < len(names) <= MAX_CLASSES:
        raise BadPrompt(f"{len(names)} classes: give 1 to {MAX_CLASSES}, or None for all", field="classes")
    for name in names:
        if not 0 < len(name) <= MAX_NAME:
            raise BadPrompt(f"a class name has {len(name)} characters; give 1 to {MAX_NAME}", field="classes")
    return names
