"""Masks made in the page are those that Python makes of the same prompts; and how long they take."""

from __future__ import annotations

import json
import os
import statistics
from typing import Any

import numpy as np
import torch

from composer import Boxes, Composer, Points

from ..conftest import OUT
from .conftest import Annotator, iou, mask_of

PLACES = ((0.5, 0.4), (0.15, 0.7), (0.85, 0.75), (0.3, 0.2))
CLICKS = 50


def test_a_click_gives_the_mask_that_python_gives(annotator: Annotator, composer: Composer) -> None:
    page = annotator.page
    for number, place in enumerate(PLACES):
        annotator.click(*place)
        annotator.answered()
        if number == 0:
            annotator.screenshot("click")
        page.keyboard.press("Enter")
        page.wait_for_selector(f"#masks li >> nth={number}")
    annotator.saved()
    annotator.screenshot("masks")
    scene = composer.open(annotator.folder / "bus.jpg")
    records = annotator.document()["annotations"]
    assert len(records) == len(PLACES)
    for record, (x, y) in zip(records, PLACES, strict=True):
        (point,) = record["point_coords"]
        np.testing.assert_allclose(point, [x * 810, y * 1080], atol=2)
        expected = scene.run(Points([point]))
        assert expected.areas[0] > 100
        assert iou(mask_of(record), expected.masks[0]) >= 0.99
        assert abs(record["predicted_iou"] - expected.predicted_iou[0]) < 1e-3
        assert abs(record["stability_score"] - expected.stability[0]) < 0.01


STUBBED = """
  const real = window.Worker;
  let worker;
  window.Worker = class {
    constructor() { worker = this; this.asked = []; }
    postMessage(message) { this.asked.push(message); }
  };
  const { Decoder } = await import(new URL("page/js/decoder.js", document.baseURI).href);
  const decoder = new Decoder(), shown = [];
  window.Worker = real;
  const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
  const answer = (i, value) => worker.onmessage({ data: { id: worker.asked[i].id, answer: value } });
"""
"""The page's decoder, with a worker that does what the test says."""

LATE_LOOK = f"""async (stops) => {{{STUBBED}
  decoder.look({{ points: [] }}, (found) => shown.push(found.token));
  await pause(0);
  if (stops) decoder.stopLooking();
  answer(0, {{ token: 7, milliseconds: 1 }});
  await pause(0);
  return shown;
}}"""
TURNED_OVER = f"""async () => {{{STUBBED}
  decoder.open(new ArrayBuffer(8));
  const prior = () => pause(20).then(() => null);
  decoder.decode({{ points: [], prior, quick: false }}).catch(() => {{}});
  decoder.open(new ArrayBuffer(8));
  answer(0, {{ geometry: {{ low: [4, 4] }} }});
  await pause(60);
  return {{ geometry: decoder.geometry ?? null, photos: worker.asked.map((message) => message.value.photo) }};
}}"""

STALE = """async (address) => {
  const worker = new Worker(new URL(address, document.baseURI), { type: "module" });
  const said = new Promise((resolve) => (worker.onmessage = ({ data }) => resolve(data.error)));
  const value = { points: [[1, 1, 1]], box: null, prior: null, photo: 4 };
  worker.postMessage({ id: 1, name: "decode", value });
  return said;
}"""


def test_what_was_asked_of_one_photo_is_not_answered_of_the_next(annotator: Annotator) -> None:
    """The geometry of a photo that was turned over is not taken; a decode says of which photo it is."""
    assert annotator.page.evaluate(TURNED_OVER) == {"geometry": None, "photos": [1, 2, 1]}
    assert annotator.page.evaluate(STALE, "page/js/decoder-worker.js") == "another photo was opened"


def test_a_look_that_is_late_is_not_shown(annotator: Annotator) -> None:
    """The pointer has left, or has clicked: the look that the decoder was at is of no use any more."""
    assert annotator.page.evaluate(LATE_LOOK, False) == [7]
    assert annotator.page.evaluate(LATE_LOOK, True) == []


def test_the_three_masks_and_the_next_click(annotator: Annotator, composer: Composer) -> None:
    """Each of the three by its key; a click more goes in with the logits of the one that was chosen."""
    page = annotator.page
    annotator.click(0.5, 0.4)
    annotator.answered()
    scene = composer.open(annotator.folder / "bus.jpg")
    for key in "123":
        page.keyboard.press(key)
        page.wait_for_selector(f"#choices button:nth-child({key})[aria-pressed=true]")
        annotator.saved()
        (record,) = annotator.proposed()
        expected = scene.run(Points(record["point_coords"], masks="all"))
        found = [iou(mask_of(record), expected.masks[i]) for i in range(3)]
        assert found[int(key) - 1] >= 0.99 and int(np.argmax(found)) == int(key) - 1
    annotator.click(0.3, 0.62, button="right")
    page.wait_for_selector("#choices", state="hidden")
    page.keyboard.press("Enter")
    page.wait_for_selector("#masks li[data-kind=kept]")
    annotator.saved()
    (record,) = annotator.document()["annotations"]
    points, labels = record["point_coords"], record["point_labels"]
    assert labels == [1, 0]
    logits = scene.run(Points(points[:1], masks="all")).low_res_logits
    assert isinstance(logits, torch.Tensor)
    expected = scene.run(Points(points, labels, mask_logits=logits[2:3]))
    assert iou(mask_of(record), expected.masks[0]) >= 0.99


