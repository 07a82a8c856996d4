"""Updates of the widgets that show a result: the found answer, its line, picture, table and downloads."""

from __future__ import annotations

from typing import Any

import gradio as gr

from apps.demo import showing
from apps.demo.answering import Found
from apps.demo.files import File
from apps.demo.manners import Updates
from apps.demo.photos import Photos
from apps.demo.widgets import served, shown_picture

RESULT_WIDGETS = 7
"""The state that keeps the answer, and the six of :class:`apps.demo.controls.ResultView`."""
IDLE = "Nothing asked yet."


def result(found: Found, photos: Photos) -> Updates:
    """Show an answer; its downloads wait until they are made.

    Raises:
        UsageError: the photo is gone.
    """
    picture = showing.picture_of(found, photos.open(found.path))
    return [found, showing.line_of(found), shown_picture(picture), table(found), *[download(None)] * 3]


def nothing() -> Updates:
    """Show that there is no answer."""
    return [None, IDLE, shown_picture(None), table(None), *[download(None)] * 3]


def table(found: Found | None) -> Any:
    """The table of an answer, which is there only if it has a row."""
    values = showing.table_of(found)
    return gr.update(value=values, visible=bool(values["data"]))


def download(file: File | None) -> Any:
    """A button with its file, or one that cannot be pressed."""
    if file is None:
        return gr.update(value=None, interactive=False)
    return gr.update(value=served(file.name, file.data), interactive=True)
