"""The widgets of the page: a photo, a tab for each way to ask, the result. What they do is in `events`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, get_args

import gradio as gr

from adapters.base import EdgeSource, TextRoute
from apps.demo import asking
from apps.demo.widgets import MaskPicture, PhotoImage
from composer.composer import Composer
from composer.pipeline_files import pipeline_names

MAX_OWN_THRESHOLDS = 6
"""Phrases that get a slider of their own; further ones share the common one."""
MAX_SUGGESTIONS = 3
ON, OFF = "on the object", "not this"
USUAL_TEXT_THRESHOLD = 0.4


class Stage(NamedTuple):
    """The photo, and where the next one comes from."""

    photo: PhotoImage
    upload: gr.UploadButton
    examples: gr.Dataset
    pending: gr.HTML


class ClickTab(NamedTuple):
    """Clicks on one object."""

    sign: gr.Radio
    three: gr.Checkbox
    undo: gr.Button
    clear: gr.Button


class BoxTab(NamedTuple):
    """Boxes, two clicks each."""

    refine: gr.Checkbox
    closer: gr.Checkbox
    undo: gr.Button
    clear: gr.Button


class TextTab(NamedTuple):
    """Phrases, and how sure to be."""

    phrases: gr.Textbox
    negatives: gr.Textbox
    threshold: gr.Slider
    own: gr.Checkbox
    thresholds: list[gr.Slider]
    route: gr.Dropdown
    run: gr.Button
    suggestions: list[gr.Button]

    @property
    def values(self) -> list[Any]:
        """What a question is made of, in the order of the handlers' arguments."""
        return [self.phrases, self.negatives, self.threshold, self.own, self.route, *self.thresholds]


class PlainTab(NamedTuple):
    """A tab that asks when its button is pressed."""

    values: list[Any]
    run: gr.Button


class PipelineTab(NamedTuple):
    """Steps of a file in ``configs/pipelines``."""

    name: gr.Dropdown
    about: gr.Markdown
    graph: gr.Image
    run: gr.Button


class ResultView(NamedTuple):
    """What was found."""

    line: gr.Markdown
    picture: MaskPicture
    table: gr.Dataframe
    coco: gr.DownloadButton
    masks: gr.DownloadButton
    overlay: gr.DownloadButton


def stage(examples: list[Path]) -> Stage:
    """The photo on which to click."""
    photo = PhotoImage(
        type="filepath",
        format="jpeg",
        sources=["upload", "clipboard"],
        label="Photo",
        show_label=False,
        buttons=["fullscreen"],
        elem_id="photo",
        placeholder="Drop a photo here, or choose one",
        alt_text="the photo; click on it to say what to segment",
    )
    with gr.Row(elem_id="sources"):
        upload = gr.UploadButton(
            "Open a photo", file_types=["image"], size="sm", elem_id="open", min_width=130, scale=0
        )
        dataset = gr.Dataset(
            components=[gr.Image(visible=False, type="filepath")],
            samples=[[str(path)] for path in examples],
            type="index",
            show_label=False,
            elem_id="examples",
            container=False,
            visible=bool(examples),
        )
    pending = gr.HTML("", elem_id="pending", visible="hidden", padding=False)
    return Stage(photo, upload, dataset, pending)


def click_tab() -> ClickTab:
    """Widgets of the tab Click."""
    _hint("Click on an object in the photo. Add clicks until the mask is right.")
    with gr.Row(elem_classes="pair"):
        sign = gr.Radio([ON, OFF], value=ON, label="The next click is", elem_id="sign", show_label=False)
        three = gr.Checkbox(label="Show all three readings", elem_id="three", min_width=200)
    with gr.Row():
        undo, clear = _undo_and_clear("click")
    return ClickTab(sign, three, undo, clear)


def box_tab() -> BoxTab:
    """Widgets of the tab Box."""
    _hint("Click on two opposite corners of an object. Every further pair is one more object.")
    with gr.Row(elem_classes="pair"):
        refine = gr.Checkbox(label="Refine each mask once more", value=True, min_width=200)
        closer = _closer("box")
    with gr.Row():
        undo, clear = _undo_and_clear("box")
    return BoxTab(refine, closer, undo, clear)


def text_tab(composer: Composer) -> TextTab:
    """Widgets of the tab Text."""
    _hint("Commas part phrases. A click on the photo says where the object of the one phrase is.")
    usual = composer.preset.defaults.text_threshold
    usual = USUAL_TEXT_THRESHOLD if usual is None else usual
    with gr.Row(elem_classes="pair"):
        phrases = gr.Textbox(label="Find", placeholder="bus, a person", elem_id="phrases", min_width=200)
        negatives = gr.Textbox(label="But not", placeholder="a poster", elem_id="negatives", min_width=200)
    threshold = gr.Slider(0, 1, value=usual, step=0.01, label="Least score of an answer", elem_id="threshold")
    own = gr.Checkbox(label="A least score for each phrase", elem_id="own")
    thresholds = [
        gr.Slider(0, 1, value=usual, step=0.01, visible=False, elem_id=f"threshold-{number}")
        for number in range(MAX_OWN_THRESHOLDS)
    ]
    with gr.Accordion("How to look", open=False):
        routes = [route for route in get_args(TextRoute) if route != "token"]
        route = gr.Dropdown(routes, value="auto", label="Route", info="docs/text.md tells them apart.")
    run = gr.Button("Find", variant="primary", elem_id="find")
    suggestions = [
        gr.Button(visible=False, size="sm", elem_id=f"suggestion-{number}", elem_classes="suggestion")
        for number in range(MAX_SUGGESTIONS)
    ]
    return TextTab(phrases, negatives, threshold, own, thresholds, route, run, suggestions)


