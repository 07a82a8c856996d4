"""One-to-one matching of boundary pixels within a distance: the heart of the benchmark.

The original solves an assignment in which leaving a pixel alone costs far more than any distance: the number
of pairs comes first, then how near they are. Here the nearest free pixels pair up first, and a maximum flow
(Dinic's, from SciPy) then finds the pairs that are still missing, along paths that leave no pixel alone that
had a partner. So the number of pairs, which alone enters recall, is the highest possible; which pixels have a
partner at *any* annotator, which enters precision, comes out as in the original to the third digit.

SciPy's Hopcroft-Karp matching is not used: on some boundaries it takes minutes where the flow takes
milliseconds. So does its assignment of sparse costs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

Mask = npt.NDArray[np.bool_]
Points = npt.NDArray[np.int64]
Nodes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Annotation:
    """One annotator's boundary, ready to be matched many times.

    Attributes:
        count: m boundary pixels.
        number: (H + 2 r, W + 2 r) int64, the number of each boundary pixel and -1 elsewhere, with a margin of
            r pixels.
        offsets: (k, 2) int64, rows and columns within the distance, the nearest first.
        radius: r.
    """

    count: int
    number: Points
    offsets: Points
    radius: int

    @classmethod
    def of(cls, boundary: Mask, max_distance: float) -> Annotation:
        """Prepare a (H, W) boundary for matches at most ``max_distance`` pixels apart."""
        radius = int(np.floor(max_distance))
        number = np.full(boundary.shape, -1, np.int64)
        count = int(np.count_nonzero(boundary))
        number[boundary] = np.arange(count)
        rows, columns = np.mgrid[-radius : radius + 1, -radius : radius + 1]
        distance = np.hypot(rows, columns).ravel()
        order = np.argsort(distance, kind="stable")
        order = order[distance[order] <= max_distance]
        offsets = np.stack([rows.ravel(), columns.ravel()], 1)[order]
        return cls(count, np.pad(number, radius, constant_values=-1), offsets, radius)

    def match(self, points: Points) -> Mask:
        """Which of (n, 2) pixels (row, column) have a partner: (n,) bool."""
        if not len(points) or not self.count:
            return np.zeros(len(points), bool)
        width = self.number.shape[1]
        flat = (points[:, 0] + self.radius) * width + points[:, 1] + self.radius
        steps = self.offsets[:, 0] * width + self.offsets[:, 1]
        near = self.number.ravel()[flat[:, None] + steps]
        partner, taken = _nearest_first(near, self.count)
        matched = partner >= 0
        lonely = ~matched & (near >= 0).any(1)
        if lonely.any() and not taken.all():
            matched[_augmented(near, partner, taken, lonely)] = True
        return matched


def _nearest_first(near: Nodes, count: int) -> tuple[Nodes, Mask]:
    """Pair free pixels, offset by offset: the (n,) partners, -1 for none, and the (m,) taken pixels."""
    partner, taken = np.full(len(near), -1), np.zeros(count, bool)
    for wanted in near.T:  # at one and the same offset no two pixels want the same one
        free = np.flatnonzero((partner < 0) & (wanted >= 0))
        free = free[~taken[wanted[free]]]
        partner[free] = wanted[free]
        taken[wanted[free]] = True
    return partner, taken


def _augmented(near: Nodes, partner: Nodes, taken: Mask, lonely: Mask) -> Nodes:
    """Numbers of the lonely pixels that get a partner once others change theirs.

    The graph is what flow is left: from a pixel to a boundary pixel that it could have, and back from its
    partner. Of it only what lies between a lonely pixel and a free boundary pixel matters.
    """
    n, source, sink = len(near), len(near) + len(taken), len(near) + len(taken) + 1
    pixel, column = np.nonzero(near >= 0)
    other = n + near[pixel, column]
    paired = n + partner[pixel] == other
    lonely_ones, free_ones = np.flatnonzero(lonely), n + np.flatnonzero(~taken)
    starts = np.concatenate([np.where(paired, other, pixel), np.full(len(lonely_ones), source), free_ones])
    ends = np.concatenate([np.where(paired, pixel, other), lonely_ones, np.full(len(free_ones), sink)])
    useful = _reachable(starts, ends, source, sink + 1)
    if not useful[sink]:
        return np.zeros(0, np.int64)
    useful &= _reachable(ends, starts, sink, sink + 1)
    numbers = np.cumsum(useful) - 1
    kept = useful[starts] & useful[ends]
    graph = _graph(numbers[starts[kept]], numbers[ends[kept]], int(useful.sum()))
    flow = maximum_flow(graph, int(numbers[source]), int(numbers[sink]), method="dinic").flow
    left = flow[[int(numbers[source])], :].toarray()[0] > 0
    return np.asarray(np.flatnonzero(useful)[left])


def _reachable(starts: Nodes, ends: Nodes, root: int, size: int) -> Mask:
    found = np.zeros(size, bool)
    found[breadth_first_order(_graph(starts, ends, size), root, return_predecessors=False)] = True
    return found


def _graph(starts: Nodes, ends: Nodes, size: int) -> csr_array:
    return csr_array((np.ones(len(starts), np.int32), (starts, ends)), shape=(size, size))
