"""Clicks, corners and hints, and what the widgets' values become."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from apps.demo import asking
from apps.demo.session import Session, Suggestion
from sam.errors import BadPrompt


def test_clicks_are_added_undone_and_cleared() -> None:
    empty = Session("a.jpg")
    two = empty.marked("click", 3, 4, 1).marked("click", 5, 6, 0)
    assert [(c.x, c.y, c.label) for c in two.clicks] == [(3, 4, 1), (5, 6, 0)]
    assert not empty.clicks, "a session is a value: the earlier one is as it was"
    assert two.undone("click").clicks == two.clicks[:1]
    assert two.cleared("click") == empty
    assert two.undone("box") == two, "another tab's undo is not ours"
    assert two.asks("click") and not empty.asks("click")


def test_two_corners_make_a_box_whichever_comes_first() -> None:
    one = Session("a.jpg").marked("box", 30, 40, 1)
    assert one.pending == (30, 40) and not one.boxes and not one.asks("box")
    done = one.marked("box", 10, 50, 1)
    assert done.boxes == [[10, 40, 30, 50]] and done.pending is None and done.asks("box")
    third = done.marked("box", 1, 2, 1)
    assert third.boxes == done.boxes and third.pending == (1, 2)
    assert third.undone("box") == done


def test_a_double_click_is_no_box() -> None:
    one = Session("a.jpg").marked("box", 30, 40, 1)
    assert one.marked("box", 30, 40, 1) == one


@pytest.mark.parametrize("mode", ["everything", "detect", "edges", "proposals", "pipeline"])
def test_a_click_means_nothing_in_the_other_tabs(mode: asking.Any) -> None:
    session = Session("a.jpg")
    assert session.marked(mode, 1, 2, 1) == session
    assert not session.asks(mode)


def test_a_name_is_no_path() -> None:
    assert Session("/tmp/gradio/abc/street.jpg").name == "street.jpg"
    assert Session().name == "photo"


def test_points_of_a_session() -> None:
    session = Session("a.jpg").marked("click", 3, 4, 1).marked("click", 5, 6, 0)
    request = asking.click_request(session, three=False)
    assert np.array_equal(request.points, [[[3, 4], [5, 6]]])  # type: ignore[attr-defined]
    assert np.array_equal(request.labels, [[1, 0]])  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("dog", ["dog"]),
        (" dog, a red car ;cat\nbus,", ["dog", "a red car", "cat", "bus"]),
        (["dog ", ""], ["dog"]),
        ("", []),
        (None, []),
    ],
)
def test_phrases(text: str, phrases: list[str]) -> None:
    assert asking.phrases_of(text) == phrases


def test_a_hint_of_a_suggestion_asks_for_its_own_phrase() -> None:
    session = Session("a.jpg", hint=Suggestion("dog", 3, 4))
    request = asking.text_request(session, "cat, dog, bus", "toy", None, {"cat": 0.5, "dog": 0.3})
    assert request.phrases == ("dog",)  # type: ignore[attr-defined]
    assert request.hint_point == (3, 4)  # type: ignore[attr-defined]
    assert request.thresholds == {"dog": 0.3}  # type: ignore[attr-defined]
    assert request.negatives == ("toy",)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("ask", "field"),
    [
        (lambda: asking.text_request(Session("a"), " , ", ""), "phrases"),
        (lambda: asking.text_request(Session("a"), cast("Any", [1]), ""), "phrases"),
        (lambda: asking.text_request(Session("a"), "dog", "", None, cast("Any", [0.3])), "thresholds"),
        (lambda: asking.everything_request(65, None, None, 0), "grid"),
        (lambda: asking.everything_request(float("nan"), None, None, 0), "grid"),
        (lambda: asking.proposals_request(1001, 32), "limit"),
        (lambda: asking.edges_request(16, "walls", False), "source"),
        (lambda: asking.session_of_points("a", []), "points"),
        (lambda: asking.session_of_points("a", [[1, "2"]]), "points"),
        (lambda: asking.session_of_points("a", [[1, 2, 1, 1]]), "points"),
        (lambda: asking.click_request(asking.session_of_points("a", [[1, 2, 7]]), False), "labels"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_name(ask: asking.Any, field: str) -> None:
    with pytest.raises(BadPrompt) as refused:
        ask()
    assert refused.value.field == field
