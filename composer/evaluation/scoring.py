"""Run a protocol over a set: photo by photo, every mask counting once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adapters.base import Scene
from adapters.rle import RLE, areas
from composer.evaluation.boxes import AnswerBoxes, score_boxes
from composer.evaluation.clicks import Clicker
from composer.evaluation.ground_truth import GroundTruth, LabelledImage, Segment, choose_segments
from composer.evaluation.missing import photos_present
from composer.evaluation.points import DEEPEST, DEFAULT_CLICKS, AnswerPoints, IoUs, score_points
from sam.errors import BadAnnotation, UsageError

OpenScene = Callable[[Path], Scene]
MAX_CLICKS = 100


@dataclass(frozen=True)
class MaskFilter:
    """Which masks of a photo are evaluated.

    Attributes:
        min_area: pixels; smaller ones are left out.
        max_per_image: the largest so many of a photo; None: all.
    """

    min_area: int = 0
    max_per_image: int | None = None


@dataclass(frozen=True)
class ImageScores:
    """IoU in [0, 1] of the n masks of one photo, largest mask first.

    Attributes:
        name: file name of the photo.
        areas: (n,) pixels of the ground truth.
        top, oracle: (n, number of click counts), see :mod:`composer.evaluation.points` and ``boxes``.
        filled: (n,) of the filled box; None for clicks.
        annotation_ids: (n,) of a COCO file, else None each; empty: not known.
    """

    name: str
    areas: tuple[int, ...]
    top: IoUs
    oracle: IoUs
    filled: IoUs | None = None
    annotation_ids: tuple[int | None, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """The outcome over a set.

    Attributes:
        prompt: ``points`` or ``boxes``.
        clicks: the counts reported; (1,) for boxes, which are one prompt.
        images: of photos with at least one mask.
    """

    prompt: str
    clicks: tuple[int, ...]
    images: tuple[ImageScores, ...]

    @property
    def masks(self) -> int:
        """How many masks were evaluated."""
        return sum(len(image.areas) for image in self.images)

    @property
    def miou(self) -> dict[int, float]:
        """Mean IoU over all masks of what a user gets, by the number of clicks."""
        return self._means([image.top for image in self.images])

    @property
    def oracle(self) -> dict[int, float]:
        """Mean IoU over all masks with the best choice at the first prompt, by the number of clicks."""
        return self._means([image.oracle for image in self.images])

    @property
    def box_filled(self) -> float | None:
        """Mean IoU of the filled boxes; None for clicks."""
        filled = [image.filled for image in self.images if image.filled is not None]
        return float(np.concatenate(filled).mean()) if filled else None

    def to_json(self) -> dict[str, Any]:
        """``{"miou": {"1": x, ...}, "oracle": {...}, "masks": n, "images": n, ...}`` with a row per photo."""
        report: dict[str, Any] = {
            "prompt": self.prompt,
            "miou": _keyed(self.miou),
            "oracle": _keyed(self.oracle),
            "masks": self.masks,
            "images": len(self.images),
        }
        if self.box_filled is not None:
            report["box_filled"] = round(self.box_filled, 6)
        report["per_image"] = [self._row(image) for image in self.images]
        return report

    def _row(self, image: ImageScores) -> dict[str, Any]:
        row: dict[str, Any] = {
            "file_name": image.name,
            "masks": len(image.areas),
            "miou": _keyed(self._means([image.top])),
            "oracle": _keyed(self._means([image.oracle])),
        }
        if image.filled is not None:
            row["box_filled"] = round(float(image.filled.mean()), 6)
        return row

    def _means(self, parts: Sequence[IoUs]) -> dict[int, float]:
        means = np.concatenate(parts).mean(0)
        return {count: float(mean) for count, mean in zip(self.clicks, means, strict=True)}


def evaluate_points(
    open_scene: OpenScene,
    truth: GroundTruth,
    clicks: Sequence[int] = DEFAULT_CLICKS,
    which: MaskFilter = MaskFilter(),
    on_image: Callable[[str], None] | None = None,
    answer: AnswerPoints | None = None,
    clicker: Clicker = DEEPEST,
) -> Evaluation:
    """Mean IoU after simulated clicks (App. D.1).

    Args:
        open_scene: opens a photo.
        truth: labelled photos.
        clicks: counts to report, from 1 to 100.
        which: masks to evaluate.
        on_image: called with a photo's name before it is opened.
        answer: answers a request; default: the ``points`` adapter.
        clicker: who clicks; default: the paper's careful person.

    Raises:
        UsageError: click counts out of range.
        BadAnnotation: a set that contradicts itself, or without a mask to evaluate.
        BadImage: a photo that cannot be read.
    """
    counts = tuple(sorted(set(clicks)))
    if not counts or counts[0] < 1 or counts[-1] > MAX_CLICKS:
        raise UsageError(f"click counts must be from 1 to {MAX_CLICKS}, not {list(clicks)}", field="clicks")
    rows = []
    for image, scene, segments in labelled_scenes(open_scene, truth, which, on_image):
        masks = [segment.rle for segment in segments]
        scores = score_points(scene, masks, counts, answer, clicker)
        ids = tuple(segment.annotation_id for segment in segments)
        rows.append(ImageScores(image.name, _areas(masks), scores.top, scores.oracle, annotation_ids=ids))
    return _checked(Evaluation("points", counts, tuple(rows)), truth, which)


def evaluate_boxes(
    open_scene: OpenScene,
    truth: GroundTruth,
    which: MaskFilter = MaskFilter(),
    on_image: Callable[[str], None] | None = None,
    answer: AnswerBoxes | None = None,
) -> Evaluation:
    """Mean IoU of the answers to each mask's own box; arguments and errors as :func:`evaluate_points`."""
    rows = []
    for image, scene, segments in labelled_scenes(open_scene, truth, which, on_image):
        masks = [segment.rle for segment in segments]
        scores = score_boxes(scene, masks, answer)
        top, oracle = scores.top[:, None], scores.oracle[:, None]
        ids = tuple(segment.annotation_id for segment in segments)
        rows.append(ImageScores(image.name, _areas(masks), top, oracle, scores.filled, ids))
    return _checked(Evaluation("boxes", (1,), tuple(rows)), truth, which)


def labelled_scenes(
    open_scene: OpenScene,
    truth: GroundTruth,
    which: MaskFilter,
    on_image: Callable[[str], None] | None,
    crowds: bool = False,
) -> Iterator[tuple[LabelledImage, Scene, list[Segment]]]:
    """Every photo that has segments to evaluate, opened, with those segments, largest first.

    Crowds come last, where they are wanted.
    """
    photos_present((image.path for image in truth), truth.source)
    for image in truth:
        if on_image:
            on_image(image.name)
        scene = open_scene(image.path)
        segments = image.read_segments(scene.size)
        counted = [segment for segment in segments if not segment.crowd]
        chosen = choose_segments(counted, which.min_area, which.max_per_image)
        if chosen:
            yield image, scene, chosen + [s for s in segments if s.crowd and crowds]


def _checked(evaluation: Evaluation, truth: GroundTruth, which: MaskFilter) -> Evaluation:
    if not evaluation.images:
        least = f" of at least {which.min_area} pixels" if which.min_area else ""
        raise BadAnnotation(f"{truth.source}: no mask{least} in {len(truth)} photos, nothing to evaluate")
    return evaluation


def _areas(masks: list[RLE]) -> tuple[int, ...]:
    return tuple(int(area) for area in areas(masks))


def _keyed(means: Mapping[int, float]) -> dict[str, float]:
    return {str(count): round(mean, 6) for count, mean in means.items()}
