"""What happens to the photo and to the marks on it: one method for each thing that a visitor does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gradio as gr

from apps.demo import showing
from apps.demo.controls import ON
from apps.demo.manners import Updates, politely
from apps.demo.marks import draw_marks
from apps.demo.photos import Photos
from apps.demo.session import Mode, Session
from apps.demo.updates import RESULT_WIDGETS, nothing
from apps.demo.widgets import served, told
from sam.errors import SamComposerError

STAGE_WIDGETS = 3
"""The session, the photo as it is shown, and the corner that waits for its opposite one."""


class Desk:
    """Values of widgets in, updates of widgets out. Keeps nothing of a visitor: that is in their session.

    Args:
        photos: the photos looked at lately, and the composer.
        examples: paths of the examples.
    """

    def __init__(self, photos: Photos, examples: list[Path]) -> None:
        self.photos = photos
        self.examples = examples

    @politely(STAGE_WIDGETS + RESULT_WIDGETS)
    def start(self) -> Updates:
        """The first example, so that a visitor can click at once."""
        return self.photo(str(self.examples[0])) if self.examples else [Session(), None, "", *nothing()]

    @politely(STAGE_WIDGETS + RESULT_WIDGETS)
    def example(self, index: int) -> Updates:
        """The example that was clicked on."""
        return self.photo(str(self.examples[index]))

    @politely(STAGE_WIDGETS + RESULT_WIDGETS)
    def choose(self, path: str | None) -> Updates:
        """A photo of the visitor's own. One that cannot be read leaves the last one where it was."""
        return self.photo(path or "")

    def drop(self, session: Session, path: str | None, mode: Mode) -> Updates:
        """As :meth:`choose`, for a file put in the photo's own place: on a bad one, the last comes back."""
        try:
            return self.photo(path or "")
        except SamComposerError as error:
            gr.Warning(told(str(error)), title="Not done")
        shown = self.stage(session, mode) if session.path else [session, None, ""]
        return [*shown, *[gr.skip()] * RESULT_WIDGETS]

    def remove(self) -> Updates:
        """No photo, no marks, no result."""
        return [Session(), None, "", *nothing()]

    def turn(self, session: Session, mode: Mode) -> Updates:
        """Another tab: its name, and its own marks on the photo."""
        return [mode, *(self.stage(session, mode) if session.path else [session, None, ""])]

    @politely(STAGE_WIDGETS)
    def mark(self, session: Session, mode: Mode, sign: str, event: gr.SelectData) -> Updates:
        """A click on the photo."""
        opened = self.photos.open(session.path)
        height, width = opened.image.size
        x, y = (float(value) / opened.scale for value in event.index)
        place = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
        return self.stage(session.marked(mode, *place, int(sign == ON)), mode)

    @politely(STAGE_WIDGETS)
    def undo(self, session: Session, mode: Mode) -> Updates:
        """Take the last mark back."""
        return self.stage(session.undone(mode), mode)

    @politely(STAGE_WIDGETS)
    def clear(self, session: Session, mode: Mode) -> Updates:
        """Take all marks of the tab back."""
        return self.stage(session.cleared(mode), mode)

    def suggested(self, number: int, session: Session) -> Session:
        """The session after a press on a suggestion: its place is the hint."""
        here = session.suggestions[number : number + 1]
        return replace(session, hint=here[0] if here else None)

    def without_hint(self, session: Session) -> Session:
        """Before the phrases are looked for in all of the photo."""
        return replace(session, hint=None, suggestions=())

    def photo(self, path: str) -> Updates:
        """A new session with that photo, and no result.

        Raises:
            UsageError, BadImage: see :meth:`apps.demo.photos.Photos.open`.
        """
        return [*self.stage(Session(path), "everything"), *nothing()]

    def stage(self, session: Session, mode: Mode) -> Updates:
        """Session, the photo with the tab's marks, and for the page's script the tab and a corner that waits.

        Raises:
            UsageError, BadImage: see :meth:`apps.demo.photos.Photos.open`.
        """
        opened = self.photos.open(session.path)
        shown = served(f"{Path(session.name).stem}.jpg", showing.jpeg(draw_marks(opened, session, mode)))
        corner = session.pending if mode == "box" else None
        place = ""
        if corner is not None:
            place = ' data-x="{:.1f}" data-y="{:.1f}"'.format(*(value * opened.scale for value in corner))
        return [session, shown, f'<span data-tab="{mode}"{place}></span>']
