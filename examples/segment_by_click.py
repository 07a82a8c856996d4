"""Cut the object under a click out of a photo.

    python examples/segment_by_click.py PHOTO X Y OUT.png

The file is not called click.py: Python would then find it where other packages look for the library `click`.
"""

from __future__ import annotations

import sys

import numpy as np
from PIL import Image

from composer import Composer, Points


def main(photo: str, x: float, y: float, out: str) -> None:
    """Write ``out``: the photo with everything but the object transparent."""
    scene = Composer.load("tiny").open(photo)

    # One click is ambiguous (the shirt or the man?): the model answers with three masks, ranked by the IoU
    # that it predicts for each. `masks="all"` returns the three, the default only the best.
    three = scene.run(Points([[x, y]], masks="all"))
    for one in three:
        print(f"candidate {one.ambiguity}: {one.area} pixels, predicted IoU {one.predicted_iou:.2f}")
    best = scene.run(Points([[x, y]]))

    # A second click, labelled 0, would say "not this": Points([[x, y], [x2, y2]], labels=[1, 0]).
    alpha = best.masks[0].astype(np.uint8) * 255
    Image.fromarray(np.dstack([scene.image, alpha])).save(out)
    print(f"kept candidate {best[0].ambiguity}; wrote {out}")


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), sys.argv[4])
