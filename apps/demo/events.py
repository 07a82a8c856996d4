"""Which widget calls what: the page's wiring."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import gradio as gr

from apps.demo.controls import BoxTab, ClickTab, PipelineTab, PlainTab, ResultView, Stage, TextTab
from apps.demo.desk import Desk
from apps.demo.questions import Questions, own_sliders
from apps.demo.session import Mode, Session

MODEL = "model"
"""Events of this name wait for each other: one question at a time has the device."""
PHOTO = "photo"
"""Events of this name may run while a question does: a photo is read and shown."""
QUICK: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
SAYING: dict[str, Any] = {
    "concurrency_id": PHOTO,
    "concurrency_limit": 8,
    "api_visibility": "private",
    "show_progress": "hidden",
}
"""Of events that may have something to tell: gradio shows messages of queued events only."""
ASKING: dict[str, Any] = {
    "concurrency_id": MODEL,
    "concurrency_limit": 1,
    "api_visibility": "private",
}


class Page(NamedTuple):
    """All that is wired."""

    stage: Stage
    tabs: dict[Mode, gr.Tab]
    click: ClickTab
    box: BoxTab
    text: TextTab
    plain: dict[Mode, PlainTab]
    pipeline: PipelineTab
    view: ResultView


def wire(demo: gr.Blocks, page: Page, desk: Desk) -> None:
    """Connect the widgets of ``page``; call it inside of the demo's block."""
    session, mode, found = gr.State(Session()), gr.State("click"), gr.State(None)
    questions = Questions(desk)
    stage = [session, page.stage.photo, page.stage.pending]
    result = [found, *page.view]
    shown: dict[str, Any] = {"show_progress_on": page.view.picture}

    def with_files(event: Any) -> None:
        files = [page.view.coco, page.view.masks, page.view.overlay]
        event.then(questions.files, found, files, **{**ASKING, "show_progress": "hidden"})

    _wire_photo(demo, page, desk, (session, mode), stage, result)
    marks = [session, mode, page.click.three, page.box.refine, page.box.closer]
    for event in _wire_marks(page, desk, (session, mode), stage):
        with_files(event.then(questions.marks, marks, result, **ASKING, **shown))
    for_text = [*stage, *page.text.suggestions, *result]
    clicked = page.stage.photo.select(desk.mark, [session, mode, page.click.sign], stage, **SAYING)
    with_files(clicked.then(questions.at_click, [*marks, *page.text.values], for_text, **ASKING, **shown))
    _wire_text(page, desk, questions, (session, mode), for_text, with_files)
    for name, tab in page.plain.items():
        with_files(tab.run.click(getattr(questions, name), [session, *tab.values], result, **ASKING, **shown))
    run, name_box = page.pipeline.run, page.pipeline.name
    with_files(run.click(questions.pipeline, [session, name_box], result, **ASKING, **shown))
    about = [page.pipeline.about, page.pipeline.graph]
    for shows in (name_box.change, page.tabs["pipeline"].select):
        shows(questions.about_pipeline, name_box, about, **QUICK)


def _wire_photo(
    demo: gr.Blocks,
    page: Page,
    desk: Desk,
    states: tuple[gr.State, gr.State],
    stage: list[Any],
    result: list[Any],
) -> None:
    session, mode = states
    everything = [*stage, *result]
    demo.load(desk.start, None, everything, **QUICK)
    page.stage.upload.upload(desk.choose, page.stage.upload, everything, **SAYING)
    page.stage.photo.upload(desk.drop, [session, page.stage.photo, mode], everything, **SAYING)
    page.stage.photo.clear(desk.remove, None, everything, **QUICK)
    page.stage.examples.click(desk.example, page.stage.examples, everything, **SAYING)
    for name, tab in page.tabs.items():
        tab.select(functools.partial(_turn, desk, name), session, [mode, *stage], **QUICK)


def _turn(desk: Desk, name: Mode, session: Session) -> list[Any]:
    return desk.turn(session, name)


def _wire_marks(page: Page, desk: Desk, states: tuple[gr.State, gr.State], stage: list[Any]) -> list[Any]:
    """The events, besides clicks on the photo, after which clicks and boxes are asked for again."""
    session, mode = states
    events = []
    for tab in (page.click, page.box):
        events.append(tab.undo.click(desk.undo, [session, mode], stage, **QUICK))
        events.append(tab.clear.click(desk.clear, [session, mode], stage, **QUICK))
    changed: dict[str, Any] = {**QUICK, "fn": lambda same: same, "inputs": session, "outputs": session}
    choices = (page.click.three, page.box.refine, page.box.closer)
    return [*events, *(choice.input(**changed) for choice in choices)]


def _wire_text(
    page: Page,
    desk: Desk,
    questions: Questions,
    states: tuple[gr.State, gr.State],
    outputs: list[Any],
    after: Any,
) -> None:
    session, mode = states
    tab = page.text
    asks: dict[str, Any] = {
        "fn": questions.text,
        "inputs": [session, mode, *tab.values],
        "outputs": outputs,
        "show_progress_on": page.view.picture,
        **ASKING,
    }
    anywhere = [
        press(desk.without_hint, session, session, **QUICK) for press in (tab.run.click, tab.phrases.submit)
    ]
    at_hint = [
        button.click(functools.partial(_suggested, desk, number), session, session, **QUICK)
        for number, button in enumerate(tab.suggestions)
    ]
    for event in [*anywhere, *at_hint]:
        after(event.then(**asks))
    for changes in (tab.phrases.change, tab.own.change):
        changes(own_sliders, [tab.phrases, tab.own], tab.thresholds, **QUICK)


def _suggested(desk: Desk, number: int, session: Session) -> Session:
    return desk.suggested(number, session)
