"""How the cost of automatic masks grows: with the clicks, with the image, with the images in a batch.

    python benchmarks/scaling.py [--json FILE] [--plot FILE] [--repeats N]

With `tiny`, thresholds off, so that no work is skipped. It should be linear in the clicks, flat in the
image's size but for the masks drawn in the end, and at most linear in the images. Each curve comes with its
exponent: the slope of seconds over size in logarithms, 1 for linear, 0 for flat. Seconds are of the
processor, all threads added up (medians), which other programs on the machine disturb least; the clock's
stand beside them in the JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from _shared import ROOT
from foundation import bundled_photo, machine

Pixels = npt.NDArray[np.uint8]
PER_SIDE = (8, 16, 32, 64)
MEGAPIXELS = (0.5, 1, 2, 6, 12, 24)
IMAGES = (1, 2, 4, 8, 16)
PHOTO = (1200, 1800)


def main() -> None:
    """Measure, print, write JSON and a plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks/results/scaling.json")
    parser.add_argument("--plot", type=Path, default=ROOT / "benchmarks/results/scaling.png")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    curves = {
        "clicks": by_clicks(options.repeats),
        "megapixels": by_size(options.repeats),
        "images": by_images(options.repeats),
    }
    for name, rows in curves.items():
        for what in rows[0]["processor_seconds"]:
            print(f"{what} over {name}: exponent {exponent(rows, what):.2f}")
        for row in rows:
            print("  ", row)
    exponents = {
        name: {what: round(exponent(rows, what), 3) for what in rows[0]["processor_seconds"]}
        for name, rows in curves.items()
    }
    report = {"benchmark": "scaling", "machine": machine(), "exponents": exponents, "curves": curves}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(report, indent=1) + "\n")
    draw(curves, options.plot)
    print(f"written to {options.json} and {options.plot}")


def by_clicks(repeats: int) -> list[dict[str, Any]]:
    """A photo of 1200 x 1800 pixels, from 64 to 4,096 clicks."""
    from composer import Composer, Everything

    scene = Composer.load("tiny").open(photo(*PHOTO))
    rows = []
    for side in PER_SIDE:
        request = Everything(points_per_side=side, pred_iou_thresh=0, stability_score_thresh=0)
        found, seconds = clock({"everything": lambda request=request: scene.run(request)}, repeats)
        rows.append({"clicks": side**2, "masks": len(found["everything"])} | seconds)
    return rows


def by_size(repeats: int) -> list[dict[str, Any]]:
    """One photo at growing sizes and 256 clicks: the same things to be seen in each."""
    from composer import Composer, Everything
    from composer.limits import Limits

    request = Everything(points_per_side=16, pred_iou_thresh=0, stability_score_thresh=0)
    composer = Composer.load("tiny", limits=Limits(embedding_cache_bytes=0))
    rows = []
    for megapixels in MEGAPIXELS:
        height = round((megapixels * 1e6 * PHOTO[0] / PHOTO[1]) ** 0.5)
        pixels = photo(height, round(megapixels * 1e6 / height))
        scene = composer.open(pixels)
        work = {
            "encode": lambda p=pixels: composer.model.encode([p]),
            "everything": lambda s=scene: s.run(request),
        }
        found, seconds = clock(work, repeats)
        rows.append({"megapixels": megapixels, "masks": len(found["everything"])} | seconds)
    return rows


def by_images(repeats: int) -> list[dict[str, Any]]:
    """From 1 to 16 photos in one pass of the encoder, and a click on each in one decode beside one by one."""
    from adapters.together import answer_together
    from composer import Composer, Points

    composer = Composer.load("tiny")
    photos = [photo(480, 640 + 8 * number) for number in range(max(IMAGES))]
    scenes = [composer.open(pixels) for pixels in photos]
    click = Points([[200, 240]])
    rows = []
    for count in IMAGES:
        some, shown = photos[:count], scenes[:count]
        work = {
            "encode together": lambda some=some: composer.model.encode(some),
            "encode one by one": lambda some=some: [composer.model.encode([one]) for one in some],
            "clicks together": lambda shown=shown: answer_together(shown, [click] * len(shown)),
            "clicks one by one": lambda shown=shown: [scene.run(click) for scene in shown],
        }
        rows.append({"images": count} | clock(work, repeats)[1])
    return rows


def clock(
    work: dict[str, Callable[[], Any]], repeats: int
) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """What each call gives, and its median seconds after a first one that does not count; calls in turn."""
    found = {name: call() for name, call in work.items()}
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in work}
    for _ in range(repeats):
        for name, call in work.items():
            before = time.process_time(), time.perf_counter()
            call()
            spent[name].append((time.process_time() - before[0], time.perf_counter() - before[1]))
    medians = [
        {name: round(statistics.median(pair[i] for pair in pairs), 4) for name, pairs in spent.items()}
        for i in (0, 1)
    ]
    return found, {"processor_seconds": medians[0], "seconds": medians[1]}


def exponent(rows: Sequence[dict[str, Any]], what: str) -> float:
    """Slope of processor seconds over the first column, both in logarithms."""
    first = next(iter(rows[0]))
    x = np.log([row[first] for row in rows])
    y = np.log([row["processor_seconds"][what] for row in rows])
    return float(np.polyfit(x, y, 1)[0])


def photo(height: int, width: int) -> Pixels:
    """bus.jpg of the installed ultralytics at another size, (height, width, 3) uint8 RGB."""
    image = cv2.cvtColor(cv2.imread(str(bundled_photo())), cv2.COLOR_BGR2RGB)
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def draw(curves: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """The three curves side by side, both axes in logarithms; a dotted line is linear growth."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4), layout="constrained")
    for axes, (name, rows) in zip(figure.subplots(1, 3), curves.items(), strict=True):
        x = np.array([row[name] for row in rows], float)
        highest = 0.0
        for what in rows[0]["processor_seconds"]:
            y = np.array([row["processor_seconds"][what] for row in rows])
            axes.plot(x, y, "o-", label=f"{what}: {exponent(rows, what):.2f}")
            highest = max(highest, float(y[0]))
        axes.plot(x, highest * x / x[0], ":", color="grey")
        axes.set(xscale="log", yscale="log", xlabel=name, ylabel="processor seconds")
        axes.legend(fontsize=7, title="exponent", title_fontsize=7)
    figure.suptitle("`tiny`, thresholds off", fontsize=10)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
