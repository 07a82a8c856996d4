"""Small-region clean-up of masks (App. B, "Postprocessing").

Regions are pixels that hang together, corners included, as in segment-anything. All masks of an image are
looked at together, as runs: the pixels between the ends of a run are never visited.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adapters.mask_runs import Components, MaskRuns, first_seen
from adapters.results import Instances
from adapters.rle import RLE, BoolArray, IntArray
from adapters.selection import box_nms

MASKS_AT_ONCE = 64
"""Masks whose runs, and those around them, are held at a time."""


def clean_masks(rles: Sequence[RLE], min_area: float) -> tuple[list[RLE], IntArray, BoolArray]:
    """Fill holes, then remove components, of fewer than ``min_area`` pixels.

    If every component is smaller, the largest stays (segment-anything's ``min_mask_region_area``). Background
    between a mask and the image's border is a hole as any other.

    Args:
        rles: n masks of one image.
        min_area: pixels.

    Returns:
        The n cleaned masks, their (n, 4) int64 boxes (see :class:`adapters.rle.Runs`), and which of them
        (n,) had a small region, or were nothing but one.
    """
    cleaned: list[RLE] = []
    boxes, small = [np.zeros((0, 4), np.int64)], [np.zeros(0, np.bool_)]
    for start in range(0, len(rles), MASKS_AT_ONCE):
        some = rles[start : start + MASKS_AT_ONCE]
        size = (some[0]["size"][0], some[0]["size"][1])
        runs, had_holes = _without_holes(MaskRuns.of_rles(some), min_area, size)
        runs, had_islands = _without_islands(runs, min_area, size)
        cleaned += runs.encode((0, 0), size)
        boxes.append(runs.boxes())
        small.append(had_holes | had_islands)
    return cleaned, np.concatenate(boxes), np.concatenate(small)


def largest_components(rles: Sequence[RLE]) -> IntArray:
    """(n,) int64 pixels of each mask's largest component; 0 for an empty mask."""
    largest = np.zeros(len(rles), np.int64)
    for start in range(0, len(rles), MASKS_AT_ONCE):
        some = rles[start : start + MASKS_AT_ONCE]
        found = MaskRuns.of_rles(some).components((some[0]["size"][0], some[0]["size"][1]))
        np.maximum.at(largest, found.owner + start, found.areas)
    return largest


def clean_instances(instances: Instances, min_area: float, nms_thresh: float) -> Instances:
    """Clean every mask, then suppress the duplicates that this made, preferring those that were tidy before.

    Args:
        min_area: pixels, see :func:`clean_masks`.
        nms_thresh: box IoU above which two masks are duplicates.
    """
    rles, places, small = clean_masks(instances.rles, min_area)
    boxes = places.astype(np.float32)
    tidy = instances.replace(rles=tuple(rles), boxes=boxes)
    return tidy[box_nms(boxes, (~small).astype(np.float32), nms_thresh)]


def drop_small(instances: Instances, min_area: float) -> Instances:
    """Only the masks whose largest component has at least ``min_area`` pixels (App. B)."""
    return instances[largest_components(instances.rles) >= min_area]


def _without_holes(runs: MaskRuns, min_area: float, size: tuple[int, int]) -> tuple[MaskRuns, BoolArray]:
    """The masks with small holes filled, and which of them had any."""
    around = runs.background(size)
    holes = around.components(size)
    small = holes.areas < min_area
    had = _owners(holes, small, runs.masks)
    return (runs.joined(around.chosen(small[holes.labels]), size) if small.any() else runs), had


def _without_islands(runs: MaskRuns, min_area: float, size: tuple[int, int]) -> tuple[MaskRuns, BoolArray]:
    """The masks without small components, and which of them had any."""
    islands = runs.components(size)
    small = islands.areas < min_area
    had = _owners(islands, small, runs.masks)
    # Of each mask the largest, and of those as large the one that is met first.
    order = np.lexsort((first_seen(runs, islands), -islands.areas, islands.owner))
    largest = order[np.append(True, np.diff(islands.owner[order]) > 0)[: len(order)]]
    keep = ~small
    nothing_else = ~_owners(islands, keep, runs.masks)
    keep[largest[nothing_else[islands.owner[largest]]]] = True
    return runs.chosen(keep[islands.labels]), had


def _owners(components: Components, which: BoolArray, masks: int) -> BoolArray:
    """(n,) which masks have any of some components."""
    owners = np.zeros(masks, np.bool_)
    owners[components.owner[which]] = True
    return owners
