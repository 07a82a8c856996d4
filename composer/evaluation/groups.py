"""Mean IoU by group: does a model serve all alike? (paper §6, App. E, "Responsible AI")

What group a photo or a segment belongs to comes from a CSV file. Confidence intervals are bootstrapped over
photos and not over segments, since segments of one photo fail together.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from composer.evaluation.ground_truth import GroundTruth
from composer.evaluation.missing import first_few
from composer.evaluation.scoring import Evaluation
from sam.errors import BadAnnotation, UsageError

RESAMPLES = 2000
CONFIDENCE = 0.95
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % confidence interval, in [0, 1]; None of one photo, which says nothing of more."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class GroupScores:
    """One group.

    Attributes:
        name: the column's value.
        masks, images: how many of them.
        miou: by the number of clicks.
    """

    name: str
    masks: int
    images: int
    miou: Mapping[int, Interval]


@dataclass(frozen=True)
class Groups:
    """Which group something belongs to.

    Attributes:
        column: of the file.
        of_photo: by file name.
        of_annotation: by COCO annotation id; goes before the photo's.
    """

    column: str
    of_photo: Mapping[str, str]
    of_annotation: Mapping[int, str]

    @classmethod
    def read(cls, path: Path, column: str) -> Groups:
        """Read a CSV file with a heading line, and ``file_name`` or ``annotation_id`` among its columns.

        Raises:
            UsageError: no such column; the ones that there are are listed.
            BadAnnotation: a file that cannot be read, without a key column, or with two groups for one key.
        """
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file)
                rows, names = list(reader), list(reader.fieldnames or [])
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise BadAnnotation(f"{path}: cannot be read as a CSV file ({error})") from error
        if column not in names:
            raise UsageError(f"{path}: has no column {column!r}, but {', '.join(names)}", field="group_by")
        keys = [key for key in ("annotation_id", "file_name") if key in names]
        if not keys:
            raise BadAnnotation(f"{path}: needs a column file_name or annotation_id beside {column!r}")
        groups = {_key(path, number, row, keys[0]): "" for number, row in enumerate(rows, 2)}
        for number, row in enumerate(rows, 2):
            key, group = _key(path, number, row, keys[0]), (row[column] or "").strip()
            if groups[key] not in ("", group):
                raise BadAnnotation(f"{path}: line {number}: a second {column!r} for {key!r}")
            groups[key] = group
        named = {key: group for key, group in groups.items() if group}
        return cls(
            column,
            {key: group for key, group in named.items() if isinstance(key, str)},
            {key: group for key, group in named.items() if isinstance(key, int)},
        )

    def of(self, photo: str, annotation_id: int | None) -> str | None:
        """The group of a segment, or None."""
        if annotation_id is not None and annotation_id in self.of_annotation:
            return self.of_annotation[annotation_id]
        return self.of_photo.get(photo)

    def check(self, truth: GroundTruth) -> None:
        """Before an evaluation: whether anything in the set can belong to a group.

        Raises:
            BadAnnotation: no photo and no annotation of the set does, with examples of both sides.
        """
        for image in truth:
            if image.name in self.of_photo or any(n in self.of_annotation for n in image.annotation_ids):
                return
        ours = [*map(str, self.of_annotation), *self.of_photo]
        key = "annotation_id" if self.of_annotation else "file_name"
        theirs = (
            [i.name for i in truth] if self.of_photo else [str(n) for i in truth for n in i.annotation_ids]
        )
        raise BadAnnotation(
            f"{truth.source}: nothing in it has a value of {self.column!r}: the metadata have the {key} "
            f"{first_few(ours) or '(none)'}, the set {first_few(theirs) or '(none)'}"
        )


def group_scores(evaluation: Evaluation, groups: Groups, seed: int = 0) -> list[GroupScores]:
    """Mean IoU of each group's segments, groups in the order of their names.

    Raises:
        BadAnnotation: no segment of the evaluation is in a group.
    """
    rows: dict[str, list[Floats]] = defaultdict(list)
    for image in evaluation.images:
        ids = image.annotation_ids or (None,) * len(image.areas)
        of_image: dict[str, list[int]] = defaultdict(list)
        for row, annotation_id in enumerate(ids):
            group = groups.of(image.name, annotation_id)
            if group is not None:
                of_image[group].append(row)
        for group, members in of_image.items():
            rows[group].append(image.top[members])
    if not rows:
        raise BadAnnotation(f"no evaluated segment has a value of {groups.column!r}: do the keys match?")
    rng = np.random.default_rng(seed)
    return [_scores(name, rows[name], evaluation.clicks, rng) for name in sorted(rows)]


def _scores(
    name: str, photos: list[Floats], clicks: tuple[int, ...], rng: np.random.Generator
) -> GroupScores:
    sums = np.stack([photo.sum(0) for photo in photos])
    counts = np.array([len(photo) for photo in photos], np.float64)
    mean = (sums.sum(0) / counts.sum()).tolist()
    low: list[float | None] = [None] * len(clicks)
    high = low
    if len(photos) > 1:
        drawn = rng.integers(0, len(photos), (RESAMPLES, len(photos)))
        means = sums[drawn].sum(1) / counts[drawn].sum(1)[:, None]
        low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0).tolist()
    miou = {count: Interval(mean[i], low[i], high[i]) for i, count in enumerate(clicks)}
    return GroupScores(name, int(counts.sum()), len(photos), miou)


def _key(path: Path, number: int, row: Mapping[str, str | None], column: str) -> str | int:
    value = row[column] or ""
    if column == "file_name":
        return value
    try:
        return int(value)
    except ValueError as error:
        raise BadAnnotation(
            f"{path}: line {number}: annotation_id must be a whole number, not {value!r}"
        ) from error
