"""Masks as COCO run-length encodings: how every mask of this project is held.

A thousand full-size masks of a 12-megapixel photo are 12 GB as one byte a pixel and a few megabytes as runs.
The encoding is pycocotools' own (column-major runs, compressed counts), so any COCO tool reads it as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from sam.errors import BadAnnotation

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


class RLE(TypedDict):
    """One mask: ``size`` is [height, width] in pixels, ``counts`` the compressed runs."""

    size: list[int]
    counts: bytes


def encode_mask(mask: BoolArray) -> RLE:
    """(H, W) bool -> RLE."""
    encoded: RLE = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return encoded


def encode_masks(masks: BoolArray) -> list[RLE]:
    """(n, H, W) bool -> n RLEs."""
    return [encode_mask(mask) for mask in masks]


def decode_mask(rle: RLE) -> BoolArray:
    """RLE -> (H, W) bool."""
    decoded: npt.NDArray[np.uint8] = coco_mask.decode(rle)
    return np.ascontiguousarray(decoded).view(np.bool_)


def decode_masks(rles: Sequence[RLE], size: tuple[int, int]) -> BoolArray:
    """n RLEs of one image -> (n, H, W) bool; ``size`` is its (H, W), which n = 0 needs."""
    masks = np.empty((len(rles), *size), dtype=np.bool_)
    for mask, rle in zip(masks, rles, strict=True):
        mask[...] = coco_mask.decode(rle)
    return masks


def decode_window(rle: RLE, window: tuple[slice, slice]) -> BoolArray:
    """The (rows, columns) ``window`` of an RLE, as a (h, w) bool array of its own."""
    height, width = rle["size"]
    (top, bottom, _), (left, right, _) = window[0].indices(height), window[1].indices(width)
    ends = np.cumsum(run_lengths(rle["counts"].decode("ascii")))
    # Whole columns first, as the runs go; pycocotools can only decode the whole image.
    begin, end = left * height, max(left, right) * height
    first, last = np.searchsorted(ends, begin, side="right"), np.searchsorted(ends, end)
    edges = np.concatenate([[begin], ends[first:last], [end]])
    within = np.arange(first, last + 1) % 2 == 1
    columns = np.repeat(within, np.diff(edges)).reshape(-1, height)
    return np.ascontiguousarray(columns[:, top:bottom].T)


def sample_mask(rle: RLE, rows: npt.NDArray[Any], columns: npt.NDArray[Any]) -> BoolArray:
    """The mask at the crossings of ``rows`` (h,) and ``columns`` (w,), whole pixels: (h, w) bool.

    What lies outside of the image is False. Costs as much as the mask has runs, whatever the image's size.
    """
    height, width = rle["size"]
    ends = np.cumsum(run_lengths(rle["counts"].decode("ascii")))
    rows, columns = np.asarray(rows, np.int64), np.asarray(columns, np.int64)
    inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))[None]
    places = columns[None] * height + rows[:, None]
    # Runs take turns, background first: a pixel is in the mask where an odd number of runs has ended before.
    found: BoolArray = np.searchsorted(ends, places.ravel(), side="right").reshape(places.shape) % 2 == 1
    return found & inside


def cut_to_box(rle: RLE, box: tuple[int, int, int, int]) -> RLE:
    """The part of a mask inside ``box``: ``x1, y1, x2, y2`` whole pixels in the image, x2, y2 exclusive."""
    x1, y1, x2, y2 = box
    height, width = rle["size"]
    columns = np.arange(x1, x2)
    filled = Runs(columns, np.full_like(columns, y1), np.full_like(columns, y2)).encode((height, width))
    return intersection(rle, filled)


def complement(rle: RLE) -> RLE:
    """All pixels that are not in a mask. Foreground and background trade places run by run."""
    height, width = rle["size"]
    runs = run_lengths(rle["counts"].decode("ascii"))
    turned = runs[1:] if runs[0] == 0 else np.append(0, runs)
    encoded: RLE = coco_mask.frPyObjects({"size": [height, width], "counts": turned.tolist()}, height, width)
    return encoded


def union(rles: Sequence[RLE], size: tuple[int, int]) -> RLE:
    """All pixels of any of n masks of an image of ``size`` (H, W); an empty mask for none."""
    if not rles:
        return Runs(*np.zeros((3, 0), np.int64)).encode(size)
    joined: RLE = coco_mask.merge(list(rles), intersect=False)
    return joined


def intersection(one: RLE, other: RLE) -> RLE:
    """The pixels of both masks."""
    both: RLE = coco_mask.merge([one, other], intersect=True)
    return both


def areas(rles: Sequence[RLE]) -> IntArray:
    """(n,) int64 pixels."""
    if not rles:
        return np.zeros(0, np.int64)
    # One by one: pycocotools 2.0.11 cannot count beyond 255 masks in one call with numpy 2.
    return np.array([int(coco_mask.area(rle)) for rle in rles], np.int64)


def bounding_boxes(rles: Sequence[RLE]) -> npt.NDArray[np.float32]:
    """(n, 4) float32 ``x1, y1, x2, y2``, x2 and y2 one past the last pixel; zeros for an empty mask."""
    if not rles:
        return np.zeros((0, 4), np.float32)
    boxes = np.asarray(coco_mask.toBbox(list(rles)), np.float32)
    boxes[:, 2:] += boxes[:, :2]
    boxes[areas(rles) == 0] = 0
    return boxes


class Runs(NamedTuple):
    """The foreground of a mask as k vertical runs, in the order of COCO's encoding.

    Attributes:
        column: (k,) int64 x of each run, ascending.
        top, bottom: (k,) int64 its rows, half-open.
    """

    column: IntArray
    top: IntArray
    bottom: IntArray

    @property
    def area(self) -> int:
        """Pixels."""
        return int((self.bottom - self.top).sum())

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Tight ``x1, y1, x2, y2``, x2 and y2 one past the last pixel; zeros for an empty mask."""
        if not len(self.column):
            return 0, 0, 0, 0
        return int(self.column[0]), int(self.top.min()), int(self.column[-1]) + 1, int(self.bottom.max())

    def encode(self, size: tuple[int, int]) -> RLE:
        """The mask in an image of ``size`` (H, W)."""
        height, width = size
        starts, ends = self.column * height + self.top, self.column * height + self.bottom
        if len(starts):  # runs that go on at the top of the next column are one run
            apart = starts[1:] != ends[:-1]
            starts, ends = starts[np.append(True, apart)], ends[np.append(apart, True)]
        edges = np.stack([starts, ends], axis=1).ravel()
        counts = np.diff(edges, prepend=0, append=height * width)
        if counts[-1] == 0:  # pycocotools writes no empty last run: equal masks must have equal bytes
            counts = counts[:-1]
        encoded: RLE = coco_mask.frPyObjects(
            {"size": [height, width], "counts": counts.tolist()}, height, width
        )
        return encoded