def everything_tab(composer: Composer) -> PlainTab:
    """Widgets of the tab Everything."""
    defaults = composer.preset.defaults
    with gr.Row(elem_classes="pair"):
        grid = gr.Slider(4, asking.MAX_GRID, value=32, step=4, label="Clicks a side", min_width=200)
        area = gr.Slider(0, 5000, value=0, step=50, label="Least area, px", min_width=200)
    with gr.Row(elem_classes="pair"):
        confidence = gr.Slider(
            0, 1, value=defaults.pred_iou_thresh, step=0.005, label="Least IoU", min_width=200
        )
        stability = gr.Slider(
            0, 1, value=defaults.stability_score_thresh, step=0.01, label="Least stability", min_width=200
        )
    run = gr.Button("Segment everything", variant="primary", elem_id="run-everything")
    return PlainTab([grid, confidence, stability, area], run)


def detect_tab(composer: Composer) -> PlainTab:
    """Widgets of the tab Detect."""
    usual = composer.preset.defaults.detector_conf
    with gr.Row(elem_classes="pair"):
        classes = gr.Textbox(
            label="Classes", placeholder="all that the detector knows", elem_id="classes", min_width=200
        )
        conf = gr.Slider(0, 1, value=usual, step=0.01, label="Least detector score", min_width=200)
    values = [classes, conf, _closer("detect")]
    return PlainTab(values, gr.Button("Detect", variant="primary", elem_id="run-detect"))


def edges_tab() -> PlainTab:
    """Widgets of the tab Edges."""
    with gr.Row(elem_classes="pair"):
        grid = gr.Slider(4, 32, value=16, step=4, label="Clicks a side", min_width=200)
        choices = [asking.PRESET, *get_args(EdgeSource)]
        source = gr.Dropdown(choices, value=asking.PRESET, label="Edges of", min_width=200)
    thin = gr.Checkbox(label="Thin lines")
    run = gr.Button("Find edges", variant="primary", elem_id="run-edges")
    return PlainTab([grid, source, thin], run)


def proposals_tab() -> PlainTab:
    """Widgets of the tab Proposals."""
    with gr.Row(elem_classes="pair"):
        limit = gr.Slider(10, asking.MAX_PROPOSALS, value=100, step=10, label="At most", min_width=200)
        grid = gr.Slider(8, asking.MAX_GRID, value=32, step=8, label="Clicks a side", min_width=200)
    run = gr.Button("Propose objects", variant="primary", elem_id="run-proposals")
    return PlainTab([limit, grid], run)


def pipeline_tab() -> PipelineTab:
    """Widgets of the tab Pipeline."""
    names = pipeline_names()
    name = gr.Dropdown(names, value=names[0] if names else None, label="Pipeline", elem_id="pipeline")
    about = gr.Markdown(elem_classes="hint")
    graph = gr.Image(
        label="Steps", show_label=False, interactive=False, buttons=["fullscreen"], elem_id="graph",
        type="filepath", alt_text="the steps of the pipeline",
    )  # fmt: skip
    run = gr.Button("Run", variant="primary", elem_id="run-pipeline")
    return PipelineTab(name, about, graph, run)


def result_view() -> ResultView:
    """Where the answer appears."""
    picture = MaskPicture(
        label="Result", show_label=False, elem_id="result", buttons=["fullscreen"], color_map={}
    )
    line = gr.Markdown("Nothing asked yet.", elem_id="line")
    with gr.Row(elem_id="downloads"):
        coco = gr.DownloadButton(
            "COCO JSON", interactive=False, size="sm", elem_id="download-coco", min_width=90
        )
        masks = gr.DownloadButton(
            "Masks, zip", interactive=False, size="sm", elem_id="download-masks", min_width=90
        )
        overlay = gr.DownloadButton(
            "Picture, PNG", interactive=False, size="sm", elem_id="download-overlay", min_width=90
        )
    table = gr.Dataframe(
        headers=["#"], type="array", interactive=False, max_height=320, elem_id="table", show_label=False,
        buttons=[], visible=False,
    )  # fmt: skip
    return ResultView(line, picture, table, coco, masks, overlay)


def _hint(text: str) -> None:
    gr.Markdown(text, elem_classes="hint")


def _closer(name: str) -> gr.Checkbox:
    return gr.Checkbox(label="Look closer at small boxes (slower)", elem_id=f"closer-{name}", min_width=200)


def _undo_and_clear(name: str) -> tuple[gr.Button, gr.Button]:
    undo = gr.Button("Undo", size="sm", elem_id=f"undo-{name}", min_width=90)
    clear = gr.Button("Clear", size="sm", elem_id=f"clear-{name}", min_width=90)
    return undo, clear
