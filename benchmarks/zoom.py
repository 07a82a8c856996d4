"""What a look of its own at each small box brings and costs: `tiny` on photos that it was not trained on.

    python benchmarks/zoom.py [--zooms 0 2 3] [--json FILE]

Mean IoU of the answers to segments' own boxes, by the box's longer side as a share of the photo's, with the
encoder passes and the median seconds for all boxes of a photo in one request, encoding included. Photos are
those of ../shared/data; segments have at least 100 pixels.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from pathlib import Path
from typing import Any

import _report
import numpy as np
from _shared import unpacked

from adapters.results import Instances
from adapters.rle import bounding_boxes
from adapters.windows import windows_of
from composer import Boxes, Composer
from composer.evaluation.ground_truth import open_panoptic
from composer.evaluation.points import rle_iou
from composer.evaluation.scoring import MaskFilter, labelled_scenes

PHOTOS = {"coco-train100": 20, "panoptic-ccp": 40, "panoptic-duts-3": 60}
"""Sets, and how many of their photos, from the first, were kept out of training."""
SHARES = (0.0, 0.1, 0.2, 0.4, 1.01)


def main() -> None:
    """Measure, print a line for each set and zoom, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--zooms", type=float, nargs="+", default=[0, 2, 3])
    parser.add_argument("--json", type=Path, default=_report.RESULTS / "zoom.json")
    options = parser.parse_args()
    report: dict[str, Any] = {"benchmark": "zoom", "machine": _report.machine(), "rows": []}
    composer = Composer.load("tiny")
    for name, count in PHOTOS.items():
        folder = unpacked(name)
        if folder is None:
            print(f"{name}: not here, left out")
            continue
        for zoom in options.zooms:
            row = measured(composer, next(path for path in folder.iterdir() if path.is_dir()), count, zoom)
            report["rows"].append({"set": name, "zoom": zoom} | row)
            print(json.dumps(report["rows"][-1]), flush=True)
    options.json.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written to {options.json}")


def measured(composer: Composer, folder: Path, count: int, zoom: float) -> dict[str, Any]:
    """One set at one zoom."""
    truth = open_panoptic(folder).limited(count)
    found: list[tuple[float, float]] = []
    passes, seconds = [], []
    for _, seen, segments in labelled_scenes(composer.open, truth, MaskFilter(min_area=100), None):
        masks = [segment.rle for segment in segments]
        boxes = bounding_boxes(masks)
        composer.cache.clear()
        start = time.perf_counter()
        scene = composer.open(seen.image)
        answer = scene.run(Boxes(boxes, zoom=zoom))
        assert isinstance(answer, Instances)
        seconds.append(time.perf_counter() - start)
        passes.append(1 + (len(windows_of(boxes, scene.size, zoom)) if zoom else 0))
        shares = (boxes[:, 2:] - boxes[:, :2]).max(1) / max(scene.size)
        ious = [rle_iou(one, mask) for one, mask in zip(answer.rles, masks, strict=True)]
        found += zip(shares.tolist(), ious, strict=True)
    every, scores = np.array(found).T
    by_share = {
        f"{low:g} to {min(high, 1):g}": {"boxes": int(within.sum()), "iou": _percent(scores[within])}
        for low, high in itertools.pairwise(SHARES)
        if (within := (every >= low) & (every < high)).any()
    }
    return {
        "boxes": len(scores),
        "iou": _percent(scores),
        "by_share": by_share,
        "encoder_passes": round(statistics.mean(passes), 1),
        "seconds": round(statistics.median(seconds), 2),
    }


def _percent(ious: Any) -> float:
    return round(100 * float(np.mean(ious)), 1)


if __name__ == "__main__":
    main()
