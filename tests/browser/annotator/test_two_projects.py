"""Two projects whose photos have names in common."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from composer import Composer, Points

from .conftest import Annotator, asset, iou, mask_of


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """The photo after the first one of cats is named as the only one of dogs."""
    for place, name in (("cats/1.jpg", "bus.jpg"), ("cats/2.jpg", "bus.jpg"), ("dogs/2.jpg", "zidane.jpg")):
        path = tmp_path / "projects" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(asset(name), path)
    return tmp_path / "projects"


def test_what_was_fetched_ahead_is_not_shown_in_another_project(
    annotator: Annotator, composer: Composer
) -> None:
    page = annotator.page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    assert page.text_content("#photo-name") == "1.jpg"  # and cats/2.jpg is fetched ahead
    page.select_option("#project", "dogs")
    page.wait_for_selector("#photo-name:has-text('2.jpg')")
    page.wait_for_selector("body[data-ready]")
    of_dogs = {url.rsplit("/", 1)[1] for url in asked if "/projects/dogs/photos/" in url}
    assert {"picture", "embedding", "document"} <= of_dogs

    dogs = replace(annotator, folder=annotator.folder / "dogs")
    dogs.click(0.4, 0.5)
    dogs.answered()
    page.keyboard.press("Enter")
    page.wait_for_selector("#masks li[data-kind=kept]")
    dogs.saved()
    (record,) = dogs.document("2.jpg")["annotations"]
    mask = mask_of(record)
    assert mask.shape == (720, 1280)
    expected = composer.open(dogs.folder / "2.jpg").run(Points(record["point_coords"]))
    assert iou(mask, expected.masks[0]) >= 0.99
