"""A look of its own at each small box: a window of the photo in which it is large.

The encoder shrinks a photo to its own size, and a box that is a tenth as wide as the photo is then a few
cells wide. In a window around it, encoded apart, it has many. That costs an encoder pass for each window;
boxes close to one another share one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from adapters.base import Scene
from adapters.decoding import Masks, segment
from adapters.results import FloatArray, Instances
from sam.errors import BadPrompt
from sam.prompts import Prompts

LEAST_ZOOM, MOST_ZOOM = 1.25, 16.0
WORTH = 1.25
"""A window that enlarges its box by less is not worth an encoder pass."""
ROOM = 0.25
"""Around a box that shares another's window, at least this share of its longer side at each side, where the
photo goes on."""
SHRUNK = 1.6
"""A box shares the window of another if it is at most so many times smaller."""


class Window(NamedTuple):
    """Part of a photo.

    Attributes:
        box: ``x1, y1, x2, y2`` whole pixels, x2 and y2 exclusive.
        members: rows of the boxes that are looked at in it.
    """

    box: tuple[int, int, int, int]
    members: list[int]


def check_zoom(value: Any) -> None:
    """Raises :class:`BadPrompt` unless it is None, 0, or from 1.25 to 16."""
    if value is None:
        return
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not (value == 0 or LEAST_ZOOM <= value <= MOST_ZOOM):
        raise BadPrompt(
            f"zoom must be 0 (no windows), or from {LEAST_ZOOM:g} to {MOST_ZOOM:g}, not {value!r}",
            field="zoom",
            allowed={"min": LEAST_ZOOM, "max": MOST_ZOOM, "or": 0},
        )


def windows_of(boxes: FloatArray, size: tuple[int, int], zoom: float) -> list[Window]:
    """Windows for the boxes that one would enlarge; the others are members of none.

    Args:
        boxes: (N, 4) ``x1, y1, x2, y2`` pixels inside the image.
        size: (H, W) of the image.
        zoom: a window is so many times as wide as its box's longer side.

    Returns:
        Windows, that of the largest box first. No box is a member of two.
    """
    sides = (boxes[:, 2:] - boxes[:, :2]).max(1)
    limit = np.array([size[1], size[0]], np.float32)
    # What a window must hold of a box that shares it.
    wanted = np.concatenate(
        [
            np.maximum(boxes[:, :2] - ROOM * sides[:, None], 0),
            np.minimum(boxes[:, 2:] + ROOM * sides[:, None], limit),
        ],
        1,
    )
    left = np.flatnonzero(zoom * sides * WORTH < max(size))
    left = left[np.argsort(-sides[left], kind="stable")]
    found = []
    while len(left):
        first = left[0]
        window = _around(boxes[first], float(sides[first]) * zoom, size)
        held = (wanted[left, :2] >= window[:2]).all(1) & (wanted[left, 2:] <= window[2:]).all(1)
        shares = held & (sides[left] * SHRUNK >= sides[first])
        shares[0] = True
        found.append(Window(window, left[shares].tolist()))
        left = left[~shares]
    return found


def segment_boxes(
    scene: Scene,
    boxes: FloatArray,
    *,
    zoom: float | None,
    multimask: bool,
    masks: Masks = "best",
    refine: int = 0,
) -> Instances:
    """As :func:`adapters.decoding.segment` answers boxes; with ``zoom``, small ones in windows of their own.

    Args:
        scene: the photo.
        boxes: (N, 4) ``x1, y1, x2, y2`` pixels inside it.
        zoom: see :func:`windows_of`; None or 0: all boxes are answered from the photo as a whole.
        multimask, masks, refine: see :func:`adapters.decoding.segment`.

    Returns:
        Instances at the photo's size in the order of the boxes. None of them has low-resolution logits if one
        was answered in a window: they would be of different frames.
    """
    windows = windows_of(boxes, scene.size, zoom) if zoom else []
    apart = {row for window in windows for row in window.members}
    whole = [row for row in range(len(boxes)) if row not in apart]
    parts = []
    if whole:
        prompts = Prompts(boxes=torch.from_numpy(boxes[whole]))
        answer = segment(scene, prompts, multimask=multimask, masks=masks, refine=refine)
        if not windows:
            return answer
        parts.append(_renumbered(answer, whole))
    scenes = scene.crops([window.box for window in windows])
    for seen, (box, members) in zip(scenes, windows, strict=True):
        inside = boxes[members] - np.array([*box[:2], *box[:2]], np.float32)
        prompts = Prompts(boxes=torch.from_numpy(inside))
        answer = segment(
            seen,
            prompts,
            multimask=multimask,
            masks=masks,
            refine=refine,
            origin=(box[0], box[1]),
            canvas=scene.size,
        )
        seen_box = np.tile(np.asarray(box, np.float32), (len(answer), 1))
        parts.append(_renumbered(answer, members).replace(crop_boxes=seen_box))
    every = Instances.concatenate(parts)
    return every[np.argsort(every.prompt_index, kind="stable")]


def _renumbered(answer: Instances, rows: Sequence[int]) -> Instances:
    return answer.replace(prompt_index=np.asarray(rows, np.int64)[answer.prompt_index], low_res_logits=None)


def _around(box: FloatArray, side: float, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A square of ``side`` about the middle of ``box``, moved into the image, and cut where it is larger."""
    spans = []
    for first, last, length in zip(box[:2].tolist(), box[2:].tolist(), size[::-1], strict=True):
        width = min(length, int(np.ceil(side)))
        start = int(np.clip(round((first + last - width) / 2), 0, length - width))
        # Whole pixels may leave out a part of the box's border.
        spans.append((min(start, int(first)), max(start + width, int(np.ceil(last)))))
    (x1, x2), (y1, y2) = spans
    return x1, y1, x2, y2
