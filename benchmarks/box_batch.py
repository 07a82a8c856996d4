"""Masks of 100 detector boxes on one encoded photo, beside how the peers' users ask for them.

    python benchmarks/box_batch.py [--boxes N] [--repeats N] [--model vit_b|tiny] [--json FILE]

The photo has 1200 x 1800 pixels; all give masks of its size. segment-anything is asked box by box, as its
predictor is used, and in one batch; the others in one batch. Ours are held as COCO RLE with boxes and scores;
a row of its own turns them into arrays too, which is what the peers give. The boxes are of all sizes, at
seeded random places. Nothing is encoded here: all decode one embedding.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _models
import _report
import numpy as np
from _peer_predictors import Boxes, Masks, mask_iou, predictors

from adapters.base import Scene
from adapters.boxes import MAX_MARGIN, BoxesAdapter
from adapters.boxes import Boxes as BoxesRequest


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boxes", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", choices=list(_models.MODELS), default="vit_b")
    parser.add_argument("--json", type=Path, default=_report.RESULTS / "box_batch.json")
    options = parser.parse_args()
    settings = {
        "boxes": options.boxes,
        "repeats": options.repeats,
        "model": _models.MODELS[options.model],
        "photo": list(_models.PHOTO_SIZE),
    }
    about = _report.machine(prompts=True)
    scene = _models.encoded(_models.named(options.model), _models.photo())
    boxes = detector_boxes(options.boxes, scene.size)
    progress = _report.Progress("box_batch", settings)
    ways = ways_of(scene, boxes)
    seconds, apart = measured(ways, options.repeats, progress)
    further: dict[str, dict[str, Any]] = dict(apart)
    further[_report.OURS] = _models.products(options.model, scene.model, ways[_report.OURS], options.boxes)
    rows = _report.rows_of(f"{_models.MODELS[options.model]}, {options.boxes} boxes", seconds, further)
    _report.write("box_batch", settings, rows, about, options.json)
    progress.finish()


def detector_boxes(count: int, size: tuple[int, int], seed: int = 0) -> Boxes:
    """(count, 4) ``x1, y1, x2, y2`` inside an image of ``size``: sides from a fortieth of it to all of it."""
    rng = np.random.default_rng(seed)
    height, width = size
    sides = np.exp(rng.uniform(np.log(1 / 40), 0, (count, 2))) * [width, height]
    corner = rng.uniform(0, 1, (count, 2)) * ([width, height] - sides)
    return np.concatenate([corner, corner + sides], 1).astype(np.float32)


def ways_of(scene: Scene, boxes: Boxes) -> dict[str, Callable[[], Masks | None]]:
    """The calls, by name; each but the first gives (N, H, W) masks."""
    # No margin: the published code does not cut masks at their boxes.
    request, adapter = BoxesRequest(boxes, margin=MAX_MARGIN), BoxesAdapter()

    def as_rle() -> None:
        adapter(scene, request)

    ways: dict[str, Callable[[], Masks | None]] = {
        _report.OURS: as_rle,
        "sam-composer, masks as arrays": lambda: adapter(scene, request).masks,
    }
    for name, predictor in predictors(scene.model, scene.embedding, scene.image).items():
        if name == "segment_anything":
            ways["segment_anything, one by one"] = bound(predictor.one_by_one, boxes)
        ways[f"{name}, one batch"] = bound(predictor.at_once, boxes)
    return ways


def bound(call: Callable[[Boxes], Masks], boxes: Boxes) -> Callable[[], Masks]:
    """The call without arguments."""
    return lambda: call(boxes)


def measured(
    ways: dict[str, Callable[[], Masks | None]], repeats: int, progress: _report.Progress
) -> tuple[dict[str, list[float]], dict[str, dict[str, Any]]]:
    """Seconds of each way by rounds, and how its masks agree with ours."""
    expected = ways["sam-composer, masks as arrays"]()
    assert expected is not None
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    apart: dict[str, dict[str, Any]] = {}
    for turn in range(repeats):
        for name, way in ways.items():
            run = progress.once(
                f"{name}, round {turn + 1}", lambda name=name, way=way: one_run(name, way, expected)
            )  # type: ignore[misc]
            seconds[name].append(run["seconds"])
            apart[name] = {key: value for key, value in run.items() if key != "seconds"}
    return seconds, apart


def one_run(name: str, way: Callable[[], Masks | None], expected: Masks) -> dict[str, Any]:
    """Seconds of one call, and the agreement of its masks where it gives arrays."""
    times = _report.take_turns({name: (kept := Kept(way))}, 1)[name]
    run: dict[str, Any] = {"seconds": times[0]}
    if kept.answer is not None:
        iou = mask_iou(kept.answer, expected)
        run |= {
            "iou_99": round(float((iou >= 0.99).float().mean()), 4),
            "least_iou": round(float(iou.min()), 4),
        }
    return run


class Kept:
    """A call that remembers what it gave."""

    def __init__(self, way: Callable[[], Masks | None]) -> None:
        self.way = way
        self.answer: Masks | None = None

    def __call__(self) -> None:
        """Call it."""
        self.answer = self.way()


if __name__ == "__main__":
    main()
