"""What a visitor of the demo has done to a photo: clicks, corners of boxes, a place that a phrase means.

All values are immutable, so that a step that fails leaves the session as it was.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

Mode = Literal["click", "box", "text", "everything", "detect", "edges", "proposals", "pipeline"]
"""The tabs."""
MODES_OF_THE_PHOTO: tuple[Mode, ...] = ("click", "box", "text")
"""Those in which a click on the photo means something."""


@dataclass(frozen=True)
class Click:
    """A click on the photo: ``x, y`` in its own pixels; ``label`` 1 on the object, 0 off it."""

    x: float
    y: float
    label: int = 1


@dataclass(frozen=True)
class Suggestion:
    """Where a click would settle whether ``phrase`` is there; ``x, y`` pixels of the photo."""

    phrase: str
    x: float
    y: float


@dataclass(frozen=True)
class Session:
    """The photo and the marks on it.

    Attributes:
        path: the photo's file, in the server's own upload folder; empty before there is one.
        clicks: of the tab Click, all on one object.
        corners: of the tab Box, ``x, y``: two make a box, a last single one waits for its other corner.
        hint: of the tab Text: the phrase's object is here.
        suggestions: where a click would help, as the last text answer said.
    """

    path: str = ""
    clicks: tuple[Click, ...] = ()
    corners: tuple[tuple[float, float], ...] = ()
    hint: Suggestion | None = None
    suggestions: tuple[Suggestion, ...] = ()

    @property
    def name(self) -> str:
        """The photo's file name, without folders."""
        return Path(self.path).name or "photo"

    @property
    def boxes(self) -> list[list[float]]:
        """The finished boxes as ``x1, y1, x2, y2``, whichever corner came first."""
        pairs = zip(self.corners[::2], self.corners[1::2], strict=False)
        return [[min(a, c), min(b, d), max(a, c), max(b, d)] for (a, b), (c, d) in pairs]

    @property
    def pending(self) -> tuple[float, float] | None:
        """The corner that waits for its opposite one."""
        return self.corners[-1] if len(self.corners) % 2 else None

    def marked(self, mode: Mode, x: float, y: float, label: int) -> Session:
        """The session after a click on the photo in the tab ``mode``; unchanged where that means nothing."""
        if mode == "click":
            return replace(self, clicks=(*self.clicks, Click(x, y, label)))
        if mode == "box":
            if self.pending == (x, y):  # a double click: a box without an area would be refused later
                return self
            return replace(self, corners=(*self.corners, (x, y)))
        if mode == "text":
            return replace(self, hint=Suggestion("", x, y))
        return self

    def undone(self, mode: Mode) -> Session:
        """Without the last mark of the tab."""
        if mode == "click":
            return replace(self, clicks=self.clicks[:-1])
        if mode == "box":
            return replace(self, corners=self.corners[:-1])
        return replace(self, hint=None) if mode == "text" else self

    def cleared(self, mode: Mode) -> Session:
        """Without any mark of the tab."""
        if mode == "click":
            return replace(self, clicks=())
        if mode == "box":
            return replace(self, corners=())
        return replace(self, hint=None, suggestions=()) if mode == "text" else self

    def asks(self, mode: Mode) -> bool:
        """Whether the marks of the tab are a whole question by themselves."""
        if mode == "click":
            return bool(self.clicks)
        if mode == "box":
            return bool(self.corners) and self.pending is None
        return mode == "text" and self.hint is not None
