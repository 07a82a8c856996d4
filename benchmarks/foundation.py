"""Speed and memory of the parts that everything stands on, measured with the embedded `tiny` weights.

    python benchmarks/foundation.py [--json FILE] [--repeats N]

Each figure is the median of some repeats after one warm-up; the spread is printed, because machines are
noisy. Memory is the peak of a process of its own, with nothing else in it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "foundation.json")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    rows: dict[str, dict[str, float]] = {
        f"import composer, {'with' if imports_torch() else 'without'} torch (s)": in_process(
            "import composer", options.repeats
        ),
    }
    rows |= timings(options.repeats)
    rows["peak memory, Everything() at 12 megapixels (MiB)"] = peak_memory()
    report = {"machine": machine(), "rows": rows}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report["machine"]))
    for name, row in rows.items():
        print(f"{name:<55} {row['median']:10.3f}   {row['low']:.3f} to {row['high']:.3f}")
    print(f"written to {options.json}")


def in_process(code: str, repeats: int) -> dict[str, float]:
    """Seconds that ``code`` takes in a fresh interpreter, less those of starting it."""

    def run(what: str) -> float:
        timed = f"import time; t = time.perf_counter(); {what}; print(time.perf_counter() - t)"
        done = subprocess.run([sys.executable, "-c", timed], cwd=ROOT, capture_output=True, check=True)
        return float(done.stdout)

    run(code)
    return summary([run(code) for _ in range(repeats)])


def imports_torch() -> bool:
    """Whether ``import composer`` brings torch along: it must not."""
    code = "import sys, composer; sys.exit('torch' in sys.modules)"
    return bool(subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode)


def timings(repeats: int) -> dict[str, dict[str, float]]:
    """Seconds of encoding, of a click, of a box, of everything, on the bundled photo."""
    from composer import Boxes, Composer, Everything, Points

    composer = Composer.load("tiny")
    photo = bundled_photo()
    pixels = composer.open(photo).image
    scene = composer.open(photo)
    boxes = np.tile(np.array([[10, 226, 810, 756]], np.float32), (100, 1))
    return {
        "encode bus.jpg (s)": clock(lambda: composer.model.encode([pixels]), repeats),
        "one click (s)": clock(lambda: scene.run(Points([[130, 560]])), repeats),
        "100 boxes in one call (s)": clock(lambda: scene.run(Boxes(boxes)), repeats),
        "Everything(), 32 x 32 clicks (s)": clock(lambda: scene.run(Everything()), min(repeats, 3)),
        "Everything(), thresholds off (s)": clock(
            lambda: scene.run(Everything(pred_iou_thresh=0, stability_score_thresh=0)), 1
        ),
    }


def peak_memory() -> dict[str, float]:
    """MiB at the peak of a process that segments everything in a 12-megapixel photo."""
    code = (
        "import numpy as np, resource; from PIL import Image; from composer import Composer, Everything;"
        f"photo = Image.open({str(bundled_photo())!r}).resize((3000, 4000));"
        "found = Composer.load('tiny').open(np.asarray(photo)).run(Everything());"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, len(found))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, text=True)
    peak, masks = (float(v) for v in done.stdout.split())
    return {"median": peak, "low": peak, "high": peak, "masks": masks}


def clock(call: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Seconds of ``call``, after one warm-up."""
    call()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return summary(seconds)


def summary(values: list[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import torch

    from sam.precision import choose_precision

    precision = choose_precision(torch.device("cpu"))
    return {
        "cpu": processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "precision": precision.name,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "peak_rss_of_this_process_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def processor() -> str:
    """The processor's own name where Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def bundled_photo() -> Path:
    """bus.jpg of the installed ultralytics, which is not imported."""
    spec = importlib.util.find_spec("ultralytics")
    assert spec is not None and spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations)), "assets", "bus.jpg")


if __name__ == "__main__":
    main()
