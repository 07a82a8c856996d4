"""Many masks of one image as vertical runs: what lies around them, what hangs together, their encoding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from adapters.rle import RLE, BoolArray, IntArray, run_lengths
from adapters.run_encoding import encode_many


class MaskRuns(NamedTuple):
    """The foreground of n masks as k runs, mask by mask in the order of COCO's encoding.

    Attributes:
        owner: (k,) int64 the mask of each run.
        column, top, bottom: (k,) int64 pixels; rows half-open.
        masks: n.
    """

    owner: IntArray
    column: IntArray
    top: IntArray
    bottom: IntArray
    masks: int

    @classmethod
    def of_rles(cls, rles: Sequence[RLE]) -> MaskRuns:
        """The runs of masks of one image."""
        parts = [np.cumsum(run_lengths(rle["counts"].decode("ascii"))) for rle in rles]
        if not parts:
            none = np.zeros(0, np.int64)
            return cls(none, none, none, none, 0)
        height, width = rles[0]["size"]
        # An odd last run is background; the image's end stands for it.
        parts = [ends[: len(ends) // 2 * 2] + i * height * width for i, ends in enumerate(parts)]
        edges = np.concatenate(parts)
        return cls._of_places(edges[0::2], edges[1::2], (height, width), len(rles))

    @classmethod
    def _of_places(cls, starts: IntArray, ends: IntArray, size: tuple[int, int], masks: int) -> MaskRuns:
        """Runs of places counted column by column, mask by mask; those over several columns are divided."""
        height, width = size
        full = ends > starts
        starts, ends = starts[full], ends[full]
        first, last = starts // height, (ends - 1) // height
        pieces = last - first + 1
        run = np.repeat(np.arange(len(starts)), pieces)
        upright = first[run] + np.arange(len(run)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        top = np.maximum(starts[run] - upright * height, 0)
        bottom = np.minimum(ends[run] - upright * height, height)
        owner, column = np.divmod(upright, width)
        return cls(owner, column, top, bottom, masks)

    def _places(self, size: tuple[int, int]) -> tuple[IntArray, IntArray]:
        upright = (self.owner * size[1] + self.column) * size[0]
        return upright + self.top, upright + self.bottom

    def areas(self) -> IntArray:
        """(n,) int64 pixels."""
        lengths = np.bincount(self.owner, weights=self.bottom - self.top, minlength=self.masks)
        return lengths.astype(np.int64)

    def boxes(self) -> IntArray:
        """(n, 4) int64 tight ``x1, y1, x2, y2``, x2 and y2 one past the last pixel; zeros if empty."""
        boxes = np.zeros((self.masks, 4), np.int64)
        if len(self.owner):
            begins = np.flatnonzero(np.append(True, self.owner[1:] != self.owner[:-1]))
            ends = np.append(begins[1:], len(self.owner)) - 1
            top, bottom = np.minimum.reduceat(self.top, begins), np.maximum.reduceat(self.bottom, begins)
            boxes[self.owner[begins]] = np.stack([self.column[begins], top, self.column[ends] + 1, bottom], 1)
        return boxes

    def encode(self, origin: tuple[int, int], canvas: tuple[int, int]) -> list[RLE]:
        """The masks in an image of size ``canvas`` (H, W), this one being its window at ``origin`` (x, y)."""
        column = (self.column + origin[0]) * canvas[0] + origin[1]
        return encode_many(column + self.top, column + self.bottom, self.owner, self.masks, canvas)

    def chosen(self, which: BoolArray) -> MaskRuns:
        """Some of the runs (k,), of as many masks."""
        return MaskRuns(
            self.owner[which], self.column[which], self.top[which], self.bottom[which], self.masks
        )

    def background(self, size: tuple[int, int]) -> MaskRuns:
        """What of an image of ``size`` (H, W) is in none of a mask's runs, for each mask."""
        starts, ends = self._places(size)
        everything = self.masks * size[0] * size[1]
        return self._of_places(np.append(0, ends), np.append(starts, everything), size, self.masks)

    def joined(self, other: MaskRuns, size: tuple[int, int]) -> MaskRuns:
        """Both, of as many masks and no pixel in common; runs that touch become one."""
        mine, others = self._places(size), other._places(size)
        starts, ends = (np.sort(np.concatenate(pair)) for pair in zip(mine, others, strict=True))
        apart = starts[1:] != ends[:-1]
        first, last = np.append(True, apart)[: len(starts)], np.append(apart, True)[: len(ends)]
        return self._of_places(starts[first], ends[last], size, self.masks)

    def components(self, size: tuple[int, int]) -> Components:
        """What hangs together within each mask, corners included."""
        # A column of masks and rows in one number; one more column, and row, keeps neighbours apart.
        upright = (self.owner * (size[1] + 1) + self.column) * (size[0] + 1)
        next_column = upright + size[0] + 1
        first = np.searchsorted(upright + self.bottom, next_column + self.top)
        last = np.searchsorted(upright + self.top, next_column + self.bottom, side="right")
        neighbours = np.maximum(last - first, 0)
        run = np.repeat(np.arange(len(upright)), neighbours)
        beside = np.arange(len(run)) - np.repeat(np.cumsum(neighbours) - neighbours - first, neighbours)
        links = coo_array((np.ones(len(run), np.bool_), (run, beside)), shape=(len(upright), len(upright)))
        count, labels = connected_components(links, directed=False) if len(upright) else (0, upright)
        areas = np.bincount(labels, weights=self.bottom - self.top, minlength=count).astype(np.int64)
        owner = np.zeros(count, np.int64)
        owner[labels] = self.owner
        return Components(np.asarray(labels, np.int64), areas, owner)


class Components(NamedTuple):
    """The m components of n masks.

    Attributes:
        labels: (k,) int64 the component of each run.
        areas: (m,) int64 pixels.
        owner: (m,) int64 the mask of each.
    """

    labels: IntArray
    areas: IntArray
    owner: IntArray


def first_seen(runs: MaskRuns, components: Components) -> npt.NDArray[np.int64]:
    """(m,) the order in which OpenCV meets components: it goes through blocks of 2 x 2 pixels, row by row."""
    block = (runs.top // 2) * (1 << 32) + runs.column // 2
    first = np.full(len(components.areas), np.iinfo(np.int64).max)
    np.minimum.at(first, components.labels, block)
    return first
