"""Object proposals: as many different masks as there may be objects (paper App. D.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from adapters.base import Request, Scene
from adapters.checks import real_number, whole_number
from adapters.crops import point_grid
from adapters.decoding import collect, drawer_of
from adapters.everything import MAX_POINTS_PER_SIDE
from adapters.grid_masks import decode_grid
from adapters.results import Instances
from sam.mask_decoder import NUM_MULTIMASK_OUTPUTS
from sam.model import MASK_THRESHOLD

MAX_PROPOSALS = 10_000
SCORE = "proposal_score"


@dataclass(frozen=True, eq=False)
class Proposals(Request):
    """Object proposals, with the paper's settings as defaults.

    Attributes:
        limit: at most so many, the best by the mean of predicted IoU and stability.
        points_per_side: a grid of this many clicks a side, three masks each, none of them filtered.
        points_per_batch: most clicks decoded at a time: memory and speed, not the result.
        box_nms_thresh: box IoU above which masks are duplicates: the higher predicted IoU stays.

    Raises:
        BadPrompt: a value out of its range, naming the field.
    """

    kind: ClassVar[str] = "proposals"
    limit: int = 1000
    points_per_side: int = 64
    points_per_batch: int = 64
    box_nms_thresh: float = 0.9

    def __post_init__(self) -> None:
        whole_number(self.limit, "limit", 1, MAX_PROPOSALS)
        whole_number(self.points_per_side, "points_per_side", 1, MAX_POINTS_PER_SIDE)
        whole_number(self.points_per_batch, "points_per_batch", 1, 4096)
        real_number(self.box_nms_thresh, "box_nms_thresh", 0, 1)


class ProposalsAdapter:
    """Answers :class:`Proposals`, the highest score first.

    Which masks are duplicates and which are the best is decided on low-resolution masks, since drawing all
    12,288 would take longer than decoding them; the masks, boxes and scores of the answer are exact.
    """

    request: type[Request] = Proposals

    def __call__(self, scene: Scene, request: Proposals) -> Instances:
        """Propose objects in ``scene``."""
        points = torch.from_numpy(point_grid(request.points_per_side) * np.array(scene.size[::-1]))
        masks = decode_grid(scene, points, request.points_per_batch)
        scores = (masks.predicted_iou + masks.stability) / 2
        distinct = masks.distinct(request.box_nms_thresh)
        best = distinct[np.argsort(-scores[distinct], kind="stable")[: request.limit]]
        drawer = drawer_of(scene)
        parts = [Instances.empty(scene.size)]
        for numbers, logits in masks.logits_of(best):
            drawn = drawer.draw(logits, threshold=MASK_THRESHOLD)
            found = collect(
                scene.size,
                drawn,
                torch.from_numpy(masks.predicted_iou[numbers]),
                ambiguity=torch.from_numpy(numbers % NUM_MULTIMASK_OUTPUTS),
                points=masks.clicks.points[torch.from_numpy(numbers // NUM_MULTIMASK_OUTPUTS)],
            )
            parts.append(found[found.areas > 0])
        every = Instances.concatenate(parts)
        exact = (every.predicted_iou + every.stability) / 2
        ranked = every.replace(scores=exact, score_kind=SCORE)
        return ranked[np.argsort(-exact, kind="stable")]
