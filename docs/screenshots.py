"""The pictures of docs/demo.md, taken of the demo itself in a headless Chromium: ``make screenshots``.

JPEG, colours at full resolution: a palette that has room for a photo would change the page's own colours.
"""

from __future__ import annotations

import io
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from PIL import Image

from apps.demo import mount_demo
from composer import Composer

FOLDER = Path(__file__).resolve().parent / "images"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
PATIENCE = 180_000
"""Milliseconds that a step may take on a busy machine."""
CHEETAH, BUS = 1, 0
"""Numbers of the examples."""


def main() -> None:
    """Start the demo, visit it, and write the pictures."""
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("no Chromium here: `make browser` installs Debian's")
    from playwright.sync_api import sync_playwright

    server = uvicorn.Server(
        uvicorn.Config(mount_demo(FastAPI(), Composer.load("tiny")), port=0, log_level="warning")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.1)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    FOLDER.mkdir(exist_ok=True)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
            desktop = browser.new_context(viewport={"width": 1280, "height": 820})
            by_clicks(visit(desktop, url))
            by_pipeline(visit(desktop, url))
            phone = browser.new_context(
                viewport={"width": 390, "height": 844},
                device_scale_factor=1.5,
                is_mobile=True,
                has_touch=True,
            )
            on_a_phone(visit(phone, url))
            browser.close()
    finally:
        server.should_exit = server.force_exit = True
        thread.join()


def visit(context: Any, url: str) -> Any:
    """A page of the demo with its first example."""
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(url)
    page.wait_for_selector("#photo img")
    return page


def by_clicks(page: Any) -> None:
    """A running cheetah, by two clicks."""
    example(page, CHEETAH)
    for x, y in ((0.52, 0.45), (0.73, 0.42)):
        answered(page, lambda x=x, y=y: click(page, "#photo img", x, y))
    hover(page, 0.52, 0.45)
    save(page, "demo-click.jpg")


def by_pipeline(page: Any) -> None:
    """Everything in a street, named."""
    page.click("#tab-proposals-button")
    page.wait_for_selector("#run-proposals", state="visible")
    answered(page, lambda: page.click("#run-proposals"))
    hover(page, 0.5, 0.8)
    save(page, "demo-proposals.jpg")


def on_a_phone(page: Any) -> None:
    """The first screen of a phone."""
    answered(page, lambda: click(page, "#photo img", 0.82, 0.47))
    page.evaluate("window.scrollTo(0, 0)")
    save(page, "demo-phone.jpg")


def example(page: Any, number: int) -> None:
    """Choose an example, and wait for it."""
    shown = page.get_attribute("#photo img", "src")
    page.locator("#examples .gallery-item").nth(number).click()
    page.wait_for_function("old => document.querySelector('#photo img').src !== old", arg=shown)


def click(page: Any, selector: str, x: float, y: float) -> None:
    """Click on a picture, ``x, y`` in shares of its sides."""
    box = page.locator(selector).bounding_box()
    page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])


def hover(page: Any, x: float, y: float) -> None:
    """Rest on the result."""
    page.evaluate("window.scrollTo(0, 0)")
    box = page.locator("#result .base-image").bounding_box()
    page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
    page.wait_for_timeout(400)


def answered(page: Any, ask: Any) -> None:
    """Do what asks something, and wait for the answer and its files."""
    before = page.inner_text("#line")
    ask()
    page.wait_for_function("old => document.querySelector('#line').innerText !== old", arg=before)
    page.wait_for_function("() => !document.querySelector('#download-overlay').disabled")
    page.wait_for_timeout(500)


def save(page: Any, name: str) -> None:
    """Write a JPEG of what is on the screen."""
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        picture.convert("RGB").save(FOLDER / name, quality=86, subsampling=0, optimize=True)
    sys.stdout.write(f"{FOLDER / name}: {(FOLDER / name).stat().st_size // 1024} kB\n")


if __name__ == "__main__":
    main()