def test_a_click_where_the_pointer_is_takes_the_look_that_was_taken(
    annotator: Annotator, composer: Composer
) -> None:
    page, decodes = annotator.page, "() => performance.getEntriesByName('decode').length"
    x, y = annotator.place(0.5, 0.4)
    page.mouse.move(x, y)
    page.wait_for_function(f"{decodes} === 1")
    page.mouse.click(x, y)
    annotator.answered()
    assert page.evaluate(decodes) == 1
    annotator.click(0.55, 0.45)  # another place, and from the answer before: another look
    page.wait_for_selector("#choices", state="hidden")
    page.wait_for_function(f"{decodes} >= 2")
    page.keyboard.press("Enter")
    page.wait_for_selector("#masks li[data-kind=kept]")
    annotator.saved()
    (record,) = annotator.document()["annotations"]
    points = record["point_coords"]
    scene = composer.open(annotator.folder / "bus.jpg")
    three = scene.run(Points(points[:1], masks="all"))
    best = int(np.argmax(three.predicted_iou))
    assert isinstance(three.low_res_logits, torch.Tensor)
    logits = three.low_res_logits[best : best + 1]
    expected = scene.run(Points(points, record["point_labels"], mask_logits=logits))
    assert iou(mask_of(record), expected.masks[0]) >= 0.99


def test_a_box(annotator: Annotator, composer: Composer) -> None:
    page = annotator.page
    page.keyboard.press("b")
    page.mouse.move(*annotator.place(0.05, 0.2))
    page.mouse.down()
    page.mouse.move(*annotator.place(0.5, 0.5))
    page.mouse.move(*annotator.place(0.98, 0.72))
    page.mouse.up()
    page.wait_for_selector("#accept:enabled")
    annotator.saved()
    page.keyboard.press("Enter")
    page.wait_for_selector("#masks li[data-kind=kept]")
    annotator.saved()
    annotator.screenshot("box")
    (record,) = annotator.document()["annotations"]
    expected = composer.open(annotator.folder / "bus.jpg").run(Boxes([record["box"]]))
    assert record["source"] == "box" and expected.areas[0] > 1000
    assert iou(mask_of(record), expected.masks[0]) >= 0.99


def test_moving_over_the_photo_shows_what_a_click_would_give(annotator: Annotator) -> None:
    page = annotator.page

    drawn = """(() => { const c = document.querySelector("canvas[data-layer=live]");
        const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
        let n = 0; for (let i = 3; i < d.length; i += 4) if (d[i]) n++; return n; })()"""
    assert page.evaluate(drawn) == 0
    page.mouse.move(*annotator.place(0.5, 0.4))
    page.wait_for_function(f"() => {drawn} >= 500")
    annotator.screenshot("hover")
    page.mouse.move(5, 5)
    page.wait_for_function(f"() => {drawn} === 0")
    assert annotator.document()["annotations"] == []


def test_latency_is_recorded(annotator: Annotator) -> None:
    """Nothing is asserted about how long it takes, but that every click was measured."""
    page = annotator.page
    page.evaluate("() => performance.clearMeasures('decode')")
    left, top = annotator.place(0.2, 0.2)
    right, bottom = annotator.place(0.8, 0.8)
    rng = np.random.default_rng(0)
    for x, y in rng.random((CLICKS, 2)):
        page.mouse.click(left + x * (right - left), top + y * (bottom - top))
        annotator.answered()
        page.keyboard.press("Escape")
        page.wait_for_selector("#choices", state="hidden")
    measured: list[dict[str, Any]] = page.evaluate(
        "() => performance.getEntriesByName('decode').map((e) => ({ ms: e.duration }))"
    )
    assert len(measured) >= CLICKS
    assert page.evaluate("() => crossOriginIsolated") is True
    median = statistics.median(entry["ms"] for entry in measured)
    told = {
        "median_ms": round(median, 2),
        "decodes": len(measured),
        "clicks": CLICKS,
        "runtime": page.text_content("#speed"),
        "load_average": os.getloadavg()[0],
    }
    print(told)
    (OUT / "decode-latency.json").write_text(json.dumps(told, indent=1) + "\n")
