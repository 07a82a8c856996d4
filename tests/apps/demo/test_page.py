"""The page's parts that gradio sees: handlers, messages, options, the stand-alone command."""

from __future__ import annotations

import ast
import asyncio
import re
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from PIL import Image

import apps.demo as demo_package
from apps.demo import MAX_QUEUE, build_demo, page_options
from apps.demo.__main__ import main
from apps.demo.controls import ON
from apps.demo.desk import STAGE_WIDGETS, Desk
from apps.demo.manners import as_gradio, politely
from apps.demo.photos import Photos
from apps.demo.questions import Questions, own_sliders, shipped_pipeline
from apps.demo.session import Session
from apps.demo.updates import RESULT_WIDGETS
from apps.demo.widgets import PhotoImage
from composer.composer import Composer
from composer.engine.engine import Engine
from sam.errors import BadPrompt, CheckpointError, UsageError

FOLDER = Path(demo_package.__file__).parent


class Selected:
    """What gradio says of a click."""

    def __init__(self, x: float, y: float) -> None:
        self.index = (x, y)


def size_of(path: str) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


@pytest.fixture
def desk(photos: Photos, photo: str) -> Desk:
    return Desk(photos, [Path(photo)])


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(gr, "Warning", lambda text, **_: said.append(text))
    monkeypatch.setattr(gr, "Info", lambda text, **_: said.append(text))
    return said


def test_the_page_starts_with_an_example_and_every_click_counts(desk: Desk, photo: str) -> None:
    session, shown, pending, *rest = desk.start()
    assert session == Session(photo) and size_of(shown) == (60, 45) and "data-x" not in pending
    assert len(rest) == RESULT_WIDGETS
    session, *_ = desk.mark(session, "click", ON, Selected(10, 20))  # type: ignore[arg-type]
    session, *_ = desk.mark(session, "click", "not this", Selected(59.9, 44.9))  # type: ignore[arg-type]
    assert [(c.x, c.y, c.label) for c in session.clicks] == [(10, 20, 1), (59, 44, 0)], "inside the photo"
    assert desk.undo(session, "click")[0].clicks == session.clicks[:1]
    assert desk.clear(session, "click")[0].clicks == ()


def test_the_waiting_corner_is_told_to_the_page(desk: Desk, photo: str) -> None:
    session, _, pending = desk.mark(Session(photo), "box", ON, Selected(10, 20))  # type: ignore[arg-type]
    assert 'data-x="10.0"' in pending and 'data-y="20.0"' in pending
    assert desk.mark(session, "box", ON, Selected(40, 30))[2] == '<span data-tab="box"></span>'  # type: ignore[arg-type]


def test_a_bad_photo_leaves_the_last_one(desk: Desk, photo: str, tmp_path: Path, warned: list[str]) -> None:
    bad = tmp_path / "<b>.png"
    bad.write_bytes(b"no picture")
    assert desk.choose(str(bad)) == [gr.skip()] * (STAGE_WIDGETS + RESULT_WIDGETS)
    session = Session(photo).marked("click", 3, 4, 1)
    again, shown, *_ = desk.drop(session, str(bad), "click")
    assert again == session and size_of(shown) == (60, 45)
    assert len(warned) == 2 and all("&lt;b&gt;.png" in text and "\n" not in text for text in warned)


def test_a_wrong_question_changes_nothing(desk: Desk, photo: str, warned: list[str]) -> None:
    questions = Questions(desk)
    assert questions.proposals(Session(photo), 5000, 32) == [gr.skip()] * RESULT_WIDGETS
    assert questions.everything(Session(), 32, None, None, 0) == [gr.skip()] * RESULT_WIDGETS  # type: ignore[arg-type]
    assert "limit must be 1 to 1000" in warned[0] and "choose a photo first" in warned[1]


def test_clicks_in_other_tabs_are_explained(desk: Desk, photo: str, warned: list[str]) -> None:
    questions = Questions(desk)
    assert questions.marks(Session(photo), "edges", False, False, False) == [gr.skip()] * RESULT_WIDGETS
    assert "Click, Box and Text" in warned[0]
    waiting = Session(photo).marked("box", 3, 4, 1)
    assert questions.marks(waiting, "box", False, False, False) == [gr.skip()] * RESULT_WIDGETS
    assert questions.marks(Session(photo), "click", False, False, False)[0] is None, "no clicks, no result"


def test_an_answer_and_its_files(desk: Desk, photo: str) -> None:
    questions = Questions(desk)
    found, line, _, table, *_ = questions.marks(
        Session(photo).marked("click", 20, 20, 1), "click", True, False, False
    )
    assert line.startswith("**3 masks**") and table["visible"] and len(table["value"]["data"]) == 3
    nothing = questions.marks(Session(photo), "click", False, False, False)
    assert not nothing[3]["visible"], "no rows, no table"
    buttons = questions.files(found)
    assert [button["interactive"] for button in buttons] == [True] * 3
    assert [Path(b["value"]).name for b in buttons] == [
        "street.coco.json",
        "street.masks.zip",
        "street.overlay.png",
    ]
    assert [b["interactive"] for b in questions.files(None)] == [False] * 3


