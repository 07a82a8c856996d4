"""The demo as people and programs meet it: a server of its own with `tiny`, and Debian's Chromium."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn
from fastapi import FastAPI
from PIL import Image, ImageDraw

from apps.demo import mount_demo
from composer import Composer
from composer.limits import DEFAULT_LIMITS

from ..conftest import PATIENCE


@pytest.fixture(scope="session")
def composer() -> Composer:
    """`tiny`, which may take its time: the machine may be busy."""
    limits = replace(DEFAULT_LIMITS, deadline_seconds=PATIENCE / 1000)
    return Composer.load("tiny", device="cpu", limits=limits)


@pytest.fixture(scope="session")
def demo_url(composer: Composer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The demo mounted as `sam-composer serve` mounts it."""
    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = str(tmp_path_factory.mktemp("served"))
    app = mount_demo(FastAPI(), composer)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until = time.monotonic() + PATIENCE / 1000
        while not server.started and thread.is_alive() and time.monotonic() < until:
            time.sleep(0.05)
        assert server.started
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    finally:
        server.should_exit = server.force_exit = True
        thread.join(30)
        if before is None:
            del os.environ["GRADIO_TEMP_DIR"]
        else:
            os.environ["GRADIO_TEMP_DIR"] = before


@pytest.fixture(scope="session")
def disc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo whose right answer is known: a red disc of radius 60 at 100, 110 on grey, 320 x 240 pixels."""
    path = tmp_path_factory.mktemp("photo") / "disc.png"
    picture = Image.new("RGB", (320, 240), (120, 130, 125))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((40, 50, 160, 170), fill=(210, 30, 40))
    draw.rectangle((220, 40, 290, 200), fill=(30, 160, 70))
    picture.save(path)
    return path


class Visit:
    """A page of the demo in a browser, and what a visitor does there."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.hosts: set[str] = set()
        self.errors: list[str] = []
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).hostname or ""))
        page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def open(self, url: str) -> Visit:
        """Wait until the first example is there."""
        self.page.goto(url)
        self.page.wait_for_selector("#photo img")
        return self

    def upload(self, path: Path) -> None:
        """A photo by the button, and wait until it is shown."""
        shown = self.page.eval_on_selector("#photo img", "image => image.src")
        self.page.set_input_files("#sources input[type=file]", path)
        self.page.wait_for_function("old => document.querySelector('#photo img')?.src !== old", arg=shown)
        self.page.wait_for_function("() => document.querySelector('#photo img').complete")

    def place(self, selector: str, x: float, y: float) -> tuple[float, float]:
        """Where on the screen a pixel of the picture is."""
        image = self.page.locator(selector)
        image.scroll_into_view_if_needed()
        box = image.bounding_box()
        width, height = image.evaluate("e => [e.naturalWidth, e.naturalHeight]")
        return box["x"] + box["width"] * (x + 0.5) / width, box["y"] + box["height"] * (y + 0.5) / height

    def click(self, x: float, y: float) -> None:
        """Click on a pixel of the photo."""
        self.page.mouse.click(*self.place("#photo img", x, y))

    def turn(self, tab: str) -> None:
        """Choose a tab, and wait for what it does."""
        self.page.click(f"#tab-{tab}-button")
        self.page.wait_for_selector(f"#tab-{tab} > .column", state="visible")
        self.page.wait_for_selector(f"#pending span[data-tab={tab}]", state="attached")

    def press(self, selector: str) -> str:
        """Press a button that asks, and wait for the answer."""
        return self.answer(lambda: self.page.click(selector))

    def answer(self, ask: Any) -> str:
        """Do what asks something; the line below the result, once it and the files are there."""
        before = self.line
        ask()
        self.page.wait_for_function("old => document.querySelector('#line').innerText !== old", arg=before)
        self.page.wait_for_function(
            "() => document.querySelector('#line').innerText.startsWith('Nothing asked')"
            " || !document.querySelector('#download-overlay').disabled"
        )
        return self.line

    @property
    def line(self) -> str:
        """What is said below the result."""
        return str(self.page.locator("#line").inner_text())

    def download(self, selector: str) -> Path:
        """Press a download button; the file."""
        with self.page.expect_download() as coming:
            self.page.click(selector)
        return Path(coming.value.path())


@pytest.fixture(scope="session")
def desktop(chromium: Any) -> Iterator[Any]:
    """One profile for all visits from a desktop: its cache holds the page's parts from the second on."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    yield context
    context.close()


@pytest.fixture
def visit(desktop: Any, demo_url: str) -> Iterator[Visit]:
    """A visit on a desktop screen; the server knows nothing of earlier ones."""
    page = desktop.new_page()
    yield Visit(page).open(demo_url)
    page.close()
