"""What people do in the annotator: brush, undo, keys, names, prefill, photos, two tabs, a phone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adapters.results import Instances
from composer import Points

from .conftest import Annotator, Open, mask_of


def test_brush_and_eraser_survive_a_reload(annotator: Annotator) -> None:
    page = annotator.page
    page.keyboard.press("d")
    annotator.stroke((0.2, 0.3), (0.6, 0.3))
    page.keyboard.press("e")
    annotator.stroke((0.4, 0.2), (0.4, 0.4))
    annotator.saved()
    assert annotator.document()["annotations"] == []  # not accepted yet, and yet saved
    unfinished = mask_of(annotator.proposed()[0])
    page.reload()
    page.wait_for_selector("body[data-ready]")
    page.wait_for_selector("#masks li[data-kind=proposed]")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_selector("#masks li[data-kind=kept]")
    annotator.saved()
    (record,) = annotator.document()["annotations"]
    mask = mask_of(record)
    assert np.array_equal(mask, unfinished)
    row = mask[round(0.3 * 1080)]
    assert row[round(0.3 * 810)] and row[round(0.55 * 810)] and not row[round(0.4 * 810)]
    assert not mask[: round(0.25 * 1080)].any()

    # An accepted mask is changed by a stroke over it; that survives, too.
    page.keyboard.press("j")
    page.keyboard.press("d")
    annotator.stroke((0.4, 0.3), (0.41, 0.3))
    annotator.screenshot("brush")
    annotator.saved()
    page.reload()
    page.wait_for_selector("body[data-ready]")
    (record,) = annotator.document()["annotations"]
    assert mask_of(record)[round(0.3 * 1080), round(0.405 * 810)]
    assert page.locator("#masks li").count() == 1


ENDLESS = """() => {
  const real = Element.prototype.replaceChildren;
  window.drawn = 0;
  Element.prototype.replaceChildren = function (...children) {
    if (++window.drawn > 300) throw new Error("the page draws its lists without end");
    return real.apply(this, children);
  };
}"""
"""Counts, and ends what would never give the page back to the test."""


def test_what_is_erased_is_gone_until_it_is_undone(annotator: Annotator) -> None:
    page = annotator.page
    line = (0.2, 0.3), (0.6, 0.3)
    page.keyboard.press("d")
    annotator.stroke(*line)
    page.keyboard.press("Enter")
    page.wait_for_selector("#masks li[data-kind=kept]")
    annotator.saved()
    page.evaluate(ENDLESS)
    page.keyboard.press("e")
    page.keyboard.press("]")
    annotator.stroke(*line)
    assert page.evaluate("() => drawn") < 100
    annotator.saved()
    assert annotator.document()["annotations"] == []
    page.keyboard.press("Control+z")
    annotator.saved()
    assert len(annotator.document()["annotations"]) == 1

    page.keyboard.press("Control+Shift+Z")
    page.keyboard.press("Enter")  # the same, for good
    page.wait_for_selector("#masks li", state="detached")
    annotator.saved()
    assert annotator.document()["annotations"] == []
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    annotator.saved()
    assert len(annotator.document()["annotations"]) == 1


def test_what_was_painted_and_erased_again_is_nothing(annotator: Annotator) -> None:
    page = annotator.page
    page.evaluate(ENDLESS)
    page.keyboard.press("d")
    annotator.stroke((0.2, 0.3), (0.6, 0.3))
    annotator.saved()
    assert len(annotator.proposed()) == 1
    page.keyboard.press("e")
    page.keyboard.press("]")
    annotator.stroke((0.2, 0.3), (0.6, 0.3))
    assert page.evaluate("() => drawn") < 100
    annotator.saved()
    assert annotator.proposed() == []


def test_with_the_keyboard_alone(annotator: Annotator) -> None:
    page = annotator.page
    page.keyboard.press("ArrowUp")  # the cross, in the middle
    for _ in range(4):
        page.keyboard.press("Shift+ArrowUp")
    page.keyboard.press("Space")
    annotator.answered()
    annotator.screenshot("keyboard")
    page.keyboard.press("n")
    page.keyboard.type("bus")
    page.keyboard.press("Enter")  # back to the photo
    page.keyboard.press("Enter")
    page.wait_for_selector("#masks li[data-kind=kept]")
    annotator.saved()
    assert [record["label"] for record in annotator.document()["annotations"]] == ["bus"]
    assert page.locator("#names option").get_attribute("value") == "bus"  # offered from now on

    page.keyboard.press("Control+z")
    page.wait_for_selector("#masks li", state="detached")
    page.keyboard.press("Control+Shift+Z")
    page.wait_for_selector("#masks li[data-kind=kept]")
    page.keyboard.press("j")
    page.keyboard.press("Delete")
    page.wait_for_selector("#masks li", state="detached")
    page.keyboard.press("Control+z")
    page.wait_for_selector("#masks li[data-kind=kept]")

    page.keyboard.press("?")
    page.wait_for_selector("#help-dialog[open]")
    annotator.screenshot("help")
    page.keyboard.press("Escape")
    page.wait_for_selector("#help-dialog", state="hidden")

    page.keyboard.press("Shift+Enter")  # done: on to the next photo
    page.wait_for_selector("#photo-name:has-text('zidane.jpg')")
    page.wait_for_selector("body[data-ready]")
    assert page.text_content("#progress-text") == "1 of 2 done"
    assert annotator.document()["sam_composer"]["state"] == "done"
    page.keyboard.press("PageUp")
    page.wait_for_selector("#photo-name:has-text('bus.jpg')")
    page.wait_for_selector("#masks li[data-kind=kept]")


def test_it_opens_where_it_was_left(annotator: Annotator) -> None:
    annotator.page.keyboard.press("PageDown")
    annotator.page.wait_for_selector("#photo-name:has-text('zidane.jpg')")
    annotator.page.wait_for_selector("body[data-ready]")
    assert annotator.tab().text_content("#photo-name") == "zidane.jpg"


def test_two_tabs_never_lose_a_mask(open_annotator: Open) -> None:
    """Side by side, in two windows: neither is looked at anew when the other has saved."""
    annotator, beside = open_annotator(), open_annotator()
    page, other = annotator.page, beside.page
    for tab, place, name in ((page, (0.5, 0.4), "mine"), (other, (0.15, 0.7), "theirs")):
        tab.mouse.click(*annotator.place(*place, tab))
        annotator.answered(tab)
        tab.keyboard.press("n")
        tab.keyboard.type(name)
        tab.keyboard.press("Enter")
        if tab is page:
            tab.keyboard.press("Enter")
            tab.wait_for_selector("#masks li[data-kind=kept]")
            annotator.saved(tab)
    other.wait_for_selector("#conflict-dialog[open]")
    annotator.screenshot("conflict", other)
    assert "saved it since you opened it" in other.text_content("#conflict-text")
    assert [r["label"] for r in annotator.document()["annotations"]] == ["mine"]
    other.click("#keep-both")
    other.wait_for_selector("#masks li >> nth=1")
    annotator.saved(other)
    kept = [record["label"] for record in annotator.document()["annotations"]]
    assert kept + [record["label"] for record in annotator.proposed()] == ["mine", "theirs"]

    # The first one, when it is looked at again, shows both.
    page.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")
    page.wait_for_selector("#masks li >> nth=1")


def test_a_conflict_that_cannot_be_read_is_tried_again(open_annotator: Open) -> None:
    """The server starts anew just when it is asked what the other one has saved."""
    annotator, beside = open_annotator(), open_annotator()
    other, where = beside.page, annotator.place(0.15, 0.7)
    annotator.click(0.5, 0.4)
    annotator.answered()
    annotator.saved()
    other.route(
        "**/document",
        lambda route: (
            route.fulfill(status=503, json={"detail": "starting", "code": "starting"})
            if route.request.method == "GET"
            else route.continue_()
        ),
    )
    other.mouse.click(*where)
    annotator.answered(other)
    other.wait_for_selector("#saved[data-state=error]:has-text('starting')")
    other.unroute("**/document")
    other.wait_for_selector("#conflict-dialog[open]")
    other.click("#keep-both")
    other.wait_for_selector("#masks li >> nth=1")
    annotator.saved(other)
    assert len(annotator.proposed()) == 2


def test_merging_loses_nothing(annotator: Annotator) -> None:
    """Random changes on both sides: each side's new and changed masks are in what comes of it."""
    lost = annotator.page.evaluate(
        """async () => {
        const { merged } = await import("/annotate/page/js/store.js");
        const pick = (n) => Math.floor(Math.random() * n);
        const masks = (d) => [...d.annotations, ...d.proposed];
        const lost = [];
        for (let round = 0; round < 2000; round++) {
          let made = 0;
          const mask = (side) => ({ uid: `${side}${made++}`, label: `${side}${pick(3)}` });
          const base = { annotations: [], proposed: [], state: "open" };
          for (let i = pick(4); i > 0; i--) base[pick(2) ? "annotations" : "proposed"].push(mask("b"));
          const change = (side) => {
            const d = structuredClone(base), touched = [];
            for (const list of ["annotations", "proposed"]) {
              d[list] = d[list].filter(() => pick(4));
              for (const m of d[list]) if (!pick(3)) { m.label = `${side}-changed`; touched.push(m); }
            }
            for (let i = pick(3); i > 0; i--) d.annotations.push(touched[touched.push(mask(side)) - 1]);
            return { d, touched };
          };
          const mine = change("m"), theirs = change("t");
          const { document } = merged(base, mine.d, theirs.d);
          const uids = masks(document).map((m) => m.uid);
          if (new Set(uids).size < uids.length) lost.push("one uid twice");
          for (const m of [...mine.touched, ...theirs.touched])
            if (!masks(document).some((r) => r.label === m.label && (r.uid === m.uid || m.uid[0] === "b")))
              lost.push(JSON.stringify([base, mine.d, theirs.d, document]));
        }
        return lost;
        }"""
    )
    assert lost == []


