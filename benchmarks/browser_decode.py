"""How long one click takes in the annotator, in headless Chromium: from the prompt to its masks' logits.

    python benchmarks/browser_decode.py [--clicks N] [--models tiny vit_b] [--pauses S...] [--json FILE]

The annotator is served from this process and used as people use it: N clicks on a photo, one after the other.
The page itself measures each decode (`performance.measure("decode")`): one for each click, that of the look
which it takes as the pointer arrives; the first ten are left out. Models: `tiny`, and ViT-B's decoder (an
embedding of 64 x 64 x 256) wired so that a click is answered by blobs: random weights answer with noise, the
outlines of which keep the page busy for seconds beside the decoder. With as many threads as the machine has
cores, and with one; with a pause before each click, as people make, and without one, where the page still
draws the last answer beside the decoder. Needs Chromium, playwright, and onnxruntime-web (`make setup`, where
npm is).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import _models
import numpy as np
import torch
from PIL import Image as PILImage

from apps.annotator import vendor
from apps.annotator_api.server import running
from composer import Composer
from composer.presets import load_preset
from sam.precision import choose_precision

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
WARM_UP = 10


def main() -> None:
    """Measure, print a line for each row, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clicks", type=int, default=50)
    parser.add_argument("--models", nargs="+", default=["tiny", "vit_b"])
    parser.add_argument("--pauses", type=float, nargs="+", default=[0.5, 0.0], help="seconds before a click")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks/results/browser_decode.json")
    options = parser.parse_args()
    if not Path(CHROMIUM).is_file() or not vendor.present():
        sys.exit(f"needs {CHROMIUM} (apt-get install chromium), and onnxruntime-web: {vendor.REMEDY}")
    from playwright.sync_api import sync_playwright

    rows = []
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        _photo(Path(folder) / "photos")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        for name in options.models:
            composer = _composer(name)
            with running(composer, Path(folder) / "photos") as address:
                for threads, pause in product((os.cpu_count() or 1, 1), options.pauses):
                    row = _row(browser, f"{address}/?backend=wasm&threads={threads}", options.clicks, pause)
                    rows.append({"model": name} | row)
                    print(json.dumps(rows[-1]), flush=True)
        about = {
            "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
            "chromium": browser.version,
            "onnxruntime_web": vendor.VERSION,
            "clicks": options.clicks,
        }
        browser.close()
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")
    print(f"written to {options.json}")


def _composer(name: str) -> Composer:
    """A preset; with weights of :mod:`_models` where its own are not at hand: the decoder takes as long."""
    if name == "tiny":
        return Composer.load(name, device="cpu", precision="fp32")
    return Composer(_models.blobs(name), load_preset(name), choose_precision(torch.device("cpu"), "fp32"))


def _photo(folder: Path) -> None:
    folder.mkdir()
    PILImage.fromarray(_models.photo(600, 800)).save(folder / "photo.png")


def _row(browser: Any, address: str, clicks: int, pause: float) -> dict[str, Any]:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(600_000)
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    box = page.locator("#stage").bounding_box()
    for x, y in np.random.default_rng(1).random((WARM_UP + clicks, 2)):
        place = box["x"] + (0.25 + x / 2) * box["width"], box["y"] + (0.25 + y / 2) * box["height"]
        page.wait_for_timeout(1000 * pause)
        page.mouse.click(*place)
        page.wait_for_selector("#choices:not([hidden])")
        page.keyboard.press("Escape")
        page.wait_for_selector("#choices", state="hidden")
    spent = page.evaluate("() => performance.getEntriesByName('decode').map((entry) => entry.duration)")
    isolated = page.evaluate("() => crossOriginIsolated")
    runtime = page.text_content("#speed").partition(", ")[2]
    page.close()
    spent = sorted(spent[WARM_UP:])
    places = {"median_ms": len(spent) / 2, "p10_ms": len(spent) / 10, "p90_ms": len(spent) * 0.9}
    return {
        "runtime": runtime,
        "isolated": isolated,
        "pause_s": pause,
        **{name: round(spent[int(place)], 1) for name, place in places.items()},
        "decodes": len(spent),
        "load_average": round(os.getloadavg()[0], 1),
    }


if __name__ == "__main__":
    main()
