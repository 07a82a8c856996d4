"""Outlines of masks as polygons, for formats that hold no bitmaps (YOLO-seg, LabelMe)."""

from __future__ import annotations

from math import inf, isqrt

import cv2
import numpy as np
import numpy.typing as npt

from adapters.rle import BoolArray

Polygon = npt.NDArray[np.float32]
MIN_VERTICES = 3
_BLOCK = 32
"""Vertices that are compared at once, at least. A long outline has as many blocks as a block has vertices, so
that neither the list of blocks nor the distances between two of them take much memory."""


def mask_to_polygons(mask: BoolArray, *, min_hole_area: int = 1) -> list[Polygon]:
    """One polygon for each 8-connected component, its holes cut in by slits.

    A polygon has no holes in these formats, so the outline walks into each hole and back along the same line:
    filled by the even-odd rule (``cv2.fillPoly``, Pillow, ultralytics) it leaves the hole open. Slits join
    the nearest pair of vertices, nearest hole first, so that none runs across another hole.

    Args:
        mask: (H, W) bool.
        min_hole_area: holes of fewer pixels are filled instead; ``mask.size`` gives plain outer outlines.

    Returns:
        Polygons (k, 2) float32 ``x, y`` through pixel centres (the convention of ``cv2.fillPoly`` and YOLO),
        k >= 3 (a single pixel or a line repeats a vertex), largest component first.
    """
    contours, hierarchy = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return []
    rings = [contour[:, 0].astype(np.float32) for contour in contours]
    parents = hierarchy[0][:, 3]
    polygons = []
    for outer in np.flatnonzero(parents < 0):
        holes = [rings[i] for i in np.flatnonzero(parents == outer) if _hole_area(rings[i]) >= min_hole_area]
        polygons.append(_at_least_three(_cut_holes(rings[outer], holes)))
    return sorted(polygons, key=lambda ring: -float(abs(cv2.contourArea(ring))))


def _hole_area(ring: Polygon) -> float:
    """Pixels inside a hole's ring, which runs through the foreground around it (Pick's theorem)."""
    steps = np.abs(np.diff(ring, axis=0, append=ring[:1]))
    on_ring = float(np.maximum(steps[:, 0], steps[:, 1]).sum())
    return float(abs(cv2.contourArea(ring))) - on_ring / 2 + 1


def _cut_holes(ring: Polygon, holes: list[Polygon]) -> Polygon:
    """The nearest hole is cut in until none is left; the first of equally near ones."""
    if not holes:
        return ring
    slits = [nearest_vertices(ring, hole) for hole in holes]
    squared = np.array([slit[0] for slit in slits], np.float32)
    here = np.array([slit[1] for slit in slits])
    there = np.array([slit[2] for slit in slits])
    low, high = np.stack([hole.min(0) for hole in holes]), np.stack([hole.max(0) for hole in holes])
    waiting = np.ones(len(holes), np.bool_)
    for _ in holes:
        nearest = int(np.where(waiting, squared, inf).argmin())
        waiting[nearest] = False
        start = int(here[nearest])
        hole = np.roll(holes[nearest], -there[nearest], axis=0)
        ring = splice(ring, start, hole)
        here[here > start] += len(hole) + 2
        # Only the hole's vertices are new in the ring (the two that it repeats come after their twins, which
        # win ties), and only a hole with a box as near as its slit is long can have a better slit to them.
        gaps = _squared(_gaps(low[nearest], high[nearest], low, high))
        for i in np.flatnonzero(waiting & (gaps <= squared)):
            apart, on_hole, on_other = nearest_vertices(hole, holes[i])
            found = (apart, start + 1 + on_hole, on_other)
            if found < (squared[i], here[i], there[i]):
                squared[i], here[i], there[i] = found
    return ring


def splice(ring: Polygon, here: int, turned: Polygon) -> Polygon:
    """``ring`` with another outline hung on by a slit that is walked there and back.

    Args:
        ring: (n, 2) float32.
        here: index of the vertex of ``ring`` that it hangs on.
        turned: (k, 2) float32, begins at the slit's other end.

    Returns:
        (n + k + 2, 2) float32: both ends of the slit are in it twice.
    """
    return np.concatenate([ring[: here + 1], turned, turned[:1], ring[here:]])


def nearest_vertices(one: Polygon, other: Polygon) -> tuple[float, int, int]:
    """The nearest pair of vertices of two outlines.

    Outlines are compared block by block, nearest bounding boxes first, until the boxes left are further apart
    than the pair found: neighbours on an outline lie close together, so that few blocks are looked at.

    Args:
        one: (n, 2) float32, n >= 1.
        other: (m, 2) float32, m >= 1.

    Returns:
        Squared distance, index in ``one`` and index in ``other``; of equally near pairs the first one in
        ``one``, and of these the first one in ``other``.
    """
    step, low, high = _blocks(one)
    step_other, low_other, high_other = _blocks(other)
    # Rounding keeps order: no pair is nearer than this, in float32 too.
    bounds = _squared(_gaps(low[:, None], high[:, None], low_other, high_other))
    best = (inf, 0, 0)
    for block in np.argsort(bounds, axis=None):
        row, column = divmod(int(block), len(low_other))
        if bounds[row, column] > best[0]:
            break
        start, start_other = row * step, column * step_other
        block_other = other[start_other : start_other + step_other]
        squared = _squared(one[start : start + step, None] - block_other)
        i, j = divmod(int(squared.argmin()), len(block_other))
        best = min(best, (float(squared[i, j]), start + i, start_other + j))
    return best


def _blocks(ring: Polygon) -> tuple[int, Polygon, Polygon]:
    """Vertices in a block, and the corners of the blocks' bounding boxes."""
    step = max(_BLOCK, isqrt(len(ring)))
    starts = np.arange(0, len(ring), step)
    return step, np.minimum.reduceat(ring, starts), np.maximum.reduceat(ring, starts)


def _gaps(low: Polygon, high: Polygon, low_other: Polygon, high_other: Polygon) -> Polygon:
    """How far apart boxes are along x and y; 0 where they overlap."""
    gaps: Polygon = np.maximum(np.maximum(low_other - high, low - high_other), 0)
    return gaps


def _squared(apart: Polygon) -> npt.NDArray[np.float32]:
    """(..., 2) -> (...): squared lengths. ``sum`` over an axis as short as this one is slow."""
    x, y = apart[..., 0], apart[..., 1]
    lengths: npt.NDArray[np.float32] = x * x + y * y
    return lengths


def _at_least_three(ring: Polygon) -> Polygon:
    missing = MIN_VERTICES - len(ring)
    return np.concatenate([ring, np.repeat(ring[-1:], missing, axis=0)]) if missing > 0 else ring
