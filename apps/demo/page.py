"""The page: what stands where."""

from __future__ import annotations

import asyncio
import html
from collections.abc import Callable
from typing import Any, TypeVar

import gradio as gr

from apps.demo import controls
from apps.demo.desk import Desk
from apps.demo.endpoints import add_endpoints
from apps.demo.events import Page, wire
from apps.demo.photos import Photos, example_photos
from apps.demo.session import Mode
from composer.composer import Composer
from composer.engine.engine import Engine

TITLE = "sam-composer"
T = TypeVar("T")
DAY = 24 * 60 * 60
TABS: dict[Mode, str] = {
    "click": "Click",
    "box": "Box",
    "text": "Text",
    "everything": "Everything",
    "detect": "Detect",
    "edges": "Edges",
    "proposals": "Proposals",
    "pipeline": "Pipeline",
}


def build(engine: Engine, max_queue: int) -> gr.Blocks:
    """The demo; files that it made for visitors go after a day."""
    examples = example_photos()
    photos, composer = Photos(engine), engine.composer
    demo = gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=(DAY // 24, DAY))
    with demo:
        gr.HTML(_header(composer), elem_id="masthead", padding=False)
        with gr.Row(elem_id="desk"):
            with gr.Column(scale=5, min_width=280, elem_id="ask"):
                stage = controls.stage(examples)
                tabs, page_tabs = {}, {}
                with gr.Tabs(elem_id="ways", overflow_behavior="wrap"):
                    for mode, title in TABS.items():
                        with gr.Tab(title, id=mode, elem_id=f"tab-{mode}") as tabs[mode]:
                            page_tabs[mode] = _controls(mode, composer)
            with gr.Column(scale=5, min_width=280, elem_id="answer"):
                view = controls.result_view()
        add_endpoints(photos)  # first: they are to have the plain names, and events of the page any others
        plain: Any = {mode: page_tabs[mode] for mode in ("everything", "detect", "edges", "proposals")}
        wire(
            demo,
            Page(
                stage, tabs, page_tabs["click"], page_tabs["box"], page_tabs["text"], plain,
                page_tabs["pipeline"], view,
            ),
            Desk(photos, examples),
        )  # fmt: skip
    demo.queue(max_size=max_queue, default_concurrency_limit=1)
    return demo


def in_a_loop(make: Callable[[], T]) -> T:
    """What ``make`` makes, with an event loop running: gradio leaves loops of its own open where none is."""

    async def made() -> T:
        return make()

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        loop = asyncio.new_event_loop()
        try:
            return loop.run_until_complete(made())
        finally:
            loop.close()
    return make()


def _controls(mode: Mode, composer: Composer) -> Any:
    if mode in ("text", "everything", "detect"):
        return getattr(controls, f"{mode}_tab")(composer)
    return getattr(controls, f"{mode}_tab")()


def _header(composer: Composer) -> str:
    about = composer.describe()
    model = html.escape(f"{about['preset']} · {about['precision']} · {about['device']}")
    return (
        '<header><h1>sam<span>-</span>composer</h1><p class="motto">One photo, looked at once, '
        f'asked in eight ways.</p><p class="model">{model}</p></header>'
    )
