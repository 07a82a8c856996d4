"""Named endpoints for programs: a photo and a question in, a report and files out. They keep no session.

from gradio_client import Client, handle_file

client = Client("http://127.0.0.1:7860")
report, overlay, coco, masks = client.predict(
    photo=handle_file("street.jpg"), points=[[520, 375]], api_name="/click"
)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import gradio as gr

from apps.demo import asking
from apps.demo.answering import Found, answer
from apps.demo.events import ASKING
from apps.demo.files import File, files_of
from apps.demo.manners import Updates, as_gradio
from apps.demo.photos import Photos
from apps.demo.questions import shipped_pipeline
from apps.demo.session import Session, Suggestion
from apps.demo.widgets import PhotoImage, served
from composer.formats.json_report import report

Ask = Callable[..., Found]


class Endpoints:
    """One method for each endpoint; their docstrings are what the page of the API says.

    Args:
        photos: shared with the page, so that a photo is encoded once for both.
    """

    def __init__(self, photos: Photos) -> None:
        self.photos = photos

    def click(self, photo: str, points: Any, all_masks: bool = False) -> Found:
        """Clicks on one object: points are [[x, y], [x, y, label], ...], label 1 on the object, 0 off it."""
        return self._ask(photo, asking.click_request(asking.session_of_points(photo, points), all_masks))

    def box(self, photo: str, boxes: Any, refine: bool = True, closer: bool = False) -> Found:
        """Boxes, an object each: [[x1, y1, x2, y2], ...] in pixels; closer: small ones in windows."""
        return self._ask(photo, asking.box_request(boxes, refine, closer))

    def text(
        self,
        photo: str,
        phrases: Any,
        negatives: Any = None,
        threshold: float | None = None,
        thresholds: Any = None,
        hint_point: Any = None,
    ) -> Found:
        """Phrases, a list or parted by commas; a least score for all, and for some {"phrase": score};
        hint_point [x, y]: the object of the one phrase is here."""
        hint = None
        if hint_point is not None:
            x, y = self._point(hint_point)
            hint = Suggestion("", x, y)
        session = Session(photo, hint=hint)
        return self._ask(photo, asking.text_request(session, phrases, negatives, threshold, thresholds))

    def everything(self, photo: str, points_per_side: float = 32) -> Found:
        """Everything, with a grid of clicks."""
        return self._ask(photo, asking.everything_request(points_per_side, None, None, 0))

    def detect(
        self, photo: str, classes: Any = None, conf: float | None = None, closer: bool = False
    ) -> Found:
        """What the preset's detector finds; classes, a list or parted by commas, or all; closer as in box."""
        return self._ask(photo, asking.detect_request(classes, conf, closer))

    def edges(self, photo: str, source: str | None = None, thin: bool = False) -> Found:
        """Edges; source is masks, head, both, or empty for the preset's."""
        return self._ask(photo, asking.edges_request(16, source or "", thin))

    def proposals(self, photo: str, limit: float = 100) -> Found:
        """Object proposals, the best first."""
        return self._ask(photo, asking.proposals_request(limit, 32))

    def pipeline(self, photo: str, name: str) -> Found:
        """A pipeline that comes with the package, by its name."""
        return self._ask(photo, shipped_pipeline(name))

    def _ask(self, photo: str | None, asked: Any) -> Found:
        return answer(self.photos, photo or "", asked, lambda share, what: None)

    @staticmethod
    def _point(value: Any) -> tuple[float, float]:
        clicks = asking.session_of_points("", [value]).clicks
        return clicks[0].x, clicks[0].y


def add_endpoints(photos: Photos) -> None:
    """Add them to the block that is being built, with widgets that the page does not show."""
    ends = Endpoints(photos)
    with gr.Group(visible=False):
        photo = PhotoImage(type="filepath", label="photo")
        values = {
            name: gr.JSON(label=name) for name in ("points", "boxes", "phrases", "negatives", "classes")
        }
        values["thresholds"], values["hint_point"] = gr.JSON(label="thresholds"), gr.JSON(label="hint_point")
        outputs = [gr.JSON(label="report"), *(gr.File(label=name) for name in ("overlay", "coco", "masks"))]
        inputs: dict[str, list[Any]] = {
            "click": [values["points"], gr.Checkbox(label="all_masks")],
            "box": [values["boxes"], gr.Checkbox(True, label="refine"), gr.Checkbox(label="closer")],
            "text": [
                values["phrases"], values["negatives"], gr.Number(None, label="threshold"),
                values["thresholds"], values["hint_point"],
            ],
            "everything": [gr.Number(32, label="points_per_side")],
            "detect": [values["classes"], gr.Number(None, label="conf"), gr.Checkbox(label="closer")],
            "edges": [gr.Textbox(label="source"), gr.Checkbox(label="thin")],
            "proposals": [gr.Number(100, label="limit")],
            "pipeline": [gr.Textbox(label="name")],
        }  # fmt: skip
        for name, widgets in inputs.items():
            gr.Button().click(
                answered(getattr(ends, name), photos), [photo, *widgets], outputs, api_name=name,
                **{**ASKING, "api_visibility": "public"},
            )  # fmt: skip


def answered(ask: Ask, photos: Photos) -> Callable[..., Updates]:
    """The endpoint: the report, and paths of the overlay, the COCO file (None for edges) and the masks."""

    @functools.wraps(ask)
    def endpoint(*args: Any, **kwargs: Any) -> Updates:
        try:
            found = ask(*args, **kwargs)
            files = files_of(found, photos)
            told = report(found.outcome(photos), ["edges.png"] * len(found.answers))
        except Exception as error:
            raise as_gradio(error) from error
        return [told, *(_path(file) for file in (files.overlay, files.coco, files.masks))]

    return endpoint


def _path(file: File | None) -> str | None:
    return None if file is None else served(file.name, file.data)
