"""What was found as a page shows it: a picture with masks to hover over, a table, one line of words."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from adapters.results import EdgeMap, Instance, Instances
from apps.demo.answering import Found
from apps.demo.photos import OpenPhoto
from composer.colours import ColourChooser
from composer.edge_picture import draw_edges
from composer.windows import mask_window

MAX_MASKS = 40
"""Masks that can be hovered over: a browser draws each as a picture of its own."""
MAX_ROWS = 200
MAX_LABEL = 24
FILL, OUTLINE = 115, 255
"""Opacity of a mask's inside and of its outline, 0 to 255."""
SCORES = {
    "IoU, predicted": "predicted_iou",
    "stability": "stability",
    "text": "text_score",
    "detector": "detector_score",
}
"""Columns of the table that are there if something has that score, by their heading."""
HEADERS = ("#", "label", "score", *SCORES, "area %", "box")

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ShownMask:
    """One mask: its PNG, of the size of the shown photo; its label, unique; its colour as ``#rrggbb``."""

    png: bytes
    label: str
    colour: str


@dataclass(frozen=True, eq=False)
class Picture:
    """The result as a picture: a JPEG, and masks over it, the largest first."""

    base: bytes
    masks: tuple[ShownMask, ...]


def table_of(found: Found | None) -> dict[str, Any]:
    """Headings and a row for each of the first :data:`MAX_ROWS` instances, in the order of the answers.

    A column that would be empty in every row is left out: a phone has no room for it.
    """
    rows = [_row(number, *one) for number, one in enumerate(_instances(found), start=1)] if found else []
    kept = [
        n for n, name in enumerate(HEADERS) if name == "#" or any(row[n] not in (None, "") for row in rows)
    ]
    return {"headers": [HEADERS[n] for n in kept], "data": [[row[n] for n in kept] for row in rows]}


def picture_of(found: Found, opened: OpenPhoto) -> Picture:
    """The photo, or its edges where those were asked for, with the first :data:`MAX_MASKS` masks."""
    base = opened.shown
    for one in found.answers:
        if isinstance(one.result, EdgeMap):
            height, width = base.shape[:2]
            values = cv2.resize(one.result.values, (width, height), interpolation=cv2.INTER_AREA)
            base = np.asarray(draw_edges(base, EdgeMap(np.clip(values, 0, 1))), np.uint8)
    numbered = list(enumerate(_instances(found)[:MAX_MASKS], start=1))
    numbered.sort(key=lambda item: -item[1][1].area)  # small ones on top, where a pointer reaches them
    chooser = ColourChooser(found.answers[0].result.image_size)
    masks = [_shown_mask(number, words, one, opened, chooser) for number, (words, one) in numbered]
    return Picture(jpeg(base), tuple(masks))


def line_of(found: Found) -> str:
    """How much was found, how long it took, and how often the photo was encoded, in Markdown."""
    parts = []
    instances = [a.result for a in found.answers if isinstance(a.result, Instances)]
    if instances:
        count = sum(map(len, instances))
        parts.append(f"**{'nothing found' if not count else '1 mask' if count == 1 else f'{count} masks'}**")
        if count > MAX_MASKS:
            parts.append(f"{MAX_MASKS} of them shown, all in the files")
    if len(instances) < len(found.answers):
        parts.append("**edges**")
    parts.append(f"answered in {_duration(found.answer_seconds)}")
    encoded = _duration(found.seconds.get("encode", 0))
    times = "" if found.passes == 1 else f" {found.passes} times"
    parts.append(f"photo encoded{times} in {encoded}" if found.passes else "photo encoded before")
    return " · ".join(parts)


def jpeg(pixels: Pixels) -> bytes:
    """(H, W, 3) uint8 RGB as a JPEG."""
    done, data = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    if not done:
        raise RuntimeError("OpenCV could not encode a JPEG")
    return data.tobytes()


def _instances(found: Found) -> list[tuple[str, Instance]]:
    """Every instance with the words for it; no more than the table or the picture shows."""
    pairs: list[tuple[str, Instance]] = []
    for one in found.answers:
        if not isinstance(one.result, Instances):
            continue
        clicked = one.request.get("kind") in ("points", "boxes")
        for instance in one.result[: MAX_ROWS - len(pairs)]:
            reading = f"reading {instance.ambiguity + 1}" if clicked and instance.ambiguity >= 0 else ""
            words = (one.name, instance.label) if one.name else (instance.label or reading,)
            pairs.append((": ".join(filter(None, words)), instance))
    return pairs


def _row(number: int, label: str, instance: Instance) -> list[Any]:
    height, width = instance.image_size
    scores = [_rounded(getattr(instance, name)) for name in SCORES.values()]
    share = round(100 * instance.area / (height * width), 2)
    box = ", ".join(str(round(float(value))) for value in instance.box)
    return [number, label, _rounded(instance.score), *scores, share, box]


def _shown_mask(
    number: int, words: str, instance: Instance, opened: OpenPhoto, chooser: ColourChooser
) -> ShownMask:
    height, width = opened.shown.shape[:2]
    window = mask_window(instance.rle)
    colour = chooser.choose(instance.rle, window)
    full = np.zeros(instance.image_size, np.uint8)
    full[window.rows, window.columns] = window.mask
    small = full if opened.scale == 1 else cv2.resize(full, (width, height), interpolation=cv2.INTER_NEAREST)
    text = " ".join(words.split())
    text = text if len(text) <= MAX_LABEL else text[: MAX_LABEL - 1] + "…"
    label = f"{' '.join(filter(None, (str(number), text)))} · {instance.score:.2f}"
    return ShownMask(
        _mask_png(np.asarray(small, np.uint8), colour.tolist()),
        label,
        "#{:02x}{:02x}{:02x}".format(*colour.tolist()),
    )


def _mask_png(mask: Pixels, colour: Sequence[int]) -> bytes:
    """Clear outside, tinted inside, opaque on the outline: three colours of a palette, hence small."""
    indices = mask.copy()
    contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(indices, contours, -1, 2, max(1, round(math.sqrt(mask.size) / 450)))
    picture = PILImage.fromarray(indices, "L")
    picture.putpalette([0, 0, 0, *colour, *(value + (255 - value) // 4 for value in colour)])
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", transparency=bytes([0, FILL, OUTLINE]), bits=2, compress_level=4)
    return buffer.getvalue()


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 3)


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 0.95 else f"{seconds:.1f} s"
