"""What happens when a visitor asks: one method for each tab, values of widgets in, updates of widgets out."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from adapters.base import Request
from adapters.results import Instances
from apps.demo import asking
from apps.demo.answering import Found, answer
from apps.demo.controls import MAX_OWN_THRESHOLDS, MAX_SUGGESTIONS
from apps.demo.desk import STAGE_WIDGETS, Desk
from apps.demo.files import files_of
from apps.demo.manners import Updates, politely
from apps.demo.session import MODES_OF_THE_PHOTO, Mode, Session, Suggestion
from apps.demo.updates import RESULT_WIDGETS, download, nothing, result
from apps.demo.widgets import served
from composer.pipeline import Pipeline
from composer.pipeline_files import load_pipeline
from composer.pipeline_picture import save_picture

TEXT_WIDGETS = STAGE_WIDGETS + MAX_SUGGESTIONS + RESULT_WIDGETS
_NO_PROGRESS = gr.Progress()


class Questions:
    """Asks the composer.

    Args:
        desk: has the photos, and draws suggestions on them.
    """

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.photos = desk.photos

    @politely(RESULT_WIDGETS)
    def marks(
        self,
        session: Session,
        mode: Mode,
        three: bool,
        refine: bool,
        closer: bool,
        progress: gr.Progress = _NO_PROGRESS,
    ) -> Updates:
        """What the clicks or boxes ask for; nothing where there are none."""
        if mode not in MODES_OF_THE_PHOTO:
            gr.Info("A click on the photo counts in the tabs Click, Box and Text.")
        waiting = mode == "box" and session.pending is not None
        if mode not in ("click", "box") or waiting:
            return [gr.skip()] * RESULT_WIDGETS
        if not session.asks(mode):
            return nothing()
        if mode == "click":
            return self._show(session, asking.click_request(session, three), progress)
        return self._show(session, asking.box_request(session.boxes, refine, closer), progress)

    @politely(TEXT_WIDGETS)
    def text(
        self, session: Session, mode: Mode, progress: gr.Progress = _NO_PROGRESS, *values: Any
    ) -> Updates:
        """The phrases, at the place of a click if the session has one; suggestions where it is unsure."""
        if mode != "text":
            return [gr.skip()] * TEXT_WIDGETS
        phrases, negatives, threshold, own, route, *thresholds = values
        wanted = asking.phrases_of(phrases)
        by_phrase = dict(zip(wanted, thresholds, strict=False)) if own else None
        request = asking.text_request(session, wanted, negatives, self._unusual(threshold), by_phrase, route)
        found = answer(self.photos, session.path, request, progress)
        places = suggestions_of(found)
        buttons = [gr.update(visible=False)] * MAX_SUGGESTIONS
        for number, place in enumerate(places):
            said = f"“{place.phrase}” may be at {place.x:.0f}, {place.y:.0f}: look there"
            buttons[number] = gr.update(value=said, visible=True)
        stage = self.desk.stage(replace(session, suggestions=places), "text")
        return [*stage, *buttons, *result(found, self.photos)]

    def at_click(
        self, session: Session, mode: Mode, progress: gr.Progress = _NO_PROGRESS, *values: Any
    ) -> Updates:
        """What a click on the photo asks for, in the tab Text too, where it is the place of the phrase.

        ``values`` are those of :meth:`marks`, then those of :meth:`text`.
        """
        three, refine, closer, *for_text = values
        if mode == "text":
            return self.text(session, mode, progress, *for_text)
        return [
            *[gr.skip()] * (TEXT_WIDGETS - RESULT_WIDGETS),
            *self.marks(session, mode, three, refine, closer, progress),
        ]

    @politely(RESULT_WIDGETS)
    def everything(
        self,
        session: Session,
        grid: float,
        confidence: float,
        stability: float,
        area: float | None,
        progress: gr.Progress = _NO_PROGRESS,
    ) -> Updates:
        """All masks."""
        request = asking.everything_request(grid, confidence, stability, area or 0)
        return self._show(session, request, progress)

    @politely(RESULT_WIDGETS)
    def detect(
        self,
        session: Session,
        classes: str,
        conf: float,
        closer: bool,
        progress: gr.Progress = _NO_PROGRESS,
    ) -> Updates:
        """What the preset's detector finds."""
        return self._show(session, asking.detect_request(classes, conf, closer), progress)

    @politely(RESULT_WIDGETS)
    def edges(
        self, session: Session, grid: float, source: str, thin: bool, progress: gr.Progress = _NO_PROGRESS
    ) -> Updates:
        """The edge map."""
        return self._show(session, asking.edges_request(grid, source, thin), progress)

    @politely(RESULT_WIDGETS)
    def proposals(
        self, session: Session, limit: float, grid: float, progress: gr.Progress = _NO_PROGRESS
    ) -> Updates:
        """Object proposals."""
        return self._show(session, asking.proposals_request(limit, grid), progress)

    @politely(RESULT_WIDGETS)
    def pipeline(self, session: Session, name: str, progress: gr.Progress = _NO_PROGRESS) -> Updates:
        """The steps of a pipeline that comes with the package."""
        return self._show(session, shipped_pipeline(name), progress)

    @politely(3)
    def files(self, found: Found | None) -> Updates:
        """The downloads of what was found."""
        files = (None, None, None) if found is None else files_of(found, self.photos)
        return [download(one) for one in files]

    @politely(2)
    def about_pipeline(self, name: str) -> Updates:
        """What a pipeline is for, and its steps drawn."""
        return [shipped_pipeline(name).description, served(f"{name}.png", graph_png(name))]

    def _show(self, session: Session, asked: Request | Pipeline, progress: gr.Progress) -> Updates:
        return result(answer(self.photos, session.path, asked, progress), self.photos)

    def _unusual(self, threshold: float | None) -> float | None:
        """None where the slider stands where it began: the preset's own leaves a detector's names alone."""
        usual = self.photos.composer.preset.defaults.text_threshold
        return None if threshold == usual else threshold


def own_sliders(phrases: str, own: bool) -> Updates:
    """One slider for each of the first phrases."""
    wanted = asking.phrases_of(phrases) if own else []
    shown = [gr.update(visible=True, label=f"Least score of “{phrase}”") for phrase in wanted]
    return [*shown, *[gr.update(visible=False)] * MAX_OWN_THRESHOLDS][:MAX_OWN_THRESHOLDS]


def suggestions_of(found: Found) -> tuple[Suggestion, ...]:
    """Where a click would help, of the answer to a text request."""
    instances, phrases = found.answers[0].result, found.answers[0].request["phrases"]
    if not isinstance(instances, Instances) or instances.suggested_points is None:
        return ()
    prompts = instances.suggested_prompts
    assert prompts is not None
    pairs = zip(instances.suggested_points.tolist(), prompts.tolist(), strict=True)
    return tuple(Suggestion(phrases[number], x, y) for (x, y), number in pairs)[:MAX_SUGGESTIONS]


def shipped_pipeline(name: str) -> Pipeline:
    """A pipeline by its name; never a file of the server's disk.

    Raises:
        UsageError: no such name.
    """
    return load_pipeline(Path(str(name)).name.removesuffix(".yaml").removesuffix(".yml"))


@functools.lru_cache(maxsize=32)
def graph_png(name: str) -> bytes:
    """The steps of a pipeline as a picture."""
    with tempfile.TemporaryDirectory(prefix="sam-composer-demo-") as folder:
        return save_picture(shipped_pipeline(name), Path(folder, "graph.png")).read_bytes()
