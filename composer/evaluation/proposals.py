"""Object proposals: average recall at so many masks a photo (paper App. D.3), as COCOeval counts it.

Class-agnostic. A photo's proposals are matched one-to-one with its objects, the highest score first, at each
IoU threshold from .5 to .95; average recall is the share of objects found, averaged over the thresholds.
Crowds, and objects outside of the size looked at, can be matched but count neither way. The same numbers as
pycocotools' COCOeval gives with ``useCats = 0``, and recall by how frequent a category is, as LVIS says it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from adapters.base import Scene
from adapters.proposals import Proposals, ProposalsAdapter
from adapters.results import Instances
from adapters.rle import RLE
from composer.evaluation.ground_truth import GroundTruth, LabelledImage, Segment
from composer.evaluation.missing import photos_present
from composer.evaluation.scoring import OpenScene
from sam.errors import BadAnnotation

COUNTS = (10, 100, 1000)
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
SIZES: Mapping[str, tuple[float, float]] = {
    "all": (0, 1e10),
    "small": (0, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, 1e10),
}
"""Areas in pixels, both ends included, as COCO has them."""
FREQUENCIES = {"f": "frequent", "c": "common", "r": "rare"}
THE_PAPERS = Proposals()
NEVER = np.iinfo(np.int64).max
Ranks = npt.NDArray[np.int64]
Propose = Callable[[Scene], Instances]


@dataclass(frozen=True)
class ImageRecall:
    """One photo.

    Attributes:
        name: file name.
        ranks: for each size, (10, objects of that size) the number of the proposal that found the object at
            each IoU threshold, from 0; ``NEVER`` where none did.
        frequency: of each object's category, for ``ranks["all"]``; None where the annotations do not say.
        proposals: how many there were.
    """

    name: str
    ranks: Mapping[str, Ranks]
    frequency: tuple[str | None, ...]
    proposals: int


@dataclass(frozen=True)
class ProposalEvaluation:
    """The outcome over a set.

    Attributes:
        images: every photo, also those without objects.
        counts: numbers of proposals that recall is reported for.
    """

    images: tuple[ImageRecall, ...]
    counts: tuple[int, ...] = COUNTS

    @property
    def objects(self) -> int:
        """How many objects were to be found."""
        return sum(image.ranks["all"].shape[1] for image in self.images)

    def average_recall(self, count: int, size: str = "all") -> float | None:
        """Average recall with the best ``count`` proposals of a photo; None without objects of that size."""
        return _recall(np.concatenate([image.ranks[size] for image in self.images], 1), count)

    def recall_by_frequency(self, count: int) -> dict[str, float]:
        """Average recall of objects of frequent, common and rare categories, where annotations say so."""
        every = np.concatenate([image.ranks["all"] for image in self.images], 1)
        frequency = np.array([f or "" for image in self.images for f in image.frequency])
        found = {name: _recall(every[:, frequency == key], count) for key, name in FREQUENCIES.items()}
        return {name: recall for name, recall in found.items() if recall is not None}

    def to_json(self) -> dict[str, Any]:
        """``{"ar@10", "ar@100", "ar@1000", "ar@1000_small", …, "images", "objects"}``; None: none such."""
        last = self.counts[-1]
        report: dict[str, Any] = {f"ar@{n}": _rounded(self.average_recall(n)) for n in self.counts}
        for size in list(SIZES)[1:]:
            report[f"ar@{last}_{size}"] = _rounded(self.average_recall(last, size))
        for name, recall in self.recall_by_frequency(last).items():
            report[f"ar@{last}_{name}"] = _rounded(recall)
        report |= {
            "images": len(self.images),
            "objects": self.objects,
            "proposals_per_image": round(float(np.mean([i.proposals for i in self.images])), 2),
        }
        return report


def evaluate_proposals(
    open_scene: OpenScene,
    truth: GroundTruth,
    request: Proposals = THE_PAPERS,
    on_image: Callable[[str], None] | None = None,
    propose: Propose | None = None,
    counts: Sequence[int] | None = None,
) -> ProposalEvaluation:
    """Average recall over a set of photos.

    Args:
        open_scene: opens a photo.
        truth: labelled photos.
        request: what to ask for.
        on_image: called with a photo's name before it is opened.
        propose: gives a scene's proposals, by default the ``proposals`` adapter's answer to ``request``.
        counts: numbers of proposals to report recall for, ascending; default: what ``request.limit`` allows.

    Raises:
        BadAnnotation: a set that contradicts itself, or without an object.
        BadImage: a photo that cannot be read.
    """
    counts = counts_within(request.limit) if counts is None else counts
    answer = propose or (lambda scene: ProposalsAdapter()(scene, request))
    rows = []
    for image, scene, segments in _scenes(open_scene, truth, on_image):
        found = answer(scene)
        order = np.argsort(-found.scores, kind="stable")[: counts[-1]]
        rows.append(score_proposals(image.name, [found.rles[i] for i in order], segments))
    evaluation = ProposalEvaluation(tuple(rows), tuple(counts))
    if not evaluation.objects:
        raise BadAnnotation(f"{truth.source}: no object in {len(truth)} photos, nothing to evaluate")
    return evaluation


def counts_within(limit: int) -> tuple[int, ...]:
    """Those of COCO's numbers of proposals that ``limit`` allows, and ``limit`` itself."""
    return (*(count for count in COUNTS if count < limit), limit)