@pytest.mark.parametrize("closer", [True, False])
def test_a_closer_look_at_a_box(desk: Desk, photo: str, closer: bool) -> None:
    questions, session = Questions(desk), Session(photo)
    for x, y in ((12, 12), (20, 20)):
        session = session.marked("box", x, y, 1)
    found = questions.marks(session, "box", False, False, closer)[0]
    assert found.answers[0].request.get("zoom") == (2.0 if closer else None)


def test_faults_of_ours_are_told_without_what_they_hold() -> None:
    @politely(1)
    def broken() -> list[Any]:
        raise KeyError("/secret/path")

    @politely(1)
    def missing() -> list[Any]:
        raise CheckpointError("no <weights>")

    with pytest.raises(gr.Error) as bug:
        broken()
    assert "KeyError" in bug.value.message and "secret" not in bug.value.message
    with pytest.raises(gr.Error, match="no &lt;weights&gt;"):
        missing()
    assert "memory" in as_gradio(MemoryError()).message
    assert as_gradio(BadPrompt("x1 < x2")).message == "x1 &lt; x2"


def test_a_slider_for_each_phrase() -> None:
    shown = [update.get("label") for update in own_sliders("dog, cat", True) if update.get("visible")]
    assert shown == ["Least score of “dog”", "Least score of “cat”"]
    assert not any(update.get("visible") for update in own_sliders("dog, cat", False))


@pytest.mark.parametrize("name", ["../../etc/passwd", "/tmp/evil.yaml", "nothing", None])
def test_only_shipped_pipelines_run(name: str) -> None:
    with pytest.raises(UsageError, match="unknown pipeline"):
        shipped_pipeline(name)


@pytest.mark.parametrize("address", ["https://example.org/a.png", "http://127.0.0.1/a", "file:///etc/passwd"])
def test_addresses_are_not_fetched(address: str) -> None:
    with pytest.raises(gr.Error, match="addresses are not fetched"):
        asyncio.run(PhotoImage().async_move_resource_to_block_cache(address))


def test_the_queue_is_bounded_and_one_question_runs_at_a_time(engine: Engine) -> None:
    demo = build_demo(engine)
    assert demo._queue.max_size == MAX_QUEUE == 16
    queued = [fn for fn in demo.fns.values() if fn.queue]
    asking = [fn for fn in queued if fn.concurrency_id == "model"]
    assert len(asking) > 15
    assert {(fn.concurrency_id, fn.concurrency_limit) for fn in queued} == {("model", 1), ("photo", 8)}
    assert all("Questions" not in fn.fn.__qualname__ for fn in queued if fn not in asking)
    quiet = {fn.name for fn in demo.fns.values() if not fn.queue}
    assert not quiet & {"choose", "drop", "example", "mark"}, "a message of theirs would not be shown"
    public = {fn.api_name for fn in demo.fns.values() if fn.api_visibility == "public"}
    assert public == {
        "click", "box", "text", "everything", "detect", "edges", "proposals", "pipeline",
    }  # fmt: skip


def test_endpoints_ask_for_no_more_than_they_must(engine: Engine) -> None:
    """A client fills in what has a default; gradio knows of a None or of a widget's own value only."""
    told = build_demo(engine).get_api_info()["named_endpoints"]
    needed = {
        name: [one["parameter_name"] for one in about["parameters"] if not one["parameter_has_default"]]
        for name, about in told.items()
    }
    assert needed == {
        "/click": ["photo", "points"], "/box": ["photo", "boxes"], "/text": ["photo", "phrases"],
        "/everything": ["photo"], "/detect": ["photo"], "/edges": ["photo"], "/proposals": ["photo"],
        "/pipeline": ["photo", "name"],
    }  # fmt: skip


def test_nothing_comes_from_another_host(composer: Composer, engine: Engine) -> None:
    options = page_options(composer.limits)
    theme = options["theme"]
    assert not theme._stylesheets and not theme._font_css
    assert "http" not in options["head"].replace("http://www.w3.org", "")
    assert not build_demo(engine).analytics_enabled


def test_no_stub_file_is_written_beside_our_widgets() -> None:
    assert not list(FOLDER.glob("*.pyi"))


def test_gradio_waits_until_a_demo_is_built() -> None:
    for node in ast.parse((FOLDER / "__init__.py").read_text()).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            assert "gradio" not in ast.unparse(node)


def test_the_command_says_what_is_wrong_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--preset", "nothing"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1


def test_a_space_installs_what_the_package_needs() -> None:
    root = Path(__file__).resolve().parents[3]
    section = (root / "pyproject.toml").read_text().partition("\ndependencies = [")[2].partition("\n]")[0]
    needed = re.findall(r'^    "(.+?)"', section, re.MULTILINE)
    assert "torch" in needed[0]
    lines = (root / "apps/space/requirements.txt").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == needed
    header = (root / "apps/space/README.md").read_text().split("---")[1]
    assert "app_file: apps/space/app.py" in header and "sdk: gradio" in header
