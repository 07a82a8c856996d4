"""How the demo speaks of what went wrong: in one line, with the page left as it was."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, ParamSpec

import gradio as gr

from apps.demo.widgets import told
from sam.errors import SamComposerError

log = logging.getLogger(__name__)

Updates = list[Any]
"""New values of widgets, or gradio's descriptions of changes to them, in the order of an event's outputs."""
P = ParamSpec("P")
_USER_ERRORS = range(400, 500)


def politely(outputs: int) -> Callable[[Callable[P, Updates]], Callable[P, Updates]]:
    """An error of ours becomes a message of one line, and the page stays as it is, ``outputs`` widgets of it.

    What a visitor can mend is a warning; missing weights and bugs are errors, the latter with no more than
    their kind, since their text may hold paths of the server.
    """

    def decorate(handler: Callable[P, Updates]) -> Callable[P, Updates]:
        @functools.wraps(handler)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> Updates:
            try:
                return handler(*args, **kwargs)
            except SamComposerError as error:
                if error.http_status not in _USER_ERRORS:
                    raise as_gradio(error) from error
                gr.Warning(told(str(error)), title="Not done")
                return [gr.skip()] * outputs
            except Exception as error:
                raise as_gradio(error) from error

        return guarded

    return decorate


def as_gradio(error: Exception) -> gr.Error:
    """Gradio's error with our one line."""
    if isinstance(error, gr.Error):
        return error
    if isinstance(error, SamComposerError):
        return gr.Error(told(str(error)), title="Not done", print_exception=False)
    log.exception("the demo failed", exc_info=error)
    if isinstance(error, MemoryError):
        return gr.Error("not enough memory for this photo; make it smaller", print_exception=False)
    kind = type(error).__name__
    return gr.Error(f"a bug of sam-composer: {kind}; the server's log says more", print_exception=False)
