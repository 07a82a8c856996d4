"""What the models see of one image: worked out when first asked for, kept while it is asked about."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from torch import Tensor

from adapters.detect import Detect, DetectAdapter
from adapters.proposals import Proposals, ProposalsAdapter
from adapters.results import Instances
from adapters.rle import IntArray
from adapters.text_routes.agreement import Overlaps, overlaps
from adapters.text_routes.naming import Seen, look_at
from sam.errors import UsageError

if TYPE_CHECKING:
    from adapters.base import Scene
    from adapters.clip import TextImageModel
    from adapters.detections import Detector

T = TypeVar("T")
POINTS_PER_SIDE = 16
MOST_CANDIDATES = 128
"""On photos of COCO half as many lose an eighth of the overlap with the labelled segments."""
BOX_NMS = 0.8
MIN_SIDE_SHARE = 0.02
"""Masks whose box's longer side is less than this share of the image's are left to the detector."""
MOST_BOXES = 100
DETECTOR_CONF = 0.05
"""Least score of boxes that the text-image model names."""


@dataclass(frozen=True)
class DetectorChoice:
    """Which detector a request names; see :class:`adapters.detect.Detect`."""

    name: str | None = None
    trust: bool = False
    annotations: str | None = None


class Sight:
    """One image as the segmenter, the text-image model and a detector see it.

    Args:
        scene: the image.
        model: the text-image model.
        candidates: masks to choose from; None: automatic ones.
        detector: where boxes come from.
    """

    def __init__(
        self,
        scene: Scene,
        model: TextImageModel,
        candidates: Instances | None = None,
        detector: DetectorChoice = DetectorChoice(),
    ) -> None:
        self.scene = scene
        self.model = model
        self._given = candidates
        self._kept: dict[tuple[Hashable, ...], tuple[object, Any]] = {}
        self._choice = detector

    @cached_property
    def candidates(self) -> Instances:
        """The masks to choose from."""
        return with_route(propose(self.scene) if self._given is None else self._given, "rank")

    @cached_property
    def proposed(self) -> Seen:
        """The candidates, looked at."""
        return look_at(self.scene.image, self.candidates, self.model)

    @cached_property
    def boxed(self) -> Seen:
        """The masks of all boxes of the detector, looked at. Their labels are the detector's."""
        return look_at(self.scene.image, self.detect(None, DETECTOR_CONF), self.model)

    def overlaps(self, instances: Instances) -> Overlaps:
        """How masks lie to each other; worked out once for the same ones, whatever they are asked for."""
        ids = tuple(map(id, instances.rles))
        return self.once(("overlaps", *ids), instances, lambda: overlaps(instances.rles))

    def once(self, key: tuple[Hashable, ...], owner: object, make: Callable[[], T]) -> T:
        """What ``make`` gives, the first time; afterwards the same again.

        Args:
            key: what it is, with the ids of what it is made of.
            owner: which is kept too, so that the ids stay its own.
            make: works it out.
        """
        if key not in self._kept:
            self._kept[key] = owner, make()
        found: T = self._kept[key][1]
        return found

    @cached_property
    def places(self) -> Tensor:
        """(h, w, d) float32 unit vectors of the places of the image."""
        return self.model.encode_dense(self.scene.image)

    @cached_property
    def detector(self) -> Detector:
        """The detector; raises UsageError where there is none."""
        if self.scene.companions is None:
            raise UsageError(
                "this scene has no detector: open it with a Composer",
                code="detector_missing",
                field="detector",
            )
        chosen = self._choice
        return self.scene.companions.detector(chosen.name, trust=chosen.trust, annotations=chosen.annotations)

    @property
    def has_detector(self) -> bool:
        """Whether a detector was named, or the preset has one of its own."""
        if self._choice.name is not None:
            return True
        try:
            return self.detector is not None
        except UsageError as error:
            if error.code == "detector_missing":
                return False
            raise

    def detect(self, classes: Sequence[str] | None, conf: float) -> Instances:
        """Masks of the detector's boxes, with its labels; raises UsageError where there is none."""
        chosen = self._choice
        request = Detect(
            classes,
            conf,
            detector=chosen.name,
            trust=chosen.trust,
            annotations=chosen.annotations,
            limit=MOST_BOXES,
        )
        return with_route(DetectAdapter()(self.scene, request), "detect")


def propose(scene: Scene) -> Instances:
    """Masks that may be asked for by name: the best of a coarse grid of clicks, whatever their scores.

    `everything` keeps what is certain to be something; here the words decide, and what is missing cannot be
    named. Fewer clicks than there, since each mask is looked at by another model.
    """
    request = Proposals(limit=MOST_CANDIDATES, points_per_side=POINTS_PER_SIDE, box_nms_thresh=BOX_NMS)
    found = ProposalsAdapter()(scene, request)
    sides = (found.boxes[:, 2:] - found.boxes[:, :2]).max(1, initial=0)
    large: IntArray = np.flatnonzero(sides >= MIN_SIDE_SHARE * max(scene.size))
    return found[large]


def with_route(instances: Instances, route: str) -> Instances:
    """The same instances, all found by ``route``, ranked by what will be a text score."""
    return instances.replace(routes=(route,) * len(instances), score_kind="text_score", low_res_logits=None)
