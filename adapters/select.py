"""Choosing among instances that another request found, and mask arithmetic on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from adapters import overlaps
from adapters import rle as run_length
from adapters.base import Request, Scene
from adapters.checks import earlier_instances, of_this_image, real_number, whole_number
from adapters.results import FloatArray, Instances
from adapters.rle import RLE, BoolArray
from sam.errors import BadPrompt

Score = Literal["score", "predicted_iou", "stability", "detector_score", "text_score"]
Operation = Literal["union", "subtract", "intersect"]
AreaUnit = Literal["pixels", "share"]
MAX_GAP = 1000
MAX_LABELS = 1000
ANY = float("inf")
_RELATIONS = ("min_overlap", "max_overlap", "min_inside", "max_inside", "touching", "operation")


@dataclass(frozen=True, eq=False)
class Select(Request):
    """Choose among instances, by what they are and by how they lie to others.

    Whatever is given applies, in the order of the fields here: labels, scores, areas, relations to ``other``,
    mask arithmetic, the largest, the best, the joining. For another order, select twice.

    Attributes:
        candidates: the instances to choose from.
        labels: only instances with one of these labels, letter by letter. None: any, or none at all.
        exclude: no instance with one of these labels.
        score: the score that ``min_score``, ``max_score`` and ``best`` look at: ``predicted_iou``,
            ``stability``, ``detector_score``, ``text_score``; ``score`` is the one that ranks the candidates.
        min_score, max_score: bounds of that score, themselves included. An instance without that score (NaN)
            is within no bounds.
        min_area, max_area: bounds of the mask's area, themselves included, in ``area_unit``.
        area_unit: ``pixels``, or ``share`` of the image's area in [0, 1].
        other: instances of the same image, for the fields from here to ``operation``.
        min_overlap, max_overlap: bounds of the IoU with the mask of ``other`` that is overlapped most.
        min_inside, max_inside: bounds of the share of the mask that lies in the union of ``other``.
        touching: only masks with at most so many pixels between them and the union of ``other``, diagonals
            counted like sides; 0: they overlap or are neighbours.
        operation: with the union of ``other``: ``union`` adds it to every mask, ``subtract`` takes it away,
            ``intersect`` keeps what both have. Boxes follow, scores stay those of the mask as it was found,
            and masks of which nothing is left are dropped.
        largest: only so many, the largest first.
        best: only so many of the highest score, in that order; instances without that score are none of them.
        merge: join what is left in one instance. Its score is the highest that ranks; its label, the one that
            all have, or None.

    Without ``largest`` and ``best`` the order stays as it was.

    Raises:
        BadPrompt: a value out of its range or of another type, bounds that leave nothing, a relation
            without ``other`` or ``other`` without one; the field is named.
    """

    kind: ClassVar[str] = "select"
    candidates: Instances
    labels: Sequence[str] | None = None
    exclude: Sequence[str] = ()
    score: Score = "score"
    min_score: float | None = None
    max_score: float | None = None
    min_area: float | None = None
    max_area: float | None = None
    area_unit: AreaUnit = "pixels"
    other: Instances | None = None
    min_overlap: float | None = None
    max_overlap: float | None = None
    min_inside: float | None = None
    max_inside: float | None = None
    touching: int | None = None
    operation: Operation | None = None
    largest: int | None = None
    best: int | None = None
    merge: bool = False

    def __post_init__(self) -> None:
        earlier_instances(self.candidates, "candidates")
        if self.labels is not None:
            object.__setattr__(self, "labels", _names(self.labels, "labels", least=1))
        object.__setattr__(self, "exclude", _names(self.exclude, "exclude", least=0))
        _one_of(self.score, "score", get_args(Score))
        _one_of(self.area_unit, "area_unit", get_args(AreaUnit))
        if self.operation is not None:
            _one_of(self.operation, "operation", get_args(Operation))
        self._check_bounds("score", -ANY, ANY)
        self._check_bounds("area", 0, 1 if self.area_unit == "share" else 1e12)
        self._check_bounds("overlap", 0, 1)
        self._check_bounds("inside", 0, 1)
        if self.touching is not None:
            whole_number(self.touching, "touching", 0, MAX_GAP)
        for field in ("largest", "best"):
            if getattr(self, field) is not None:
                whole_number(getattr(self, field), field, 1, 10**9)
        if not isinstance(self.merge, bool):
            raise BadPrompt(f"merge must be true or false, not {self.merge!r}", field="merge")
        self._check_other()

    def _check_bounds(self, what: str, low: float, high: float) -> None:
        least, most = getattr(self, f"min_{what}"), getattr(self, f"max_{what}")
        for field, value in ((f"min_{what}", least), (f"max_{what}", most)):
            if value is not None:
                real_number(value, field, low, high)
        if least is not None and most is not None and least > most:
            raise BadPrompt(
                f"min_{what} {least:g} exceeds max_{what} {most:g}: nothing could pass", field=f"min_{what}"
            )

    def _check_other(self) -> None:
        given = [name for name in _RELATIONS if getattr(self, name) is not None]
        if self.other is None:
            if given:
                raise BadPrompt(f"{given[0]} needs other: instances to compare with", field="other")
            return
        earlier_instances(self.other, "other")
        if not given:
            raise BadPrompt(f"other without any of {', '.join(_RELATIONS)} does nothing", field="other")


class SelectAdapter:
    """Answers :class:`Select` from the instances alone: nothing is decoded."""

    request: type[Request] = Select

    def __call__(self, scene: Scene, request: Select) -> Instances:
        """Choose.

        Raises:
            BadPrompt: instances of an image of another size.
        """
        for field, given in (("candidates", request.candidates), ("other", request.other)):
            if given is not None:
                of_this_image(given, scene.size, field)
        kept = _by_label(request, request.candidates)
        kept = _by_score(request, kept)
        kept = _by_area(request, kept)
        kept = _related(request, kept)
        kept = _combined(request, kept)
        if request.largest is not None:
            kept = kept[np.argsort(-kept.areas, kind="stable")[: request.largest]]
        if request.best is not None:
            scores = _scores(request, kept)
            ranked = np.argsort(-scores, kind="stable")  # NaN sorts last
            kept = kept[ranked[~np.isnan(scores[ranked])][: request.best]]
        return _merged(kept) if request.merge else kept


def _by_label(request: Select, found: Instances) -> Instances:
    wanted, unwanted = request.labels, set(request.exclude)
    return found[
        np.array(
            [(wanted is None or label in wanted) and label not in unwanted for label in found.labels],
            np.bool_,
        )
    ]


def _by_score(request: Select, found: Instances) -> Instances:
    if request.min_score is None and request.max_score is None:
        return found
    scores = _scores(request, found)
    return found[_within(scores, request.min_score, request.max_score) & ~np.isnan(scores)]


def _by_area(request: Select, found: Instances) -> Instances:
    if request.min_area is None and request.max_area is None:
        return found
    height, width = found.image_size
    unit = height * width if request.area_unit == "share" else 1
    return found[_within(found.areas / unit, request.min_area, request.max_area)]


def _related(request: Select, found: Instances) -> Instances:
    """Relations in the order of the fields: each looks only at what the one before has left."""
    if request.other is None:
        return found
    others = request.other.rles
    if request.min_overlap is not None or request.max_overlap is not None:
        overlap = overlaps.highest_iou(found.rles, others)
        found = found[_within(overlap, request.min_overlap, request.max_overlap)]
    if request.min_inside is not None or request.max_inside is not None:
        inside = overlaps.share_inside(found.rles, run_length.union(others, found.image_size))
        found = found[_within(inside, request.min_inside, request.max_inside)]
    if request.touching is not None:
        region = run_length.union(others, found.image_size)
        found = found[overlaps.touches(found.rles, region, request.touching)]
    return found


def _combined(request: Select, found: Instances) -> Instances:
    if request.operation is None or request.other is None:
        return found
    region = run_length.union(request.other.rles, found.image_size)
    if request.operation == "union":
        return _with_masks(found, [run_length.union([rle, region], found.image_size) for rle in found.rles])
    if request.operation == "subtract":
        region = run_length.complement(region)
    return _with_masks(found, [run_length.intersection(rle, region) for rle in found.rles])


def _with_masks(found: Instances, rles: Sequence[RLE]) -> Instances:
    """Other masks for the same instances; logits, which are of the masks as they were, go."""
    changed = found.replace(rles=tuple(rles), boxes=run_length.bounding_boxes(rles), low_res_logits=None)
    return changed[changed.areas > 0]


def _merged(found: Instances) -> Instances:
    if not len(found):
        return found
    first = found[[int(np.argmax(found.scores))]]
    labels = set(found.labels)
    joined = first.replace(labels=(labels.pop() if len(labels) == 1 else None,))
    return _with_masks(joined, [run_length.union(found.rles, found.image_size)])


def _scores(request: Select, found: Instances) -> FloatArray:
    column: FloatArray = getattr(found, "scores" if request.score == "score" else request.score)
    return column


def _within(values: Any, low: float | None, high: float | None) -> BoolArray:
    passed = np.ones(len(values), np.bool_)
    if low is not None:
        passed &= values >= low
    if high is not None:
        passed &= values <= high
    return passed


def _names(values: Any, field: str, least: int) -> tuple[str, ...]:
    fits = isinstance(values, Sequence) and not isinstance(values, str)
    if not fits or not all(isinstance(name, str) and name.strip() for name in values):
        raise BadPrompt(f'{field} must be names such as ["dog"], not {values!r}', field=field)
    if not least <= len(values) <= MAX_LABELS:
        raise BadPrompt(f"{len(values)} {field}: give {least} to {MAX_LABELS}", field=field)
    return tuple(dict.fromkeys(name.strip() for name in values))


def _one_of(value: Any, field: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise BadPrompt(f"{field} must be one of {', '.join(known)}, not {value!r}", field=field)
