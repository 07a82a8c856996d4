"""Where a person clicks: farthest from the boundary, as the careful do (paper App. D.1), or anywhere."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from sam.training.deepest import deepest_point

Mask = npt.NDArray[np.bool_]


class Click(NamedTuple):
    """A click on a pixel: ``x, y``, and ``label`` 1 for the object or 0 for the background."""

    x: int
    y: int
    label: int


class Clicker(Protocol):
    """How a simulated person clicks."""

    def first(self, truth: Mask) -> Click:
        """The first click on a segment (H, W). Raises ValueError for an empty one."""
        ...

    def next(self, predicted: Mask, truth: Mask, count: int) -> Click | None:
        """The correction of a mask after ``count`` clicks; None where the masks are equal."""
        ...


class DeepestClicks:
    """The paper's protocol: the point farthest from the boundary of the segment, then of the larger error."""

    def first(self, truth: Mask) -> Click:
        """See :func:`first_click`."""
        return first_click(truth)

    def next(self, predicted: Mask, truth: Mask, count: int) -> Click | None:
        """See :func:`next_click`."""
        return next_click(predicted, truth)


@dataclass(frozen=True)
class RandomClicks:
    """A careless person: anywhere on the segment, then anywhere where the mask is wrong.

    Attributes:
        seed: the same seed and segment give the same clicks, whatever else is evaluated.
    """

    seed: int = 0

    def first(self, truth: Mask) -> Click:
        """Uniform in the segment."""
        click = self._anywhere(truth, truth, 0)
        if click is None:
            raise ValueError("an empty mask cannot be clicked on")
        return click

    def next(self, predicted: Mask, truth: Mask, count: int) -> Click | None:
        """Uniform in the error, on the object where it is missing and off it where it is too much."""
        return self._anywhere(predicted != truth, truth, count)

    def _anywhere(self, region: Mask, truth: Mask, count: int) -> Click | None:
        places = np.flatnonzero(region)
        if not len(places):
            return None
        rng = np.random.default_rng((self.seed, count, zlib.crc32(np.packbits(truth).tobytes())))
        y, x = divmod(int(rng.choice(places)), truth.shape[1])
        return Click(x, y, int(truth[y, x]))


def first_click(truth: Mask) -> Click:
    """The first click on a segment.

    Raises:
        ValueError: an empty mask.
    """
    point = deepest_point(truth)
    if point is None:
        raise ValueError("an empty mask cannot be clicked on")
    return Click(point[0], point[1], 1)


def next_click(predicted: Mask, truth: Mask) -> Click | None:
    """The correction of a mask: the deepest point of what is missing, or of what is too much.

    The two are looked at apart, since where they touch their union would be deepest on the line between them.
    At equal depth the missing part comes first.

    Returns:
        None where the masks are equal.
    """
    missing, too_much = deepest_point(truth & ~predicted), deepest_point(predicted & ~truth)
    if missing is not None and (too_much is None or missing[2] >= too_much[2]):
        return Click(missing[0], missing[1], 1)
    return None if too_much is None else Click(too_much[0], too_much[1], 0)
