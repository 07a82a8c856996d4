"""Segment everything in some photos and write one COCO file, which pycocotools and others read.

python examples/everything_to_coco.py OUT.json PHOTO...
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from composer import Composer, Everything


def main(out: str, photos: list[str]) -> None:
    """Write ``out`` with one record for each photo and for each mask."""
    composer = Composer.load("tiny")
    images, annotations = [], []
    for number, photo in enumerate(photos, start=1):
        scene = composer.open(photo)
        # A coarser grid than the default 32 x 32 clicks: quicker, and large objects are found all the same.
        found = scene.run(Everything(points_per_side=16))
        height, width = scene.size
        images.append({"id": number, "file_name": Path(photo).name, "width": width, "height": height})
        annotations += found.to_coco(image_id=number)
        print(f"{photo}: {len(found)} masks")

    for number, annotation in enumerate(annotations, start=1):  # unique over the whole file
        annotation["id"] = number
    categories = [{"id": 1, "name": "object"}]
    Path(out).write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    print(f"wrote {out}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:])
