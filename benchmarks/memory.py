"""Peak memory of 32 x 32 automatic masks against the size of the image, each in a process of its own.

    python benchmarks/memory.py [--models tiny,vit_b] [--megapixels 1,6,12,25,50] [--peers] [--json FILE]

`vit_b` has random weights: memory and time are those of the published ones, masks are noise. Thresholds are
off, so that no work is skipped. `--peers` adds segment-anything's generator with the same weights through a
state dict, at the sizes where its 64 clicks a batch fit: it holds their masks at full size in float32, twice.
A size that it cannot do is reported as such, not left out.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from _shared import ROOT
from foundation import bundled_photo, machine

RATIO = 1.5
BUDGET_MIB = 3 * 1000**3 / 2**20
"""3 GB, what the whole process may take on an image of 50 megapixels."""
PEER = "segment-anything"


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="tiny,vit_b")
    parser.add_argument("--megapixels", default="1,6,12,25,50")
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks/results/memory.json")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        way, model, megapixels = options.one.split(":")
        measure = of_segment_anything if way == PEER else of_ours
        print(json.dumps(measure(model, float(megapixels))))
        return
    rows = []
    for model in options.models.split(","):
        for megapixels in options.megapixels.split(","):
            for way in ["sam-composer"] + [PEER] * (options.peers and model != "tiny"):
                row = {"model": model, "megapixels": float(megapixels), "way": way}
                rows.append(row | in_own_process(f"{way}:{model}:{megapixels}"))
                print(rows[-1], flush=True)
    report = {"benchmark": "memory", "machine": machine(), "budget_mib": round(BUDGET_MIB), "rows": rows}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written to {options.json}")


def in_own_process(one: str) -> dict[str, Any]:
    """The figures of one run, or how it ended where it did not survive."""
    done = subprocess.run(
        [sys.executable, __file__, "--one", one], capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["killed"])[-1]
        return {"failed": f"exit {done.returncode}: {last[:120]}"}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def of_ours(name: str, megapixels: float) -> dict[str, Any]:
    """Encode and segment everything; this process's peak."""
    from composer import Composer, Everything
    from composer.limits import Limits

    limits = Limits(max_pixels=100_000_000)
    if name == "tiny":
        composer = Composer.load("tiny", device="cpu", precision="fp32", limits=limits)
    else:
        composer = with_random_weights(name, limits)
    pixels = photo(megapixels)
    started = time.perf_counter()
    scene = composer.open(pixels)
    encoded = time.perf_counter()
    found = scene.run(Everything(pred_iou_thresh=0, stability_score_thresh=0, max_mask_area_fraction=None))
    return figures(started, encoded, len(found))


def of_segment_anything(name: str, megapixels: float) -> dict[str, Any]:
    """The same by segment-anything; its predictor encodes within the call."""
    from segment_anything import SamAutomaticMaskGenerator, sam_model_registry

    from composer.limits import Limits

    sam = sam_model_registry[name]()
    sam.load_state_dict(with_random_weights(name, Limits()).model.state_dict())
    generator = SamAutomaticMaskGenerator(
        sam.eval(), pred_iou_thresh=0, stability_score_thresh=0, output_mode="coco_rle"
    )
    pixels = photo(megapixels)
    started = time.perf_counter()
    return figures(started, started, len(generator.generate(pixels)))


def figures(started: float, encoded: float, masks: int) -> dict[str, Any]:
    """Seconds by the clock, and the peak of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        1 << 20 if sys.platform == "darwin" else 1024
    )
    return {
        "peak_mib": round(peak),
        "encode_seconds": round(encoded - started, 2),
        "seconds": round(time.perf_counter() - started, 2),
        "masks": masks,
    }


def with_random_weights(name: str, limits: Any) -> Any:
    """A composer of an architecture with seeded random weights."""
    import torch

    from composer import Composer
    from composer.presets import load_preset
    from sam.allocation import keep_freed_memory
    from sam.precision import choose_precision
    from sam.variants import build_model

    keep_freed_memory()
    preset = load_preset(name)
    torch.manual_seed(0)
    model = build_model(preset.model)
    return Composer(model, preset, choose_precision(torch.device("cpu"), "fp32"), limits)


def photo(megapixels: float) -> npt.NDArray[np.uint8]:
    """bus.jpg of the installed ultralytics, enlarged to 3:2."""
    height = round((megapixels * 1e6 / RATIO) ** 0.5)
    image = cv2.cvtColor(cv2.imread(str(bundled_photo())), cv2.COLOR_BGR2RGB)
    return np.asarray(cv2.resize(image, (round(megapixels * 1e6 / height), height)), np.uint8)


if __name__ == "__main__":
    main()
