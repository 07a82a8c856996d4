"""Segment one photo by a click, by a box, and everything in it: what `make demo` runs.

The photo is the one that the ultralytics package brings along; another may be given:

    python examples/demo.py [PHOTO] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from composer import Boxes, Composer, Everything, Points
from composer.overlay import draw_instances, draw_prompts

CLICK = (130, 560)
"""On the man in the pale coat, x and y in pixels."""
BOX = (10, 226, 810, 756)
"""Around the bus, x1, y1, x2, y2 in pixels."""


def main() -> None:
    """Run the three requests on one encoded photo, and draw what came of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("photo", nargs="?", type=Path, help="default: the bundled bus.jpg")
    parser.add_argument("--out", type=Path, default=Path("out/demo"))
    options = parser.parse_args()
    photo = options.photo or bundled_photo()
    options.out.mkdir(parents=True, exist_ok=True)

    print(f"photo: {photo}")
    started = time.perf_counter()
    with step("load the `tiny` model"):
        composer = Composer.load("tiny")
    with step("encode the photo, once"):
        scene = composer.open(photo)
    height, width = scene.size
    clicks, boxes = [CLICK], [BOX]
    if options.photo:  # another photo: its middle
        clicks = [(width // 2, height // 2)]
        boxes = [(width // 4, height // 4, width - width // 4, height - height // 4)]

    for name, what, request, marks in (
        ("click", "segment by a click", Points(clicks), {"points": clicks}),
        ("box", "segment by a box", Boxes(boxes), {"boxes": boxes}),
        ("everything", "segment everything", Everything(), {}),
    ):
        with step(what):
            found = scene.run(request)
        picture = draw_prompts(np.asarray(draw_instances(scene.image, found)), **marks)
        path = options.out / f"{name}.png"
        picture.save(path)
        print(f"{'':29}{len(found)} {'mask' if len(found) == 1 else 'masks'}, drawn in {path}")
    print(f"all of it: {time.perf_counter() - started:.1f} s; the pictures are in {options.out.resolve()}")


@contextmanager
def step(what: str) -> Iterator[None]:
    """Print what is being done, then how long it took."""
    print(f"  {what:<26} ", end="", flush=True)
    started = time.perf_counter()
    yield
    print(f"{time.perf_counter() - started:6.2f} s", flush=True)


def bundled_photo() -> Path:
    """bus.jpg in the installed ultralytics, found without importing it: importing writes a settings file."""
    package = importlib.util.find_spec("ultralytics")
    for folder in (package.submodule_search_locations if package else None) or ():
        photo = Path(folder, "assets", "bus.jpg")
        if photo.is_file():
            return photo
    sys.exit("the ultralytics package with its photo is not installed: name a photo, examples/demo.py PHOTO")


if __name__ == "__main__":
    main()
