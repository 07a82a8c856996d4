"""COCO's run-length encoding of many masks at once, from where their runs begin and end.

The bytes are those that pycocotools writes; it takes the runs of one mask as a list of numbers, whose making
takes longer than all that is done here.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from adapters.rle import RLE, IntArray

BITS = 5
"""Bits of a number in each character; a sixth says that another character follows."""
MOST_CHARACTERS = 7
"""For 33 bits: run lengths have 32, their differences a sign."""


def encode_many(
    starts: IntArray, ends: IntArray, owner: IntArray, count: int, size: tuple[int, int]
) -> list[RLE]:
    """Encode ``count`` masks of an image of ``size`` (H, W).

    Args:
        starts, ends: (k,) int64, half-open runs of foreground as places in the image column by column, at
            most H * W; ascending for each mask, the masks in turn. A run may begin where the last one ended.
        owner: (k,) int64 which mask each run belongs to, ascending.
    """
    lengths, per_mask = _run_lengths(*_joined(starts, ends, owner), count, size[0] * size[1])
    first = np.cumsum(per_mask) - per_mask
    text, characters = _characters(_differences(lengths, np.repeat(first, per_mask)))
    edges = np.append(0, np.cumsum(characters))[np.append(first, len(lengths))].tolist()
    return [{"size": [size[0], size[1]], "counts": text[begin:end]} for begin, end in pairwise(edges)]


def _joined(starts: IntArray, ends: IntArray, owner: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Runs that go on at the top of the next column are one run."""
    apart = np.append((starts[1:] != ends[:-1]) | (owner[1:] != owner[:-1]), True)
    begins = np.append(True, apart[:-1])[: len(starts)]
    return starts[begins], ends[apart[: len(ends)]], owner[begins]


def _run_lengths(
    starts: IntArray, ends: IntArray, owner: IntArray, count: int, pixels: int
) -> tuple[IntArray, IntArray]:
    """Background and foreground in turn, all masks in one array, and how many lengths each mask has.

    As pycocotools does, an empty last run is left out, unless it is the only one.
    """
    runs = np.bincount(owner, minlength=count)
    edges = np.zeros(2 * len(starts) + 2 * count, np.int64)  # each mask's: 0, starts and ends, all pixels
    last = np.cumsum(2 * runs + 2) - 1
    place = 2 * np.arange(len(starts)) + 2 * owner + 1
    edges[place], edges[place + 1] = starts, ends
    edges[last] = pixels
    lengths = np.diff(edges)
    keep = np.ones(len(lengths), np.bool_)
    keep[last[:-1]] = False  # from one mask to the next
    empty = (runs > 0) & (lengths[last - 1] == 0)
    keep[last[empty] - 1] = False
    per_mask: IntArray = 2 * runs + 1 - empty
    return lengths[keep], per_mask


def _differences(lengths: IntArray, first: IntArray) -> IntArray:
    """From a mask's fourth length on, each less the one two before it; ``first`` is where its mask begins."""
    values: IntArray = lengths.copy()
    later = np.flatnonzero(np.arange(len(lengths)) - first > 2)
    values[later] -= lengths[later - 2]
    return values


def _characters(values: IntArray) -> tuple[bytes, IntArray]:
    """Six bits a character, least significant first: the text, and how many characters each number takes."""
    characters = np.ones(len(values), np.int64)
    reach = np.where(values < 0, ~values, values)
    for more in range(1, MOST_CHARACTERS):
        longer = reach >= 1 << (BITS * more - 1)
        if not longer.any():
            break
        characters += longer
    total = np.cumsum(characters)
    place = np.arange(total[-1] if len(total) else 0) - np.repeat(total - characters, characters)
    bits = (np.repeat(values, characters) >> (BITS * place)) & 31
    goes_on = place < np.repeat(characters, characters) - 1
    return (bits + 32 * goes_on + 48).astype(np.uint8).tobytes(), characters
