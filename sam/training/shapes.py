"""Made photos: coloured discs, boxes and triangles on a textured ground. Enough to see a model learn."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

from sam.training.data import LabelledPhoto

UInt8 = npt.NDArray[np.uint8]


def made_photos(count: int, seed: int = 0, side: int = 96) -> Iterator[LabelledPhoto]:
    """``count`` photos of ``side`` pixels, three to six shapes each; number i depends on ``seed`` and i."""
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        pixels = _ground(rng, side)
        layer = np.zeros((side, side), np.uint8)
        for shape in range(1, int(rng.integers(4, 8))):
            mask = _shape(rng, side)
            colour = rng.integers(0, 256, 3)
            shade = rng.normal(0, 6, (side, side, 1))
            painted = np.clip(colour + shade, 0, 255).astype(np.uint8)
            pixels[mask] = painted[mask]
            layer[mask] = shape
        yield LabelledPhoto(pixels, (_visible(layer),), f"{number:05d}.png")


def _ground(rng: np.random.Generator, side: int) -> UInt8:
    coarse = rng.integers(60, 200, (4, 4, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    ground: UInt8 = np.clip(smooth + rng.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8)
    return ground


def _shape(rng: np.random.Generator, side: int) -> npt.NDArray[np.bool_]:
    mask = np.zeros((side, side), np.uint8)
    x, y = (int(v) for v in rng.integers(0, side, 2))
    radius = int(side * rng.uniform(0.1, 0.25))
    kind = rng.integers(3)
    if kind == 0:
        cv2.circle(mask, (x, y), radius, 1, -1)
    elif kind == 1:
        cv2.rectangle(mask, (x - radius, y - radius // 2), (x + radius, y + radius // 2), 1, -1)
    else:
        turn = rng.uniform(0, 2 * np.pi) + np.arange(3) * 2 * np.pi / 3
        corners = np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn)], 1)
        cv2.fillPoly(mask, [corners.astype(np.int32)], 1)
    return mask.astype(bool)


def _visible(layer: UInt8) -> UInt8:
    """Shapes that others have all but covered are no longer segments."""
    counts = np.bincount(layer.ravel(), minlength=256)
    layer[counts[layer] < 20] = 0
    return layer