@pytest.fixture
def quick_prefill(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three confident masks at once: what the server proposes has tests of its own."""

    def found(scene: Any, present: Any, **how: Any) -> list[tuple[str, Instances]]:
        answer = scene.run(Points([[[400, 400]], [[120, 700]], [[690, 800]]]))
        return [("everything", answer.replace(labels=("bus", None, None)))]

    monkeypatch.setattr("apps.annotator_api.routes.confident_masks", found)


def test_prefilled_masks_are_accepted_or_rejected(annotator: Annotator, quick_prefill: None) -> None:
    page = annotator.page
    page.keyboard.press("p")
    page.wait_for_selector("#masks li[data-kind=proposed] >> nth=2")
    annotator.screenshot("prefill")
    page.keyboard.press("r")  # the first is selected
    page.wait_for_selector("#masks li >> nth=2", state="detached")
    page.keyboard.press("Enter")
    page.wait_for_selector("#masks li[data-kind=kept]")
    page.keyboard.press("Shift+A")
    page.wait_for_selector("#masks li[data-kind=proposed]", state="detached")
    annotator.saved()
    records = annotator.document()["annotations"]
    assert [record["label"] for record in records] == [None, None]
    assert annotator.proposed() == []


def test_on_a_phone(open_annotator: Open) -> None:
    annotator = open_annotator(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, device_scale_factor=2
    )
    page = annotator.page
    page.touchscreen.tap(*annotator.place(0.5, 0.4))
    annotator.answered()
    annotator.screenshot("phone")
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    small = page.evaluate(
        """() => [...document.querySelectorAll("button, select, input")].filter((b) => b.offsetParent)
        .filter((b) => !b.closest(".often, #masks, .also") && b.type !== "range")
        .map((b) => [b.id || b.textContent, b.getBoundingClientRect()])
        .filter(([, r]) => r.width < 40 || r.height < 40).map(([name]) => name)"""
    )
    assert small == []
    page.click("#accept")
    page.wait_for_selector("#masks li[data-kind=kept]")
    annotator.saved()
    assert len(annotator.document()["annotations"]) == 1


CONTRAST = """() => {
  const channel = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const over = ([r, g, b, a = 1], under) => [r, g, b].map((v, i) => v * a + under[i] * (1 - a));
  const ground = (e) => {
    const layers = [];
    for (; e; e = e.parentElement) layers.unshift(parse(getComputedStyle(e).backgroundColor));
    return layers.reduce((under, layer) => over(layer, under), [14, 17, 22]);
  };
  const poor = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility() || e.closest(":disabled, .only-read, .skip, script, option")) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) poor.push([e.textContent.trim().slice(0, 30), ratio.toFixed(2)]);
  }
  return poor;
}"""
NAMELESS = """() => [...document.querySelectorAll("button, input, select, progress, [role=application]")]
  .filter((e) => !(e.textContent.trim() || e.ariaLabel || e.labels?.length))
  .filter((e) => !e.getAttribute("aria-labelledby"))
  .map((e) => e.outerHTML.slice(0, 80))"""


def test_everybody_can_use_it(annotator: Annotator, quick_prefill: None) -> None:
    """Every control has a name, every text stands out, and focus is seen."""
    page = annotator.page
    page.keyboard.press("p")
    page.wait_for_selector("#masks li[data-kind=proposed] >> nth=2")
    page.click("summary")
    assert page.evaluate(NAMELESS) == []
    assert page.evaluate(CONTRAST) == []
    page.evaluate("() => { document.querySelector('#photo-name').style.color = '#444' }")
    assert page.evaluate(CONTRAST) != []  # the measure can fail
    page.keyboard.press("Tab")
    outline = page.evaluate("() => getComputedStyle(document.activeElement).outlineWidth")
    assert outline == "2px"
