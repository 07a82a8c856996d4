"""Run the benchmark over a set of photos, with the matching spread over processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

from composer.evaluation.boundaries.counts import THRESHOLDS, BoundaryCounts, Map, count_matches
from composer.evaluation.boundaries.maps import find_maps, read_map
from composer.evaluation.boundaries.summary import BoundaryEvaluation, ImageBoundaries
from composer.evaluation.boundaries.truth import DrawnImage, DrawnSet
from composer.processes import worker_pool

Predict = Callable[[DrawnImage], Map]
"""Gives a photo's (H, W) boundary map in [0, 1]."""
_AHEAD = 4
"""Maps waiting for each worker: enough to keep it busy, few enough to be no burden."""


def evaluate_boundaries(
    truth: DrawnSet,
    predict: Predict,
    *,
    thresholds: int = THRESHOLDS,
    workers: int | None = None,
    on_image: Callable[[str], None] | None = None,
) -> BoundaryEvaluation:
    """Match every photo's map with its annotators' boundaries.

    Args:
        truth: photos with drawings.
        predict: gives the map of a photo; called in this process, in order.
        thresholds: how many.
        workers: processes for the matching; default: one for each core; 0: this process.
        on_image: called with a photo's name before its map is asked for.

    Raises:
        BadAnnotation: ground truth that cannot be read or has another size than the map.
    """
    count = _cores() if workers is None else workers
    rows = []
    for image, counts in _in_order(truth, predict, thresholds, min(count, len(truth)), on_image):
        rows.append(ImageBoundaries(image.name, counts))
    return BoundaryEvaluation(tuple(rows))


def maps_in(folder: Path, truth: DrawnSet, size_of: Callable[[DrawnImage], tuple[int, int]]) -> Predict:
    """Maps read from files named as the photos; see :func:`composer.evaluation.boundaries.maps.read_map`.

    Args:
        folder: of the files.
        truth: the photos that need one.
        size_of: gives a photo's (H, W).

    Raises:
        BadAnnotation: a photo without a map, or with two; when called, also a map that does not fit.
    """
    files = find_maps(folder, (image.path.stem for image in truth))
    return lambda image: read_map(files[image.path.stem], size_of(image))


def _in_order(
    truth: DrawnSet,
    predict: Predict,
    thresholds: int,
    workers: int,
    on_image: Callable[[str], None] | None,
) -> Iterator[tuple[DrawnImage, BoundaryCounts]]:
    def announced(image: DrawnImage) -> Map:
        if on_image:
            on_image(image.name)
        return predict(image)

    if workers < 1:
        for image in truth:
            yield image, match_image(announced(image), image, thresholds)
        return
    with worker_pool(workers) as pool:
        waiting: list[tuple[DrawnImage, Future[BoundaryCounts]]] = []
        try:
            for image in truth:
                waiting.append((image, pool.submit(match_image, announced(image), image, thresholds)))
                if len(waiting) > _AHEAD * workers:
                    done, future = waiting.pop(0)
                    yield done, future.result()
            for done, future in waiting:
                yield done, future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def match_image(values: Map, image: DrawnImage, thresholds: int) -> BoundaryCounts:
    """The counts of one photo; a function of its own so that another process can be told to do it."""
    height, width = values.shape
    return count_matches(values, image.boundaries((height, width)), thresholds)


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1
