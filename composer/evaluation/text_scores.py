"""Answers to phrases against what is labelled: overlap, segments found, false alarms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pycocotools import mask as coco_mask

from adapters.rle import RLE, areas
from composer.evaluation.ground_truth import Segment

if TYPE_CHECKING:
    from adapters.results import Instances

MATCH_IOU = 0.5


@dataclass(frozen=True)
class Asked:
    """One phrase about one photo, answered by one way.

    Attributes:
        phrase: asked for.
        present: whether anything is labelled so.
        iou: of all that was answered with all that is labelled so; of an absent phrase 0.
        matched, segments: labelled segments that a mask of the answer meets at IoU .5, and all of them.
        answered: whether there was an answer at all.
    """

    phrase: str
    present: bool
    iou: float
    matched: int
    segments: int
    answered: bool


@dataclass(frozen=True)
class TextScores:
    """The three figures over a set of questions; None where no question counts for one."""

    present_miou: float | None
    instance_recall: float | None
    false_alarm_rate: float | None

    @classmethod
    def of(cls, asked: Sequence[Asked]) -> TextScores:
        """Over all questions, each counting once, and each segment once."""
        present = [one for one in asked if one.present]
        absent = [one for one in asked if not one.present]
        segments = sum(one.segments for one in present)
        return cls(
            float(np.mean([one.iou for one in present])) if present else None,
            sum(one.matched for one in present) / segments if segments else None,
            float(np.mean([one.answered for one in absent])) if absent else None,
        )

    @property
    def balance(self) -> float:
        """What a threshold trades: harmonic mean of mean IoU and the share of absent phrases left alone."""
        found, quiet = self.present_miou or 0.0, 1 - (self.false_alarm_rate or 0.0)
        return 2 * found * quiet / (found + quiet) if found + quiet else 0.0

    def to_json(self) -> dict[str, float | None]:
        """The figures by name."""
        return {name: None if value is None else round(value, 6) for name, value in self.__dict__.items()}


def score_answer(phrase: str, found: Instances, segments: Sequence[Segment]) -> Asked:
    """One answer against the segments that the phrase names; what lies in a crowd counts neither way."""
    counted = [s.rle for s in segments if not s.crowd]
    crowd = [s.rle for s in segments if s.crowd]
    if not counted:
        return Asked(phrase, False, 0.0, 0, 0, len(found) > 0)
    overlap = _overlap_of_unions(list(found.rles), counted, crowd)
    return Asked(phrase, True, overlap, _matched(list(found.rles), counted), len(counted), len(found) > 0)


def _overlap_of_unions(found: list[RLE], wanted: list[RLE], crowd: list[RLE]) -> float:
    if not found:
        return 0.0
    mine, truth = coco_mask.merge(found), coco_mask.merge(wanted)
    shared, either = coco_mask.merge([mine, truth], intersect=True), coco_mask.merge([mine, truth])
    beyond = 0
    if crowd:  # of the answer alone: labelled pixels that a crowd also covers stay
        inside = coco_mask.merge([mine, coco_mask.merge(crowd)], intersect=True)
        in_truth = coco_mask.merge([inside, truth], intersect=True)
        beyond = int(areas([inside])[0] - areas([in_truth])[0])
    return float(areas([shared])[0] / max(1, areas([either])[0] - beyond))


def _matched(found: list[RLE], wanted: list[RLE]) -> int:
    """How many of the wanted have a mask of their own at :data:`MATCH_IOU`, the best pairs first."""
    if not found:
        return 0
    ious = np.asarray(coco_mask.iou(found, wanted, [0] * len(wanted)))
    count = 0
    while ious.max() >= MATCH_IOU:
        mine, theirs = np.unravel_index(int(ious.argmax()), ious.shape)
        ious[mine], ious[:, theirs] = -1, -1
        count += 1
    return count
