"""Edges on BSDS500 test: `tiny` beside Canny and Sobel, with one evaluator; time and memory on one photo.

    python benchmarks/edges.py [--bsds ROOT] [--limit N] [--json FILE] [--plot FILE] [--again]

BSDS500's test split is looked for in ../shared/data, and unpacked to /tmp; without it only time and memory
are measured. All methods take about an hour on two cores, so each is kept as it is done: what the JSON
file holds of the same weights and as many photos is not measured anew, unless --again says so.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from _shared import ROOT, own_process, unpacked

Map = npt.NDArray[np.float64]
PUBLISHED = {
    "Sobel (as published)": {"ods": 0.539},
    "Canny (as published)": {"ods": 0.600, "ois": 0.640, "ap": 0.580},
    "gPb-owt-ucm (as published)": {"ods": 0.726, "ois": 0.757, "ap": 0.696},
    "SAM ViT-H (as published)": {"ods": 0.768, "ois": 0.786, "ap": 0.794, "r50": 0.928},
}
"""From the paper's Table 3."""
FIGURES = ("ods", "ods_threshold", "ois", "ap", "r50")


def canny(path: Path) -> Map:
    """The highest of 99 thresholds at which a pixel is an edge; the lower threshold is .4 of the upper."""
    grey = cv2.GaussianBlur(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype(np.float32), (0, 0), 2.0)
    x, y = (cv2.Sobel(grey, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
    scale = 4000 / max(float(np.hypot(x, y).max()), 1e-6)  # OpenCV wants 16-bit gradients
    x, y = (np.rint(v * scale).astype(np.int16) for v in (x, y))
    found = np.zeros(grey.shape)
    for threshold in np.linspace(0.01, 0.99, 99):
        edges = cv2.Canny(x, y, 0.4 * threshold * 4000, threshold * 4000, L2gradient=True)
        found[edges > 0] = threshold
    return found


def sobel(path: Path) -> Map:
    """Length of the gradient, 1 at its highest."""
    grey = cv2.GaussianBlur(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype(np.float64), (0, 0), 1.0)
    length = np.hypot(*(cv2.Sobel(grey, cv2.CV_64F, *order) for order in ((1, 0), (0, 1))))
    return np.asarray(length / max(float(length.max()), 1e-9))


def of_model(source: str) -> Callable[[Path], Map]:
    """Thinned edges of `tiny`."""
    from composer import Composer, Edges

    composer = Composer.load("tiny")
    request = Edges(source=source, thin=True)  # type: ignore[arg-type]
    return lambda path: composer.open(path).run(request).values.astype(np.float64)  # type: ignore[union-attr]


def main() -> None:
    """Measure, print a table, write JSON and the curves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bsds", type=Path)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks/results/edges.json")
    parser.add_argument("--plot", type=Path, default=ROOT / "benchmarks/results/edges.png")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--cost-only", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cost_only:
        print(json.dumps(cost()))
        return
    known = json.loads(options.json.read_text()) if options.json.is_file() and not options.again else {}
    report: dict[str, Any] = {"cost": own_process(__file__, "--cost-only")}
    print(json.dumps(report["cost"]))
    root = options.bsds or unpacked("bsds500-test")
    if root is None:
        print("no BSDS500 here (--bsds ROOT): accuracy is not measured")
        options.json.write_text(json.dumps({**known, **report}, indent=1) + "\n")
        return
    for rows, count in accuracy(root, options.limit, known):
        report |= {"images": count, "measured": rows, "published": PUBLISHED}
        options.json.write_text(json.dumps(report, indent=1) + "\n")
        draw(rows, f"BSDS500 test, {count} photos", options.plot)
    print(f"written to {options.json} and {options.plot}")


def accuracy(root: Path, limit: int | None, known: dict[str, Any]) -> Iterator[tuple[dict[str, Any], int]]:
    """All rows so far and the number of photos, after each method."""
    from composer import Composer
    from composer.evaluation.boundaries.evaluate import evaluate_boundaries
    from composer.evaluation.boundaries.truth import open_bsds

    truth = open_bsds(root).limited(limit)
    composer = Composer.load("tiny")
    digest, sizes = composer.model.digest, " and ".join(map(str, composer.preset.defaults.edge_sizes))
    methods: dict[str, Callable[[], Callable[[Path], Map]]] = {
        f"tiny, head at {sizes}": lambda: of_model("head"),
        "Canny": lambda: canny,
        "Sobel": lambda: sobel,
        "tiny, masks": lambda: of_model("masks"),
    }
    rows: dict[str, Any] = {}
    before = known.get("measured", {}) if known.get("images") == len(truth) else {}
    for name, load in methods.items():
        weights = digest if name.startswith("tiny") else None
        if before.get(name, {}).get("weights_sha256", "") == weights:
            rows[name] = before[name]
        else:
            started, run = time.perf_counter(), load()
            found = evaluate_boundaries(truth, lambda image, run=run: run(image.path)).to_json()  # type: ignore[misc]
            rows[name] = {k: found[k] for k in FIGURES} | {
                "seconds": round(time.perf_counter() - started),
                "weights_sha256": weights,
                "curve": [
                    [point[k] for k in ("threshold", "recall", "precision")] for point in found["curve"]
                ],
            }
        print(f"{name:<28}", {k: rows[name][k] for k in (*FIGURES, "seconds")}, flush=True)
        yield rows, len(truth)


def draw(rows: dict[str, Any], title: str, path: Path) -> None:
    """Precision over recall of every method, over lines of equal F."""
    from matplotlib.figure import Figure

    from composer.evaluation.boundaries.report import draw_iso_f

    figure = Figure(figsize=(5.5, 5.2), layout="constrained")
    axes = figure.add_subplot()
    draw_iso_f(axes)
    for name, row in rows.items():
        threshold, recall, precision = np.array(row["curve"]).T
        best = int(np.abs(threshold - row["ods_threshold"]).argmin())
        seen = recall > 0
        (line,) = axes.plot(recall[seen], precision[seen], linewidth=2, label=f"{name}: {row['ods']:.3f}")
        axes.plot(recall[best], precision[best], "o", color=line.get_color(), markersize=6)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="recall", ylabel="precision", aspect="equal")
    axes.set_title(title, fontsize=10)
    axes.legend(loc="lower left", fontsize=8, title="ODS", title_fontsize=8)
    figure.savefig(path, dpi=150)


def cost() -> dict[str, float]:
    """Seconds of edges on a photo of 481 x 321 pixels (encoding included), and this process's peak memory."""
    from composer import Composer, Edges

    composer = Composer.load("tiny")
    photo = np.random.default_rng(0).integers(0, 256, (321, 481, 3), dtype=np.uint8)
    photo = cv2.GaussianBlur(photo, (0, 0), 6)
    times = []
    for number in range(6):
        photo[0, 0] = number  # another photo, for the cache
        started = time.perf_counter()
        composer.open(photo).run(Edges())
        times.append(time.perf_counter() - started)
    return {
        "edges_481x321_seconds": round(statistics.median(times[1:]), 3),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


if __name__ == "__main__":
    main()
