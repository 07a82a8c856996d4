"""The pictures of docs/annotate.md, made by using the annotator on the photo of the demo.

    python docs/pictures/annotate.py

Needs Chromium, playwright, and onnxruntime-web (`make setup`, with npm there).
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from apps.annotator_api.server import running
from composer import Composer
from examples.demo import bundled_photo

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
)
HERE = Path(__file__).resolve().parent
NAMED = (("bus", 0.5, 0.42), ("person", 0.16, 0.62), ("person", 0.9, 0.62))


def main() -> None:
    """Open a project of two photos and take the pictures on the way."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        photos = Path(folder) / "street"
        photos.mkdir()
        for name in ("bus.jpg", "zidane.jpg"):
            shutil.copy(bundled_photo().with_name(name), photos)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        with running(Composer.load("tiny", device="cpu", precision="fp32"), photos) as address:
            _desktop(browser, address)
            _phone(browser, address)
        browser.close()


def _desktop(browser: Any, address: str) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    _open(page, address)
    page.mouse.move(*_place(page, 0.5, 0.42))
    page.wait_for_timeout(3000)
    page.screenshot(path=HERE / "annotate-hover.jpg", type="jpeg", quality=82)
    for number, (name, x, y) in enumerate(NAMED):
        page.mouse.click(*_place(page, x, y))
        page.wait_for_selector("#choices:not([hidden])")
        if number == 0:
            page.screenshot(path=HERE / "annotate-click.jpg", type="jpeg", quality=82)
        page.keyboard.press("n")
        page.keyboard.type(name)
        page.keyboard.press("Enter")
        page.keyboard.press("Enter")
        page.wait_for_selector(f"#masks li >> nth={number}")
    page.keyboard.press("p")
    page.wait_for_selector("#wait", state="visible")
    page.wait_for_selector("#wait", state="hidden")
    page.mouse.move(5, 400)
    page.wait_for_selector("#saved[data-state=saved]")
    page.screenshot(path=HERE / "annotate-masks.jpg", type="jpeg", quality=82)
    page.keyboard.press("?")
    page.wait_for_timeout(300)
    page.screenshot(path=HERE / "annotate-keys.jpg", type="jpeg", quality=82)
    page.close()


def _phone(browser: Any, address: str) -> None:
    size = {"width": 390, "height": 844}
    context = browser.new_context(viewport=size, has_touch=True, is_mobile=True, device_scale_factor=2)
    page = context.new_page()
    _open(page, address)
    page.touchscreen.tap(*_place(page, 0.15, 0.5))
    page.wait_for_selector("#choices:not([hidden])")
    page.screenshot(path=HERE / "annotate-phone.jpg", type="jpeg", quality=82)
    context.close()


def _open(page: Any, address: str) -> None:
    page.set_default_timeout(300_000)
    page.goto(f"{address}/")
    page.wait_for_selector("body[data-ready]")


def _place(page: Any, x: float, y: float) -> tuple[float, float]:
    """Where a share of the photo (810 x 1080, fitted) is on the screen."""
    box = page.locator("#stage").bounding_box()
    room = min(24, box["width"] / 12)
    zoom = min((box["width"] - room) / 810, (box["height"] - room) / 1080)
    left, top = (box["width"] - 810 * zoom) / 2, (box["height"] - 1080 * zoom) / 2
    return box["x"] + left + x * 810 * zoom, box["y"] + top + y * 1080 * zoom


if __name__ == "__main__":
    main()
