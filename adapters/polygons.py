"""Outlines of masks as polygons, for formats that hold no bitmaps (YOLO-seg, LabelMe)."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from adapters.rle import RLE, BoolArray, decode_mask

Polygon = npt.NDArray[np.float32]
MIN_VERTICES = 3


def rle_to_polygons(rle: RLE, *, min_hole_area: int = 1) -> list[Polygon]:
    """The outlines of one mask: see :func:`mask_to_polygons`."""
    return mask_to_polygons(decode_mask(rle), min_hole_area=min_hole_area)


def mask_to_polygons(mask: BoolArray, *, min_hole_area: int = 1) -> list[Polygon]:
    """One polygon for each 8-connected component, its holes cut in by slits.

    A polygon has no holes in these formats, so the outline walks into each hole and back along the same line:
        filled
    by the even-odd rule (``cv2.fillPoly``, Pillow, ultralytics) it leaves the hole open. Slits join the
    nearest pair of vertices, nearest hole first, so that none runs across another hole.

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
    while holes:
        slits = [_nearest_vertices(ring, hole) for hole in holes]
        nearest = min(range(len(holes)), key=lambda i: slits[i][0])
        _, here, there = slits[nearest]
        hole = np.roll(holes.pop(nearest), -there, axis=0)
        ring = np.concatenate([ring[: here + 1], hole, hole[:1], ring[here:]])
    return ring


def _nearest_vertices(ring: Polygon, hole: Polygon) -> tuple[float, int, int]:
    squared = ((ring[:, None] - hole[None]) ** 2).sum(-1)
    here, there = divmod(int(squared.argmin()), len(hole))
    return float(squared[here, there]), here, there


def _at_least_three(ring: Polygon) -> Polygon:
    missing = MIN_VERTICES - len(ring)
    return np.concatenate([ring, np.repeat(ring[-1:], missing, axis=0)]) if missing > 0 else ring
