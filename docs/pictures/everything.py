"""The picture of the model card: what ``Everything()`` of ``tiny`` finds in everyday photos.

    python docs/pictures/everything.py [PHOTO...]

Without photos it takes those of ultralytics, matplotlib, gradio and scikit-image (of the extra `bench`).
Beside each photo are all masks that are kept at the preset's thresholds, with nothing chosen by hand.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from composer import Composer, Everything
from composer.overlay import draw_instances

PICTURE = ROOT / "docs/pictures/tiny-everything.jpg"
PHOTOS = {
    "ultralytics": ("assets/bus.jpg", "assets/zidane.jpg"),
    "matplotlib": ("mpl-data/sample_data/grace_hopper.jpg",),
    "gradio": tuple(f"media_assets/images/{name}.jpg" for name in ("cheetah", "cheetah1", "lion", "tower")),
    "skimage": tuple(f"data/{name}.png" for name in ("astronaut", "chelsea", "coffee")),
}
HEIGHT, GAP, WIDTH = 240, 8, 1460


def bundled() -> list[Path]:
    """The photos of installed packages; none of them is imported."""
    found = []
    for package, names in PHOTOS.items():
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            found += [Path(next(iter(spec.submodule_search_locations)), name) for name in names]
    return [path for path in found if path.is_file()]


def pair(composer: Composer, path: Path) -> Image.Image:
    """A photo, and its masks over it, side by side."""
    scene = composer.open(path)
    found = scene.run(Everything())
    print(f"{path.name}: {len(found)} masks")
    drawn = draw_instances(scene.image, found, labels=False)
    sides = [
        side.resize((round(side.width * HEIGHT / side.height), HEIGHT))
        for side in (Image.fromarray(scene.image), drawn)
    ]
    both = Image.new("RGB", (2 * sides[0].width + 2, HEIGHT), "white")
    both.paste(sides[0], (0, 0))
    both.paste(sides[1], (sides[0].width + 2, 0))
    return both


def main() -> None:
    """Draw them in rows."""
    composer = Composer.load("tiny")
    pairs = [pair(composer, path) for path in [Path(name) for name in sys.argv[1:]] or bundled()]
    rows: list[list[Image.Image]] = [[]]
    for one in pairs:
        if rows[-1] and sum(before.width + GAP for before in rows[-1]) + one.width > WIDTH:
            rows.append([])
        rows[-1].append(one)
    sheet = Image.new("RGB", (WIDTH, len(rows) * (HEIGHT + GAP) - GAP), "white")
    for y, row in enumerate(rows):
        x = 0
        for one in row:
            sheet.paste(one, (x, y * (HEIGHT + GAP)))
            x += one.width + GAP
    sheet.save(PICTURE, quality=85)
    print(PICTURE)


if __name__ == "__main__":
    main()
