"""Object proposals: average recall of `tiny` beside two classical methods, one evaluator; time and memory.

    python benchmarks/proposals.py [--data DIR] [--limit N] [--json FILE]

The classical ones are made with scikit-image (`pip install -e '.[bench]'`): Felzenszwalb's segments at eight
scales, and the hierarchy of merging SLIC superpixels by mean colour, which is selective search's idea at its
simplest. DIR is a COCO-panoptic folder; coco-train100 is looked for in ../shared/data, and unpacked to /tmp.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from _shared import ROOT, own_process, unpacked

HELD_OUT = 20
Pixels = npt.NDArray[np.uint8]


def felzenszwalb_segments(pixels: Pixels) -> list[npt.NDArray[np.bool_]]:
    """Segments at eight scales; the larger come first."""
    from skimage.segmentation import felzenszwalb

    masks = []
    for scale in (30, 60, 120, 250, 500, 1000, 2000, 4000):
        labels = felzenszwalb(pixels, scale=scale, sigma=0.8, min_size=50)
        masks += [labels == label for label in np.unique(labels)]
    return sorted(masks, key=lambda mask: -int(mask.sum()))[:1000]


def merged_superpixels(pixels: Pixels) -> list[npt.NDArray[np.bool_]]:
    """400 superpixels, and every region that comes of merging the two most alike neighbours."""
    from skimage.color import rgb2lab
    from skimage.segmentation import slic

    labels = slic(pixels, n_segments=400, compactness=10, start_label=0)
    lab = rgb2lab(pixels)
    count = labels.max() + 1
    sizes = np.bincount(labels.ravel(), minlength=count).astype(float)
    colour = np.stack([np.bincount(labels.ravel(), lab[..., c].ravel(), count) for c in range(3)], 1)
    colour /= np.maximum(sizes, 1)[:, None]
    touching = [
        np.stack([first.ravel(), second.ravel()], 1)
        for first, second in ((labels[:, 1:], labels[:, :-1]), (labels[1:], labels[:-1]))
    ]
    pairs = distinct(np.concatenate(touching))
    members = {i: [i] for i in range(count)}
    found = [[i] for i in range(count)]
    while len(pairs) and len(members) > 2:
        a, b = pairs[np.linalg.norm(colour[pairs[:, 0]] - colour[pairs[:, 1]], axis=1).argmin()]
        total = sizes[a] + sizes[b]
        colour[a] = (colour[a] * sizes[a] + colour[b] * sizes[b]) / total
        sizes[a] = total
        members[a] = members[a] + members.pop(b)
        pairs = distinct(np.where(pairs == b, a, pairs))
        found.append(members[a])
    areas = np.bincount(labels.ravel(), minlength=count)
    found.sort(key=lambda parts: -int(areas[parts].sum()))
    return [np.isin(labels, parts) for parts in found[:1000]]


def distinct(pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(n, 2) neighbours, each pair once and the smaller number first."""
    pairs = np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1)
    return np.unique(pairs, axis=0)


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--limit", type=int, default=HELD_OUT)
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks/results/proposals.json")
    parser.add_argument("--cost-only", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cost_only:
        print(json.dumps(cost()))
        return
    report: dict[str, Any] = {"cost": own_process(__file__, "--cost-only")}
    print(json.dumps(report["cost"]))
    folder = options.data or shared_coco()
    if folder is None:
        print("no coco-train100 here (--data DIR): recall is not measured")
    else:
        report["recall"] = recall(folder, options.limit)
    options.json.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written to {options.json}")


def recall(folder: Path, limit: int) -> dict[str, Any]:
    """Average recall of each method on the first photos of a COCO-panoptic folder."""
    from adapters.base import Scene
    from adapters.results import Instances
    from adapters.rle import bounding_boxes, encode_mask
    from composer import Composer
    from composer.evaluation.ground_truth import open_panoptic
    from composer.evaluation.proposals import evaluate_proposals

    truth = open_panoptic(folder).limited(limit)
    composer = Composer.load("tiny")

    def of(method: Any) -> Any:
        def propose(scene: Scene) -> Instances:
            rles = [encode_mask(mask) for mask in method(scene.image)]
            scores = np.linspace(1, 0, len(rles), dtype=np.float32)
            return Instances(scene.size, tuple(rles), bounding_boxes(rles), scores)

        return propose

    methods = {"tiny": None, "Felzenszwalb, 8 scales": of(felzenszwalb_segments)}
    methods["merged superpixels"] = of(merged_superpixels)
    rows = {}
    for name, method in methods.items():
        started = time.perf_counter()
        found = evaluate_proposals(composer.open, truth, propose=method)
        rows[name] = found.to_json() | {
            "seconds_per_photo": round((time.perf_counter() - started) / len(truth), 2)
        }
        print(f"{name:<24}", rows[name], flush=True)
    return rows


def cost() -> dict[str, float]:
    """Seconds of 1000 proposals on a photo of 481 x 321 pixels (encoding included), and peak memory."""
    import cv2

    from composer import Composer, Proposals

    composer = Composer.load("tiny")
    photo = np.random.default_rng(0).integers(0, 256, (321, 481, 3), dtype=np.uint8)
    photo = cv2.GaussianBlur(photo, (0, 0), 6)
    times = []
    for number in range(4):
        photo[0, 0] = number  # another photo, for the cache
        started = time.perf_counter()
        composer.open(photo).run(Proposals())
        times.append(time.perf_counter() - started)
    return {
        "proposals_481x321_seconds": round(statistics.median(times[1:]), 3),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def shared_coco() -> Path | None:
    """The folder of coco-train100 that holds its index."""
    folder = unpacked("coco-train100")
    return folder and next(path.parent for path in folder.rglob("panoptic.json"))


if __name__ == "__main__":
    main()
