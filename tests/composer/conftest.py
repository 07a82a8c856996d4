"""Made-up results on made-up pictures, with every shape that a mask can have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from adapters.results import EdgeMap, Instances
from adapters.rle import bounding_boxes, encode_masks
from composer.formats.base import Answer, Outcome
from composer.images import open_image

Masks = npt.NDArray[np.bool_]
MakeInstances = Callable[..., Instances]
MakeOutcome = Callable[..., Outcome]


def shapes(height: int = 60, width: int = 90) -> Masks:
    """Disc, ring, two discs, ring and disc inside it, one pixel, a line, a box at the border, everything."""
    y, x = np.mgrid[:height, :width]

    def disc(cx: float, cy: float, r: float) -> Masks:
        inside: Masks = (x - cx) ** 2 + (y - cy) ** 2 <= r * r
        return inside

    ring = disc(40, 30, 20) & ~disc(40, 30, 11)
    masks = [
        disc(40, 30, 18),
        ring,
        disc(15, 15, 9) | disc(70, 40, 12),
        ring | disc(40, 30, 5),
        (x == 3) & (y == 4),
        (y == 50) & (x > 10) & (x < 80),
        (x >= 70) & (y >= 45),
        x >= 0,
    ]
    return np.stack(masks)


@pytest.fixture
def make_instances() -> MakeInstances:
    def make(
        masks: Masks | None = None, labels: Sequence[str | None] | None = None, **columns: object
    ) -> Instances:
        masks = shapes() if masks is None else masks
        rles = tuple(encode_masks(masks))
        count = len(masks)
        scores = np.linspace(0.95, 0.5, count, dtype=np.float32)
        labels = tuple(labels) if labels is not None else tuple((["dog", "red car", None] * count)[:count])
        size = (masks.shape[1], masks.shape[2])
        return Instances(size, rles, bounding_boxes(rles), scores, labels, **columns)  # type: ignore[arg-type]

    return make


@pytest.fixture
def make_outcome(make_instances: MakeInstances, tmp_path: Path) -> MakeOutcome:
    """An outcome with one answer of instances, or with the results given."""

    def make(*results: Instances | EdgeMap, file_name: str | None = "photo.png", seed: int = 0) -> Outcome:
        results = results or (make_instances(),)
        first = results[0]
        pixels = np.random.default_rng(seed).integers(0, 256, (*first.image_size, 3), dtype=np.uint8)
        answers = tuple(Answer({"kind": "everything"}, result) for result in results)
        image = open_image(pixels, file_name=file_name)
        return Outcome(image, answers, {"preset": "tiny"}, {"encode": 0.25})

    return make


@pytest.fixture
def make_edges() -> Callable[[], EdgeMap]:
    def make() -> EdgeMap:
        return EdgeMap(np.linspace(0, 1, 60 * 90, dtype=np.float32).reshape(60, 90))

    return make
