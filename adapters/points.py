"""Clicks to masks (paper §3, "Resolving ambiguity"; App. D.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from adapters.base import Request, Scene
from adapters.checks import number_array, prompt_count, which_masks
from adapters.decoding import Masks, segment
from adapters.results import FloatArray, Instances
from adapters.rle import IntArray
from sam.errors import BadPrompt
from sam.prompts import Prompts

BACKGROUND, FOREGROUND = 0, 1


@dataclass(frozen=True, eq=False)
class Points(Request):
    """Segment what is clicked on.

    Attributes:
        points: (K, 2) ``x, y`` pixels of the image: K clicks on one object; or (N, K, 2): N objects, each
            with K clicks. Held as (N, K, 2) float32.
        labels: 1 for a click on the object, 0 for one on the background, in the shape of ``points`` without
            its last axis; default: all 1. Held as (N, K) int64.
        masks: ``best`` gives each object's top-ranked mask: a single click is ambiguous, so its three masks
            are ranked by predicted IoU; several clicks are answered by the single-mask token. ``all`` gives
            the three.
        mask_logits: (N, h, w) low-resolution logits of an earlier answer, to refine it; h = w = a quarter of
            the model's input side.

    Raises:
        BadPrompt: no point or too many, another shape, a value that is not finite, labels that do not fit.
    """

    kind: ClassVar[str] = "points"
    points: npt.ArrayLike
    labels: npt.ArrayLike | None = None
    masks: Masks = "best"
    mask_logits: Tensor | npt.ArrayLike | None = None

    def __post_init__(self) -> None:
        points = number_array(self.points, "points", "[[x, y], ...]")
        prompt_count(points.size // 2, "points")
        if points.ndim not in (2, 3) or points.shape[-1] != 2:
            raise BadPrompt(f"points must be (K, 2) or (N, K, 2), not {points.shape}", field="points")
        object.__setattr__(self, "labels", _checked_labels(self.labels, points.shape[:-1]))
        object.__setattr__(self, "points", points if points.ndim == 3 else points[None])
        which_masks(self.masks)

    def arrays(self) -> tuple[FloatArray, IntArray]:
        """(N, K, 2) points and (N, K) labels."""
        return np.asarray(self.points, np.float32), np.asarray(self.labels, np.int64)


def _checked_labels(labels: npt.ArrayLike | None, shape: tuple[int, ...]) -> IntArray:
    many = shape if len(shape) == 2 else (1, *shape)
    if labels is None:
        return np.full(many, FOREGROUND, np.int64)
    values = number_array(labels, "labels", "1 for the object or 0 for the background")
    if values.shape != shape:
        raise BadPrompt(
            f"labels of shape {values.shape} for points of shape {(*shape, 2)}: give one for each point",
            field="labels",
        )
    wrong = ~np.isin(values, (BACKGROUND, FOREGROUND))
    if wrong.any():
        raise BadPrompt(
            f"label {values[wrong][0]:g}: give 1 for the object or 0 for the background", field="labels"
        )
    return values.astype(np.int64).reshape(many)


class PointsAdapter:
    """Answers :class:`Points` with one instance for each object, or three for ``masks="all"``."""

    request: type[Request] = Points

    def __call__(self, scene: Scene, request: Points) -> Instances:
        """Decode the clicks.

        Raises:
            BadPrompt: a point outside the image, or mask logits of another shape.
        """
        prompts, multimask = prompts_of(scene, request)
        return segment(scene, prompts, multimask=multimask, masks=request.masks)


def prompts_of(scene: Scene, request: Points) -> tuple[Prompts, bool]:
    """The clicks as prompts, and whether the three masks of an ambiguous prompt are asked for.

    Raises:
        BadPrompt: a point outside the image, or mask logits of another shape.
    """
    points, labels = request.arrays()
    _check_inside(points, scene.size)
    mask_logits = _checked_logits(request.mask_logits, len(points), scene)
    ambiguous = points.shape[1] == 1 and mask_logits is None
    prompts = Prompts(
        points=torch.from_numpy(points), labels=torch.from_numpy(labels), mask_logits=mask_logits
    )
    return prompts, ambiguous or request.masks == "all"


def _check_inside(points: FloatArray, size: tuple[int, int]) -> None:
    height, width = size
    flat = points.reshape(-1, 2)
    outside = ((flat < 0) | (flat >= np.array([width, height], np.float32))).any(1)
    if outside.any():
        number = int(np.flatnonzero(outside)[0])
        x, y = flat[number].tolist()
        raise BadPrompt(
            f"point {number} (x={x:g}, y={y:g}) is outside the image, {width} px wide and {height} px high",
            code="point_outside",
            field="points",
            allowed={"x": [0, width - 1], "y": [0, height - 1]},
        )


def _checked_logits(value: Any, count: int, scene: Scene) -> Tensor | None:
    if value is None:
        return None
    logits = (
        value.float()
        if isinstance(value, Tensor)
        else torch.from_numpy(number_array(value, "mask_logits", ""))
    )
    height, width = scene.embedding.features.shape[-2:]
    expected = (count, 4 * height, 4 * width)
    if tuple(logits.shape) != expected:
        raise BadPrompt(
            f"mask_logits must be {expected}, as an earlier answer gave them, not {tuple(logits.shape)}",
            field="mask_logits",
        )
    if not bool(torch.isfinite(logits).all()):
        raise BadPrompt("mask_logits must be finite", field="mask_logits")
    return logits
