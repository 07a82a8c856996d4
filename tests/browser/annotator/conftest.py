"""The annotator's own server in this process, and Debian's Chromium in front of it."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adapters.rle import BoolArray, decode_mask, from_json
from apps.annotator import vendor
from composer import Composer
from composer.engine.engine import Engine

from ..conftest import OUT, PATIENCE


@pytest.fixture(scope="session")
def browser(chromium: Any, screenshots: Path) -> Any:
    """The browser, where all that the page needs is there."""
    if not vendor.present():
        pytest.skip(f"onnxruntime-web is not there: {vendor.REMEDY}")
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package, reason="the extra onnx is not installed: the decoder cannot be exported")
    return chromium


@pytest.fixture(scope="session")
def composer(browser: Any) -> Composer:
    """`tiny`, as the server has it."""
    return Composer.load("tiny", device="cpu", precision="fp32")


@pytest.fixture(scope="session")
def decoder_folder(composer: Composer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the exported decoder in it: made once for all tests, and not while a page waits for it."""
    from apps.annotator_api.decoder_files import DecoderFiles

    folder = tmp_path_factory.mktemp("decoder")
    with Engine(composer) as engine:
        DecoderFiles(engine, folder).files()
    return folder


@dataclass
class Annotator:
    """A page over a project of its own.

    Attributes:
        page: playwright's, open at the first photo.
        folder: the project.
        address: of the annotator.
        context: of the page; other pages in it are other tabs.
    """

    page: Any
    folder: Path
    address: str
    context: Any

    def tab(self) -> Any:
        """Another tab at the same place."""
        page = self.context.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(f"{self.address}/")
        page.wait_for_selector("body[data-ready]")
        return page

    def place(self, x: float, y: float, page: Any = None) -> tuple[float, float]:
        """Where on the screen a share of the photo's width and height is; the photo is fitted."""
        page = page or self.page
        box = page.locator("#stage").bounding_box()
        width, height = page.evaluate(
            """async () => { const name = location.hash.slice(1).split("/");
            const at = `api/projects/${name[0]}/photos/${name[1]}/document`;
            const d = await (await fetch(at)).json(); return [d.width, d.height]; }"""
        )
        room = min(24, box["width"] / 12)
        zoom = min((box["width"] - room) / width, (box["height"] - room) / height, 8)
        left, top = (box["width"] - zoom * width) / 2, (box["height"] - zoom * height) / 2
        return box["x"] + left + x * width * zoom, box["y"] + top + y * height * zoom

    def click(self, x: float, y: float, **how: Any) -> None:
        """Click on a share of the photo."""
        self.page.mouse.click(*self.place(x, y), **how)

    def stroke(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag from one share of the photo to another."""
        self.page.mouse.move(*self.place(*start))
        self.page.mouse.down()
        self.page.mouse.move(*self.place(*end), steps=5)
        self.page.mouse.up()

    def answered(self, page: Any = None) -> None:
        """Wait until the click has its mask."""
        (page or self.page).wait_for_selector("#choices:not([hidden])")

    def saved(self, page: Any = None) -> None:
        """Wait until everything is saved."""
        page = page or self.page
        page.wait_for_timeout(60)  # what was just done has been noticed by then
        page.wait_for_selector("#saved[data-state=saved]")

    def document(self, photo: str = "bus.jpg") -> dict[str, Any]:
        """What is on disk."""
        path = self.folder / "annotations" / "sa1b" / f"{photo}.json"
        return json.loads(path.read_text()) if path.is_file() else {"annotations": []}

    def proposed(self, photo: str = "bus.jpg") -> list[dict[str, Any]]:
        """Masks on disk that wait for a decision."""
        return self.document(photo)["sam_composer"]["proposed"]

    def screenshot(self, name: str, page: Any = None) -> None:
        """An artefact to look at."""
        (page or self.page).screenshot(path=OUT / f"annotator-{name}.png")


Open = Callable[..., Annotator]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """What the annotator is opened on: a project, a copy of two photos."""
    folder = tmp_path / "street"
    folder.mkdir()
    for name in ("bus.jpg", "zidane.jpg"):
        shutil.copy(asset(name), folder / name)
    return folder


@pytest.fixture
def open_annotator(
    browser: Any, composer: Composer, decoder_folder: Path, photos: Path
) -> Iterator[Callable[..., Annotator]]:
    """Opens a page over the photos; every page closes and is checked for errors at the end."""
    from apps.annotator_api.server import running

    contexts: list[Any] = []
    problems: list[str] = []
    foreign: list[str] = []
    with running(composer, photos, decoder_folder=decoder_folder) as address:

        def watch(page: Any) -> None:
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on(
                "request",
                lambda r: None if r.url.startswith((address, "blob:", "data:")) else foreign.append(r.url),
            )

        def make(**context: Any) -> Annotator:
            options = {"viewport": {"width": 1280, "height": 800}} | context
            contexts.append(browser.new_context(**options))
            contexts[-1].on("page", watch)
            page = contexts[-1].new_page()
            page.set_default_timeout(PATIENCE)
            page.goto(f"{address}/")
            page.wait_for_selector("body[data-ready]")
            return Annotator(page, photos, address, contexts[-1])

        yield make
        for context in contexts:
            context.close()
    assert not problems, "errors in the page"
    assert not foreign, "the page asked another server"


@pytest.fixture
def annotator(open_annotator: Open) -> Annotator:
    """A page of a usual size."""
    return open_annotator()


def asset(name: str) -> Path:
    """A photo in the installed ultralytics, found without importing it."""
    package = importlib.util.find_spec("ultralytics")
    for folder in (package.submodule_search_locations if package else None) or ():
        if (photo := Path(folder, "assets", name)).is_file():
            return photo
    pytest.skip(f"ultralytics with its photo {name} is not installed")


def mask_of(record: dict[str, Any]) -> BoolArray:
    """(H, W) bool of a saved record."""
    return decode_mask(from_json(record["segmentation"]))


def iou(one: BoolArray, other: BoolArray) -> float:
    """Overlap of two masks; 0 for two empty ones."""
    return float((one & other).sum() / max(1, (one | other).sum()))
