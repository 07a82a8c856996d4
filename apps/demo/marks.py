"""The photo as the page shows it, with the marks of a tab: clicks, corners, boxes, suggested places."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from apps.demo.photos import OpenPhoto
from apps.demo.session import Mode, Session
from composer.overlay import BOX, draw_prompts, line_width

SUGGESTED = (255, 196, 0)
"""RGB of the ring around a suggested place."""

Pixels = npt.NDArray[np.uint8]


def draw_marks(opened: OpenPhoto, session: Session, mode: Mode) -> Pixels:
    """(h, w, 3) uint8 RGB, of the size of ``opened.shown``, which is left as it is."""
    shown, scale = opened.shown, opened.scale
    if mode == "click":
        points = np.array([[c.x, c.y] for c in session.clicks]).reshape(-1, 2) * scale
        return np.asarray(draw_prompts(shown, points=points, labels=[c.label for c in session.clicks]))
    if mode == "box":
        drawn = np.asarray(draw_prompts(shown, boxes=np.array(session.boxes).reshape(-1, 4) * scale))
        return drawn if session.pending is None else _cross(drawn, session.pending, scale)
    if mode == "text":
        places = [] if session.hint is None else [[session.hint.x, session.hint.y]]
        drawn = np.asarray(draw_prompts(shown, points=np.array(places).reshape(-1, 2) * scale))
        for place in session.suggestions if session.hint is None else ():
            drawn = _ring(drawn, (place.x, place.y), scale)
        return drawn
    return shown


def _cross(pixels: Pixels, place: tuple[float, float], scale: float) -> Pixels:
    canvas, (x, y) = pixels.copy(), (round(value * scale) for value in place)
    width = line_width(pixels)
    for colour, extra in (((255, 255, 255), 2), (BOX, 0)):
        cv2.drawMarker(canvas, (x, y), colour, cv2.MARKER_CROSS, 16 * width, width + extra, cv2.LINE_AA)
    return np.asarray(canvas, np.uint8)


def _ring(pixels: Pixels, place: tuple[float, float], scale: float) -> Pixels:
    canvas, centre = pixels.copy(), (round(place[0] * scale), round(place[1] * scale))
    width = line_width(pixels)
    for colour, extra in (((20, 20, 20), 2), (SUGGESTED, 0)):
        cv2.circle(canvas, centre, 7 * width, colour, 2 * width + extra, cv2.LINE_AA)
        cv2.circle(canvas, centre, width + extra // 2, colour, -1, cv2.LINE_AA)
    return np.asarray(canvas, np.uint8)
