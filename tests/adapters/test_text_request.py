"""What a text request accepts, and that it is plain JSON and comes back from it."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from adapters.relabel import Relabel
from adapters.text import Text
from composer.requests import request_record
from sam.errors import BadPrompt


def test_phrases_by_themselves_or_as_a_field() -> None:
    assert Text("dog", " a red car ").phrases == ("dog", "a red car")
    assert Text(phrases=["dog", "a red car"]).phrases == ("dog", "a red car")
    with pytest.raises(BadPrompt, match="not both"):
        Text("dog", phrases=["cat"])
    with pytest.raises(FrozenInstanceError):
        Text("dog").phrases = ("cat",)  # type: ignore[misc]


def test_it_comes_back_from_json() -> None:
    request = Text(
        "dog", "sofa", negatives=["toy dog"], synonyms={"sofa": ["couch", "settee"]}, threshold=0.3,
        thresholds={"dog": 0.5}, route="rank", max_instances=2, clip="ViT-B-32", pretrained="openai",
        detector="a.onnx",
    )  # fmt: skip
    record = json.loads(json.dumps(request_record(request)))
    assert record.pop("kind") == "text"
    assert request_record(Text(**record)) == request_record(request)
    assert record["synonyms"] == {"sofa": ["couch", "settee"]}
    one = Text("dog", hint_point=[3, 4.5])
    record = json.loads(json.dumps(request_record(one)))
    del record["kind"]
    assert Text(**record).hint_point == (3, 4.5)
    assert replace(one, threshold=0.2).threshold == 0.2


def test_what_is_given_is_copied() -> None:
    synonyms = {"dog": ["hound"]}
    request = Text("dog", synonyms=synonyms)
    synonyms["dog"].append("cat")
    assert request.words_of("dog") == ("dog", "hound")


@pytest.mark.parametrize(
    ("fields", "message", "field"),
    [
        ({"phrases": []}, "0 phrases: give 1 to 100", "phrases"),
        ({"phrases": ["dog"] * 2}, "'dog' is given twice", "phrases"),
        ({"phrases": [str(i) for i in range(101)]}, "101 phrases", "phrases"),
        ({"phrases": "dog"}, "must be a list", "phrases"),
        ({"phrases": 3}, "must be a list", "phrases"),
        ({"phrases": ["dog", 3]}, "a phrase is text, not 3", "phrases"),
        ({"phrases": ["dog", "  "]}, "a phrase is empty", "phrases"),
        ({"phrases": ["dog" * 3400]}, "10,200 characters; give at most 1,000", "phrases"),
        ({"phrases": ["dog"], "negatives": ["cat", ""]}, "a phrase is empty", "negatives"),
        ({"phrases": ["dog"], "negatives": ["dog"]}, "both wanted and not", "negatives"),
        ({"phrases": ["dog"], "synonyms": {"cat": ["puss"]}}, "'cat' is none of the phrases", "synonyms"),
        ({"phrases": ["dog"], "synonyms": {"dog": "hound"}}, "must be a list", "synonyms"),
        ({"phrases": ["dog"], "synonyms": {"dog": ["dog"]}}, "as its own", "synonyms"),
        ({"phrases": ["dog"], "synonyms": ["hound"]}, "must say for which phrase", "synonyms"),
        ({"phrases": ["dog"], "threshold": 1.5}, "from 0 to 1", "threshold"),
        ({"phrases": ["dog"], "threshold": float("nan")}, "from 0 to 1", "threshold"),
        ({"phrases": ["dog"], "thresholds": {"dog": True}}, "from 0 to 1", "thresholds"),
        ({"phrases": ["dog"], "thresholds": {"cat": 0.5}}, "none of the phrases", "thresholds"),
        ({"phrases": ["dog"], "route": "magic"}, "route must be one of auto, token, rank", "route"),
        ({"phrases": ["dog"], "max_instances": 0}, "from 1 to", "max_instances"),
        ({"phrases": ["dog"], "hint_point": [1, 2, 3]}, r"must be \[x, y\]", "hint_point"),
        ({"phrases": ["dog", "cat"], "hint_point": [1, 2]}, "there are 2", "hint_point"),
        ({"phrases": ["dog"], "candidates": [[1]]}, "must be Instances", "candidates"),
        ({"phrases": ["dog"], "trust": 1}, "true or false", "trust"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], message: str, field: str) -> None:
    with pytest.raises(BadPrompt, match=message) as refused:
        Text(**fields)
    assert refused.value.field == field
    assert len(str(refused.value)) < 300


def test_relabel_is_checked_too() -> None:
    request = Relabel([" dog", "cat"], negatives=["toy"], threshold=0.3)
    assert request.phrases == ("dog", "cat")
    record = request_record(request)
    assert record == {
        "kind": "relabel", "phrases": ["dog", "cat"], "negatives": ["toy"], "threshold": 0.3
    }  # fmt: skip
    for fields in (
        {"phrases": []}, {"phrases": ["dog"], "negatives": ["dog"]}, {"phrases": ["dog"], "threshold": 2},
        {"phrases": ["dog"], "candidates": 3}, {"phrases": "dog"},
    ):  # fmt: skip
        with pytest.raises(BadPrompt):
            Relabel(**fields)  # type: ignore[arg-type]
