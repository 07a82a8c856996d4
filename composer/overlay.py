"""Pictures to look at: masks, outlines, labels and prompts over the photo."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from adapters.results import EdgeMap, Instance, Instances
from composer.colours import ColourChooser
from composer.contact_sheet import draw_contact_sheet
from composer.edge_picture import draw_edges
from composer.formats.atomic import write_bytes
from composer.formats.base import Answer, Outcome, PerImageWriter
from composer.windows import MaskWindow, mask_window

FILL = 0.45
"""Share of a mask's colour in its area; the rest is the photo."""
FOREGROUND, BACKGROUND, BOX = (30, 200, 80), (235, 40, 50), (60, 130, 255)
"""RGB of clicks on the object, clicks off it, and boxes."""
_WHITE = (255, 255, 255)

Pixels = npt.NDArray[np.uint8]
Contours = Sequence[npt.NDArray[Any]]


class OverlayWriter(PerImageWriter):
    """``<stem>.overlay.png``: all instances of an image, and the clicks and boxes that asked for them.

    Edges and proposals, which would cover it, have pictures of their own, ``<stem>.edges.overlay.png`` and
    ``<stem>.proposals.overlay.png``; where nothing else was asked for, the first of them is the overlay.
    """

    def write(self, stem: str, outcome: Outcome, folder: Path) -> list[Path]:
        """See :class:`composer.formats.base.Writer`."""
        return [
            write_bytes(folder / f"{stem}.{name}.png", _png(picture))
            for name, picture in pictures_of(outcome).items()
        ]


def pictures_of(outcome: Outcome) -> dict[str, PILImage.Image]:
    """The pictures of an image's results by name; the first is called ``overlay``."""
    pixels = outcome.image.pixels
    plain = [a for a in outcome.answers if isinstance(a.result, Instances) and not _is_sheet(a)]
    pictures: dict[str, PILImage.Image] = {}
    if plain or not outcome.answers:
        pictures["overlay"] = draw_outcome(replace(outcome, answers=tuple(plain)))
    counts: dict[str, int] = {}
    for answer in outcome.answers:
        if isinstance(answer.result, EdgeMap):
            kind, picture = "edges", draw_edges(pixels, answer.result)
        elif _is_sheet(answer):
            kind, picture = "proposals", draw_contact_sheet(pixels, answer.result)
        else:
            continue
        counts[kind] = counts.get(kind, 0) + 1
        numbered = kind if counts[kind] == 1 else f"{kind}-{counts[kind]}"
        pictures[f"{numbered}.overlay" if pictures else "overlay"] = picture
    return pictures


def _is_sheet(answer: Answer) -> bool:
    return answer.request.get("kind") == "proposals"


def _png(picture: PILImage.Image) -> bytes:
    done, png = cv2.imencode(".png", np.asarray(picture)[:, :, ::-1])
    if not done:
        raise RuntimeError("OpenCV could not encode a PNG")
    return bytes(png.tobytes())


def draw_outcome(outcome: Outcome) -> PILImage.Image:
    """The photo with all instances, the clicks and boxes that asked for them, and the labels on top."""
    instances = outcome.instances
    canvas, colours = _draw_masks(outcome.image.pixels, instances)
    for answer in outcome.answers:
        canvas = np.asarray(draw_prompts(canvas, **prompts_of(answer.request)))
    return _draw_labels(PILImage.fromarray(canvas), instances, colours)


def draw_instances(pixels: Pixels, instances: Instances, *, labels: bool = True) -> PILImage.Image:
    """Tint every mask, outline it, and write its label and score at it.

    Smaller masks lie on larger ones and hide their tint, not their outline. One mask is dense at a time, so a
    thousand masks on a large photo need little more memory than the photo.

    Args:
        pixels: (H, W, 3) uint8 RGB, left as it is.
        instances: of that image.
        labels: whether to write labels; instances without one get none.

    Raises:
        ValueError: the instances are of an image of another size.
    """
    canvas, colours = _draw_masks(pixels, instances)
    picture = PILImage.fromarray(canvas)
    return _draw_labels(picture, instances, colours) if labels else picture


def _draw_masks(pixels: Pixels, instances: Instances) -> tuple[Pixels, Pixels]:
    """The picture without labels, and the (n, 3) colours of the masks."""
    if pixels.shape[:2] != tuple(instances.image_size):
        raise ValueError(f"instances of a {instances.image_size} image on one of {pixels.shape[:2]}")
    chooser = ColourChooser(instances.image_size)
    colours = np.zeros((len(instances), 3), np.uint8)
    canvas = pixels.copy()
    outlines: list[tuple[Contours, npt.NDArray[np.uint8]]] = []
    for i in np.argsort(-instances.areas, kind="stable"):
        window = mask_window(instances.rles[i])
        colours[i] = chooser.choose(instances.rles[i], window)
        if window.mask.size:
            _tint(canvas, pixels, window, colours[i])
            outlines.append((_contours(window), colours[i]))
    width = line_width(pixels)
    for contours, colour in outlines:
        cv2.polylines(canvas, contours, True, _outline_colour(colour), width, cv2.LINE_AA)
    return canvas, colours