def score_proposals(name: str, proposals: Sequence[RLE], segments: Sequence[Segment]) -> ImageRecall:
    """One photo: its proposals, best first, and its objects, crowds among them."""
    crowd = np.array([segment.crowd for segment in segments], bool)
    area = np.array([segment.area for segment in segments], float)
    ious = np.zeros((len(proposals), len(segments)))
    if ious.size:
        ious = np.asarray(coco_mask.iou(list(proposals), [s.rle for s in segments], crowd.astype(np.uint8)))
    ranks = {}
    for size, (low, high) in SIZES.items():
        ignored = crowd | (area < low) | (area > high)
        ranks[size] = _match(ious, crowd, ignored)[:, ~ignored]
    frequency = tuple(segment.frequency for segment in segments if not segment.crowd)
    return ImageRecall(name, ranks, frequency, len(proposals))


def _match(
    ious: npt.NDArray[np.float64], crowd: npt.NDArray[np.bool_], ignored: npt.NDArray[np.bool_]
) -> Ranks:
    """(thresholds, objects) number of the proposal that takes each object; ``NEVER`` where none does.

    A proposal takes the object that it overlaps most among those that are free, an ignored one only where no
    other will do. Of equal overlaps the last object wins, as in COCOeval.
    """
    taken = np.full((len(IOU_THRESHOLDS), ious.shape[1]), NEVER)
    if not ious.size:
        return taken
    rows = np.arange(len(IOU_THRESHOLDS))
    last = ious.shape[1] - 1
    for rank in np.flatnonzero(ious.max(1) >= IOU_THRESHOLDS[0]):
        overlap = ious[rank]
        possible = (overlap >= IOU_THRESHOLDS[:, None]) & ((taken == NEVER) | crowd)
        counted = possible & ~ignored
        choice = np.where(counted.any(1, keepdims=True), counted, possible)
        best = last - np.where(choice, overlap, -1.0)[:, ::-1].argmax(1)
        hit = choice.any(1)
        taken[rows[hit], best[hit]] = rank
    return taken


def _scenes(
    open_scene: OpenScene, truth: GroundTruth, on_image: Callable[[str], None] | None
) -> Iterator[tuple[LabelledImage, Scene, list[Segment]]]:
    photos_present((image.path for image in truth), truth.source)
    for image in truth:
        if on_image:
            on_image(image.name)
        scene = open_scene(image.path)
        yield image, scene, image.read_segments(scene.size)


def _recall(ranks: Ranks, count: int) -> float | None:
    return float((ranks < count).mean()) if ranks.shape[1] else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
