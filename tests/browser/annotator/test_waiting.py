"""What is done while the decoder is still at the last click: nothing is lost."""

from __future__ import annotations

from .conftest import Annotator

SLOW = """() => {
  const real = Worker.prototype.postMessage;
  window.held = [];
  Worker.prototype.postMessage = function (message, ...more) {
    if (message.name !== "decode" || message.value.quick) return real.call(this, message, ...more);
    held.push((photo) => {
      message.value.photo = photo ?? message.value.photo;
      real.call(this, message, ...more);
    });
  };
  window.release = (photo) => {
    Worker.prototype.postMessage = real;
    for (const send of held) send(photo);
  };
}"""
"""From here on clicks wait for their answers until ``release()``; those of another photo get none."""


def slow_click(annotator: Annotator, x: float, y: float) -> None:
    """A click that is not answered before ``release()``."""
    annotator.page.evaluate(SLOW)
    annotator.click(x, y)
    annotator.page.wait_for_function("() => held.length > 0")


def test_a_click_is_asked_once(annotator: Annotator) -> None:
    slow_click(annotator, 0.5, 0.4)
    assert annotator.page.evaluate("() => held.length") == 1
    annotator.page.evaluate("() => release()")
    annotator.answered()


def test_a_click_is_kept_when_the_page_is_turned_at_once(annotator: Annotator) -> None:
    page = annotator.page
    slow_click(annotator, 0.5, 0.4)
    page.keyboard.press("PageDown")
    page.keyboard.press("PageDown")  # somebody is in a hurry
    page.evaluate("() => release()")
    page.wait_for_selector("#photo-name:has-text('zidane.jpg')")
    page.wait_for_selector("body[data-ready]")
    (record,) = annotator.proposed()
    assert len(record["point_coords"]) == 1
    page.keyboard.press("PageUp")
    page.wait_for_selector("#photo-name:has-text('bus.jpg')")
    page.wait_for_selector("#masks li[data-kind=proposed]")
    assert page.locator("#masks li").count() == 1


def test_a_click_is_kept_when_another_mask_is_taken_up_at_once(annotator: Annotator) -> None:
    page = annotator.page
    page.keyboard.press("d")
    for number, y in enumerate((0.1, 0.9)):
        annotator.stroke((0.1, y), (0.3, y))
        page.keyboard.press("Enter")
        page.wait_for_selector(f"#masks li >> nth={number}")
    page.keyboard.press("c")
    slow_click(annotator, 0.5, 0.4)
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.evaluate("() => release()")
    page.wait_for_selector("#masks li[data-kind=proposed]")
    page.wait_for_selector("#masks li:nth-child(3)[data-selected=yes]")  # the click's own is the first
    annotator.saved()
    assert len(annotator.proposed()) == 1

    slow_click(annotator, 0.85, 0.75)
    page.click("#masks li:nth-child(2) [title='Change this mask']")
    page.evaluate("() => release()")
    page.wait_for_selector("#masks li[data-kind=proposed] >> nth=1")
    annotator.saved()
    assert len(annotator.proposed()) == 2
    assert len(annotator.document()["annotations"]) == 2


def test_a_click_without_an_answer_does_not_hold_the_page(annotator: Annotator) -> None:
    page = annotator.page
    slow_click(annotator, 0.5, 0.4)
    page.keyboard.press("PageDown")
    page.evaluate("() => release(-1)")
    page.wait_for_selector("#photo-name:has-text('zidane.jpg')")
    page.wait_for_selector("body[data-ready]")
    assert annotator.document()["annotations"] == []
    annotator.click(0.5, 0.4)  # and the decoder goes on
    annotator.answered()
