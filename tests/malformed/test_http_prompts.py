"""Prompts over HTTP that fit no image, no model, or no memory."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.apps.api.kit import form, image_file
from tests.malformed.test_http_bodies import problem

CASES: dict[str, tuple[dict[str, Any], str, str]] = {
    "point outside": ({"kind": "points", "points": [[64, 5]]}, "point_outside", "points"),
    "point before": ({"kind": "points", "points": [[-1, 5]]}, "point_outside", "points"),
    "no points": ({"kind": "points", "points": []}, "prompt_invalid", "points"),
    "points left out": ({"kind": "points"}, "field_missing", "points"),
    "flat points": ({"kind": "points", "points": [1, 2]}, "prompt_invalid", "points"),
    "ragged points": ({"kind": "points", "points": [[1, 2], [3]]}, "prompt_invalid", "points"),
    "texts for points": ({"kind": "points", "points": [["1", "2"]]}, "request_invalid", "points"),
    "true for points": ({"kind": "points", "points": [[True, 2]]}, "request_invalid", "points"),
    "deep points": ({"kind": "points", "points": [[[[[1, 2]]]]]}, "request_invalid", "points"),
    "labels count": (
        {"kind": "points", "points": [[1, 2]], "labels": [1, 0]}, "prompt_invalid", "labels",
    ),
    "label value": ({"kind": "points", "points": [[1, 2]], "labels": [2]}, "prompt_invalid", "labels"),
    "too many points": ({"kind": "points", "points": [[1, 1]] * 4097}, "too_many_prompts", "points"),
    "which masks": ({"kind": "points", "points": [[1, 2]], "masks": "some"}, "request_invalid", "masks"),
    "mask shape": (
        {"kind": "points", "points": [[1, 2]], "mask_logits": [[[0, 1]]]}, "prompt_invalid", "mask_logits",
    ),
    "mask budget": (
        {"kind": "points", "points": [[[1, 1]]] * 700}, "mask_budget", "points",
    ),
    "box turned": ({"kind": "boxes", "boxes": [[9, 9, 5, 20]]}, "prompt_invalid", "boxes"),
    "box flat": ({"kind": "boxes", "boxes": [[9, 9, 9, 20]]}, "prompt_invalid", "boxes"),
    "box outside": ({"kind": "boxes", "boxes": [[100, 100, 120, 120]]}, "box_outside", "boxes"),
    "box of three": ({"kind": "boxes", "boxes": [[1, 2, 3]]}, "prompt_invalid", "boxes"),
    "no boxes": ({"kind": "boxes", "boxes": []}, "prompt_invalid", "boxes"),
    "refine": ({"kind": "boxes", "boxes": [[1, 1, 9, 9]], "refine": 11}, "prompt_invalid", "refine"),
    "empty text": ({"kind": "text", "phrases": [""]}, "prompt_invalid", "phrases"),
    "no text": ({"kind": "text", "phrases": []}, "request_invalid", "phrases"),
    "long text": ({"kind": "text", "phrases": ["x" * 10_240]}, "phrase_too_long", "phrases"),
    "threshold": ({"kind": "text", "phrases": ["x"], "threshold": 2}, "prompt_invalid", "threshold"),
    "unknown kind": ({"kind": "pionts", "points": [[1, 1]]}, "adapter_unknown", "kind"),
    "no kind": ({"points": [[1, 1]]}, "request_invalid", "kind"),
    "kind of another type": ({"kind": 5}, "request_invalid", "kind"),
    "trust": ({"kind": "detect", "trust": True}, "field_unknown", "trust"),
    "annotations": ({"kind": "detect", "annotations": "/etc/passwd"}, "field_unknown", "annotations"),
    "a detector's path": ({"kind": "detect", "detector": "/tmp/x.pt"}, "detector_unknown", "detector"),
    "a detector's name": ({"kind": "detect", "detector": "yolo11n.pt"}, "detector_unknown", "detector"),
    "a clip's path": ({"kind": "text", "phrases": ["x"], "clip": "/tmp"}, "clip_unknown", "clip"),
    "pretrained": ({"kind": "text", "phrases": ["x"], "pretrained": "/x"}, "field_unknown", "pretrained"),
    "candidates": ({"kind": "select", "candidates": []}, "request_invalid", "kind"),
    "other masks": ({"kind": "edges", "within": []}, "field_unknown", "within"),
    "a dense grid": ({"kind": "everything", "points_per_side": 100}, "too_many_prompts", "points_per_side"),
    "no grid": ({"kind": "everything", "points_per_side": 0}, "prompt_invalid", "points_per_side"),
    "limit": ({"kind": "proposals", "limit": 10**6}, "prompt_invalid", "limit"),
    "edge source": ({"kind": "edges", "source": "x"}, "request_invalid", "source"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_each_is_named(client: TestClient, name: str) -> None:
    request, code, field = CASES[name]
    body = problem(client.post("/v1/segment", **form(image_file(), [request])), 422, code)
    assert body["field"] in (field, f"requests[0].{field}")


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("point outside", {"x": [0, 63], "y": [0, 47]}),
        ("refine", {"min": 0, "max": 10}),
        ("too many points", {"min": 1, "max": 4096}),
        ("mask budget", {"min": 1, "max": (256 << 10) * 8 // (64 * 48)}),
        ("which masks", ["best", "all"]),
        ("edge source", ["masks", "head", "both"]),
    ],
)
def test_what_would_be_accepted_is_told(client: TestClient, name: str, allowed: object) -> None:
    answer = client.post("/v1/segment", **form(image_file(), [CASES[name][0]]))
    assert answer.json()["allowed"] == allowed


def test_the_known_kinds_are_listed(client: TestClient) -> None:
    answer = client.post("/v1/segment", **form(image_file(), [CASES["unknown kind"][0]])).json()
    assert {"points", "boxes", "text"} <= set(answer["allowed"])
    assert "did you mean 'points'" in answer["detail"]


def test_the_second_request_is_named(client: TestClient) -> None:
    asked = [{"kind": "points", "points": [[1, 1]]}, {"kind": "boxes", "boxes": [[9, 9, 5, 5]]}]
    answer = client.post("/v1/segment", **form(image_file(), asked))
    assert problem(answer, 422, "prompt_invalid")["field"] == "requests[1].boxes"


def test_too_many_requests(client: TestClient) -> None:
    asked = [{"kind": "points", "points": [[1, 1]]}] * 5
    answer = client.post("/v1/segment", **form(image_file(), asked))
    assert problem(answer, 422, "request_invalid")["allowed"] == {"min": 1, "max": 4}
