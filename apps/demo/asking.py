"""From what the widgets hold to requests. Whatever does not fit is refused by the requests themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from adapters.base import EdgeSource, Request, TextRoute
from adapters.boxes import Boxes
from adapters.detect import Detect
from adapters.edges import Edges
from adapters.everything import Everything
from adapters.points import Points
from adapters.proposals import Proposals
from adapters.text import Text
from apps.demo.session import Session
from sam.errors import BadPrompt

MAX_GRID = 64
"""Clicks a side that the demo allows: 4096 of them take some ten seconds on two cores."""
MAX_PROPOSALS = 1000
CLOSER = 2.0
"""Width of the window around a small box, in boxes, where the visitor asks for a closer look."""
PRESET = "the preset's"
"""The choice that leaves a field to the preset."""


def phrases_of(text: str | Sequence[str] | None) -> list[str]:
    """``"dog, a red car"`` as phrases: commas, semicolons and line breaks part them. Raises BadPrompt."""
    parts = re.split(r"[,;\n]", text) if isinstance(text, str) else list(text or ())
    if not all(isinstance(part, str) for part in parts):
        raise BadPrompt("phrases are text, such as: dog, a red car", field="phrases")
    return [part.strip() for part in parts if part.strip()]


def click_request(session: Session, three: bool) -> Request:
    """All clicks on one object; ``three``: every reading of a single one."""
    clicks = session.clicks
    return Points(
        [[c.x, c.y] for c in clicks], labels=[c.label for c in clicks], masks="all" if three else "best"
    )


def box_request(boxes: Any, refine: bool, closer: bool) -> Request:
    """Boxes, an object each; ``closer``: small ones in windows of their own."""
    return Boxes(boxes, refine=int(refine), zoom=_zoom(closer))


def text_request(
    session: Session,
    phrases: str | Sequence[str] | None,
    negatives: str | Sequence[str] | None,
    threshold: float | None = None,
    thresholds: Mapping[str, float] | None = None,
    route: str = "auto",
) -> Request:
    """The phrases, or the one that the session's hint is about."""
    wanted, hint = phrases_of(phrases), session.hint
    if hint is not None and hint.phrase:
        wanted = [hint.phrase]
    if not wanted:
        raise BadPrompt("write what to look for, such as: dog, a red car", field="phrases")
    if not isinstance(thresholds, Mapping | None):
        raise BadPrompt('scores for phrases are a mapping, such as {"dog": 0.3}', field="thresholds")
    own = {phrase: value for phrase, value in (thresholds or {}).items() if phrase in wanted}
    return Text(
        phrases=wanted,
        negatives=phrases_of(negatives),
        threshold=threshold,
        thresholds=own,
        route=cast(TextRoute, route),
        hint_point=None if hint is None else (hint.x, hint.y),
    )


def everything_request(
    grid: float, confidence: float | None, stability: float | None, min_area: float
) -> Request:
    """A grid of clicks; thresholds left at None are the preset's."""
    return Everything(
        points_per_side=_grid(grid),
        pred_iou_thresh=confidence,
        stability_score_thresh=stability,
        min_mask_area=min_area,
    )


def detect_request(classes: str | Sequence[str] | None, conf: float | None, closer: bool) -> Request:
    """The preset's own detector: one of the visitor's choice could run code of theirs."""
    return Detect(classes=phrases_of(classes) or None, conf=conf, zoom=_zoom(closer))


def edges_request(grid: float, source: str | None, thin: bool) -> Request:
    """Edges; ``source`` is the preset's unless named."""
    chosen = None if source in (None, "", PRESET) else cast(EdgeSource, source)
    return Edges(points_per_side=_grid(grid), source=chosen, thin=bool(thin))


def proposals_request(limit: float, grid: float) -> Request:
    """The best proposals."""
    if not isinstance(limit, int | float) or not 1 <= limit <= MAX_PROPOSALS:
        raise BadPrompt(f"limit must be 1 to {MAX_PROPOSALS}, not {limit!r}", field="limit")
    return Proposals(limit=int(limit), points_per_side=_grid(grid))


def session_of_points(path: str, points: Any) -> Session:
    """``[[x, y], [x, y, 0], ...]`` as clicks; without a third number they are on the object.

    Raises:
        BadPrompt: anything else.
    """
    session = Session(path)
    if not isinstance(points, list | tuple) or not points:
        raise BadPrompt("points must be [[x, y], ...] or [[x, y, label], ...]", field="points")
    for point in points:
        if not isinstance(point, list | tuple) or len(point) not in (2, 3) or not all(map(_number, point)):
            raise BadPrompt(f"a point is [x, y] or [x, y, label], not {point!r}", field="points")
        x, y, label = (*point, 1)[:3]
        session = session.marked("click", x, y, label)
    return session


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _zoom(closer: bool) -> float | None:
    return CLOSER if closer else None


def _grid(side: float) -> int:
    if not isinstance(side, int | float) or not 1 <= side <= MAX_GRID:
        raise BadPrompt(f"the grid must have 1 to {MAX_GRID} clicks a side, not {side!r}", field="grid")
    return int(side)