def to_json(rle: RLE) -> dict[str, Any]:
    """The same RLE with ``counts`` as str, as COCO and SA-1B files hold it."""
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def from_json(value: Mapping[str, Any]) -> RLE:
    """Read an RLE from a file: ``counts`` compressed (str) or as a plain list of run lengths.

    Raises:
        BadAnnotation: not an RLE, or runs that do not add up to the size (pycocotools would read past the
            end).
    """
    height, width = _checked_size(value)
    counts = value.get("counts")
    if isinstance(counts, str):
        runs = run_lengths(counts).tolist()
    elif isinstance(counts, list) and all(map(_is_whole, counts)):
        runs = counts
        if max(runs, default=0) >= 2**32:
            raise BadAnnotation("RLE counts hold a number of more than 32 bits", field="counts")
    else:
        raise BadAnnotation("RLE counts must be a string or a list of whole numbers", field="counts")
    total = sum(runs)
    if total != height * width or min(runs) < 0:
        raise BadAnnotation(
            f"RLE runs add up to {total} pixels, but its size is {height} x {width}", field="counts"
        )
    if isinstance(counts, str):
        return {"size": [height, width], "counts": counts.encode("ascii")}
    encoded: RLE = coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    return encoded


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _checked_size(value: Mapping[str, Any]) -> tuple[int, int]:
    size = value.get("size")
    if not (isinstance(size, list | tuple) and len(size) == 2 and all(_is_whole(s) and s > 0 for s in size)):
        raise BadAnnotation(f"RLE size must be [height, width] in pixels, not {size!r}", field="size")
    if size[0] * size[1] >= 2**32:  # pycocotools counts in 32 bits
        raise BadAnnotation(f"RLE size {size[0]} x {size[1]} is too large", field="size")
    return size[0], size[1]


def run_lengths(text: str) -> IntArray:
    """Background and foreground in turn, out of COCO's compression.

    Six bits a character, least significant first, runs stored as differences.
    """
    if not text.isascii():
        raise BadAnnotation("RLE counts must be ASCII", field="counts")
    bits = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - 48
    if (bits < 0).any() or (bits > 63).any():
        raise BadAnnotation("RLE counts hold characters outside COCO's alphabet", field="counts")
    if not len(bits):
        return np.zeros(0, np.int64)
    last = (bits & 32) == 0
    if not last[-1]:
        raise BadAnnotation("RLE counts break off in the middle of a number", field="counts")
    first = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    length = np.diff(first, append=len(bits))
    if length.max() > 7:  # 7 * 5 bits hold any 32-bit run
        raise BadAnnotation("RLE counts hold a number of more than 32 bits", field="counts")
    place = np.arange(len(bits)) - np.repeat(first, length)
    values = np.add.reduceat((bits & 31) << (5 * place), first)
    negative = (bits[last] & 16) != 0
    values = np.where(negative, values - (1 << (5 * length)), values)
    # From the fourth run on, each is stored as its difference from the run two before.
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