def draw_prompts(
    pixels: Pixels,
    *,
    points: npt.ArrayLike = (),
    labels: npt.ArrayLike | None = None,
    boxes: npt.ArrayLike = (),
) -> PILImage.Image:
    """Mark clicks and boxes.

    Args:
        pixels: (H, W, 3) uint8 RGB, left as it is.
        points: (..., 2) ``x, y`` pixels; green on the object, red off it, with a white rim.
        labels: (...) 1 on the object, 0 off it, anything else is not drawn; default all 1.
        boxes: (n, 4) ``x1, y1, x2, y2`` pixels; blue.
    """
    canvas = pixels.copy()
    width = line_width(pixels)
    for x1, y1, x2, y2 in np.asarray(boxes, float).reshape(-1, 4):
        corners = (*_pixel(x1, y1), *_pixel(x2, y2))
        _frame(canvas, corners, width + 2 * _rim(width), _WHITE)
        _frame(canvas, corners, width, BOX)
    where = np.asarray(points, float).reshape(-1, 2)
    signs = np.ones(len(where)) if labels is None else np.asarray(labels).reshape(-1)
    for (x, y), sign in zip(where, signs, strict=True):
        if sign in (0, 1):
            _dot(canvas, _pixel(x, y), FOREGROUND if sign == 1 else BACKGROUND, width)
    return PILImage.fromarray(canvas)


def prompts_of(request: Mapping[str, Any]) -> dict[str, Any]:
    """What :func:`draw_prompts` draws of a request's JSON: points with their labels, and boxes.

    Not those of another step's instances, ``{"from": step}``: its masks say the same.
    """
    drawn: dict[str, Any] = {}
    if any(isinstance(request.get(field), Mapping) for field in ("points", "boxes")):
        return drawn
    if request.get("kind") == "points" and request.get("points") is not None:
        drawn["points"] = request["points"]
        if request.get("labels") is not None:
            drawn["labels"] = request["labels"]
    if request.get("kind") == "boxes" and request.get("boxes") is not None:
        drawn["boxes"] = request["boxes"]
    if request.get("kind") == "text" and request.get("hint_point") is not None:
        drawn["points"] = request["hint_point"]
    return drawn


def line_width(pixels: Pixels) -> int:
    """Pixels of an outline: two on a snapshot, ten on a 12-megapixel photo."""
    return max(1, round(math.sqrt(pixels.shape[0] * pixels.shape[1]) / 400))


def _tint(canvas: Pixels, photo: Pixels, window: MaskWindow, colour: npt.NDArray[np.uint8]) -> None:
    """Colour over the photo itself, not over an earlier tint: colours stay pure where masks overlap."""
    levels = np.arange(256, dtype=np.float32)[:, None] * (1 - FILL)
    table = (levels + colour * np.float32(FILL)).round().astype(np.uint8)[None]
    part = window.rows, window.columns
    tinted = cv2.LUT(np.ascontiguousarray(photo[part]), table)
    cv2.copyTo(tinted, window.mask.view(np.uint8), canvas[part])


def _contours(window: MaskWindow) -> Contours:
    bits = window.mask.view(np.uint8)
    contours, _ = cv2.findContours(bits, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=window.corner)
    return contours


def _outline_colour(colour: npt.NDArray[np.uint8]) -> tuple[int, int, int]:
    """The tint's colour, a little lighter."""
    r, g, b = (int(value) for value in colour + (255 - colour) // 4)
    return r, g, b


def _draw_labels(
    picture: PILImage.Image, instances: Instances, colours: npt.NDArray[np.uint8]
) -> PILImage.Image:
    named = [i for i, label in enumerate(instances.labels) if label]
    if not named:
        return picture
    import matplotlib
    import supervision

    chosen = instances[named]
    background = supervision.ColorPalette([supervision.Color(*map(int, colours[i])) for i in named])
    ink = supervision.ColorPalette([supervision.Color(*_ink(colours[i])) for i in named])
    size = max(11, round(math.sqrt(picture.width * picture.height) / 55))
    annotator = supervision.RichLabelAnnotator(
        color=background,
        text_color=ink,
        font_path=str(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")),
        font_size=size,
        text_padding=max(2, size // 4),
        smart_position=True,
    )
    detections = supervision.Detections(xyxy=chosen.boxes, class_id=np.arange(len(named)))
    return annotator.annotate(picture, detections, labels=[_caption(one) for one in chosen])


def _caption(instance: Instance) -> str:
    text = " ".join(str(instance.label).split())
    short = text if len(text) <= 40 else text[:39] + "…"
    return f"{short} {instance.score:.2f}"


def _ink(colour: npt.NDArray[np.uint8]) -> tuple[int, int, int]:
    """Black or white, whichever reads better on ``colour``."""
    luminance = float(np.dot(colour, (0.299, 0.587, 0.114)))
    return (0, 0, 0) if luminance > 140 else _WHITE


def _pixel(x: float, y: float) -> tuple[int, int]:
    return round(x), round(y)


def _rim(width: int) -> int:
    return max(1, width // 2)


def _frame(
    canvas: Pixels, corners: tuple[int, int, int, int], width: int, colour: tuple[int, int, int]
) -> None:
    """A rectangle's edges in exactly ``width`` pixels, clipped to the canvas."""
    before, after = width // 2, width - width // 2

    def band(low: int, high: int) -> slice:
        return slice(max(0, low - before), max(0, high + after))

    x1, y1, x2, y2 = corners
    for edge in (y1, y2):
        canvas[band(edge, edge), band(x1, x2)] = colour
    for edge in (x1, x2):
        canvas[band(y1, y2), band(edge, edge)] = colour


def _dot(canvas: Pixels, centre: tuple[int, int], colour: tuple[int, int, int], width: int) -> None:
    radius = 3 * width + 1
    cv2.circle(canvas, centre, radius + _rim(width) + 1, _WHITE, -1, cv2.LINE_AA)
    cv2.circle(canvas, centre, radius, colour, -1, cv2.LINE_AA)
