"""The demo's page in a real browser: clicks, boxes, phrases, files, errors, a phone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adapters.rle import BoolArray, decode_mask, from_json
from apps.demo.photos import example_photos
from composer import Composer, Text

from ..conftest import PATIENCE

TABS = ("click", "box", "text", "everything", "detect", "edges", "proposals", "pipeline")


def masks_of(coco: Path) -> list[BoolArray]:
    records = json.loads(coco.read_text())["annotations"]
    return [decode_mask(from_json(record["segmentation"])) for record in records]


def iou(one: BoolArray, other: BoolArray) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.fixture(scope="session")
def truth() -> BoolArray:
    """The disc of the known photo."""
    y, x = np.mgrid[:240, :320]
    return (x - 100) ** 2 + (y - 110) ** 2 <= 60**2


def test_a_click_yields_the_disc(
    visit: Any, disc: Path, truth: BoolArray, composer: Composer, screenshots: Path
) -> None:
    visit.upload(disc)
    composer.cache.clear()
    encodes = composer.cache.stats.encodes
    assert visit.answer(lambda: visit.click(100, 110)).startswith("1 mask")
    (mask,) = masks_of(visit.download("#download-coco"))
    assert iou(mask, truth) > 0.85
    page = visit.page

    # The mask under the pointer is named, and only it stays lit.
    page.mouse.move(*visit.place("#result .base-image", 100, 110))
    page.wait_for_selector("#tip", state="visible")
    assert page.inner_text("#tip").startswith("1 ")
    assert page.locator("#result .mask.active").count() == 1
    page.mouse.move(*visit.place("#result .base-image", 300, 230))
    page.wait_for_selector("#tip", state="hidden")

    # A second click, off the object; the three readings; and back again.
    page.check("#sign label:nth-of-type(2) input")
    visit.answer(lambda: visit.click(250, 100))
    (mask,) = masks_of(visit.download("#download-coco"))
    assert mask[110, 100] and not mask[100, 250]
    visit.press("#undo-click")
    assert visit.answer(lambda: page.check("#three input")).startswith("3 masks")
    assert page.locator("#result .mask").count() == 3
    page.screenshot(path=screenshots / "click.png", full_page=True)
    assert visit.press("#clear-click").startswith("Nothing asked")
    assert page.locator("#result .mask").count() == 0

    assert composer.cache.stats.encodes == encodes + 1, "one photo, one encode, whatever is asked"
    assert visit.hosts == {"127.0.0.1"}, "the page loads nothing from elsewhere"
    assert not visit.errors


def test_two_corners_make_a_box_that_is_seen_growing(
    visit: Any, disc: Path, truth: BoolArray, screenshots: Path
) -> None:
    visit.upload(disc)
    visit.turn("box")
    visit.click(38, 48)
    visit.page.wait_for_selector("#pending span[data-x]", state="attached")
    visit.page.mouse.move(*visit.place("#photo img", 120, 150))
    band = visit.page.locator("#band").bounding_box()
    left, top = visit.place("#photo img", 38, 48)
    assert abs(band["x"] - left) < 4 and abs(band["y"] - top) < 4 and band["width"] > 50
    assert visit.answer(lambda: visit.click(162, 172)).startswith("1 mask")
    assert iou(masks_of(visit.download("#download-coco"))[0], truth) > 0.85
    visit.click(215, 35)
    visit.page.wait_for_selector("#pending span[data-x]", state="attached")
    assert visit.answer(lambda: visit.click(295, 205)).startswith("2 masks")
    assert visit.page.locator("#band").is_hidden() and visit.page.locator("#table td").count()
    visit.page.screenshot(path=screenshots / "box.png", full_page=True)
    assert not visit.errors


def test_a_phrase_without_an_answer_suggests_a_click(
    visit: Any, composer: Composer, screenshots: Path
) -> None:
    page = visit.page
    usual = composer.preset.defaults.text_threshold
    found = composer.open(example_photos()[0]).run(Text("bicycle"))
    too_much = 1.2 * found.scores.max() if len(found) else usual  # close, and not enough
    visit.turn("text")
    page.fill("#phrases :is(input, textarea)", "bicycle")
    page.check("#own input")
    page.wait_for_selector("#threshold-0", state="visible")
    assert page.locator("#threshold-1").is_hidden()
    page.uncheck("#own input")
    page.fill("#threshold input[type=number]", f"{too_much:.2f}")
    page.press("#threshold input[type=number]", "Tab")
    assert visit.press("#find").startswith("nothing found")
    page.wait_for_selector("#suggestion-0", state="visible")
    assert "bicycle" in page.inner_text("#suggestion-0")
    page.screenshot(path=screenshots / "text-unsure.png", full_page=True)
    assert visit.press("#suggestion-0").startswith("1 mask")
    assert "bicycle" in page.inner_text("#result .legend-item")
    page.screenshot(path=screenshots / "text.png", full_page=True)

    # A click on the photo is the place of the phrase, too.
    page.fill("#threshold input[type=number]", str(usual))
    page.fill("#phrases :is(input, textarea)", "person")
    assert visit.answer(lambda: visit.click(130, 560)).startswith("1 mask")
    (mask,) = masks_of(visit.download("#download-coco"))
    assert mask[560, 130] and "person" in page.inner_text("#result .legend-item")
    assert not visit.errors


def test_a_bad_file_and_a_bad_question_lose_nothing(visit: Any, disc: Path, tmp_path: Path) -> None:
    page = visit.page
    visit.upload(disc)
    visit.answer(lambda: visit.click(100, 110))
    before = page.get_attribute("#photo img", "src"), visit.line
    bad = tmp_path / "notes.png"
    bad.write_text("not a picture")
    page.set_input_files("#sources input[type=file]", bad)
    page.wait_for_selector("text=no image format that we know")
    assert (page.get_attribute("#photo img", "src"), visit.line) == before
    visit.turn("text")
    page.click("#find")
    page.wait_for_selector("text=write what to look for")
    assert visit.line == before[1]
    visit.turn("click")
    assert page.get_attribute("#photo img", "src") == before[0], "with its click"
    assert page.locator("#result .mask").count() == 1


def test_each_tab_answers_and_is_looked_at(visit: Any, disc: Path, screenshots: Path) -> None:
    visit.upload(disc)
    for tab in ("everything", "detect", "edges", "proposals", "pipeline"):
        visit.turn(tab)
        if tab == "pipeline":
            visit.page.click("#pipeline input")
            visit.page.get_by_role("option", name="largest").click()
            visit.page.wait_for_selector("text=The five largest things")
            visit.page.wait_for_selector("#graph img")
        visit.press(f"#run-{tab}")
        visit.page.screenshot(path=screenshots / f"{tab}.png", full_page=True)
    assert not visit.errors


def test_on_a_phone(chromium: Any, demo_url: str, screenshots: Path) -> None:
    context = chromium.new_context(
        viewport={"width": 390, "height": 844}, device_scale_factor=2, is_mobile=True, has_touch=True
    )
    try:
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(demo_url)
        page.wait_for_selector("#photo img")
        page.tap("#photo img")
        page.wait_for_selector("#result .mask")
        assert page.evaluate("document.documentElement.scrollWidth") == 390, "nothing sticks out"
        for tab in TABS:
            assert page.locator(f"#tab-{tab}-button").is_visible()
            assert page.locator(f"#tab-{tab}-button").bounding_box()["height"] >= 30
        page.screenshot(path=screenshots / "phone.png", full_page=True)
        with Image.open(screenshots / "phone.png") as picture:
            assert picture.width == 780
    finally:
        context.close()
