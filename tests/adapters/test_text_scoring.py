"""Phrases against their rivals, and which masks answer them: the arithmetic, on made-up vectors and masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from adapters.results import Instances
from adapters.rle import bounding_boxes, encode_mask
from adapters.text_routes import naming
from adapters.text_routes.naming import (
    Named,
    answers,
    close,
    distinct,
    inner_point,
    look_at,
    suggestions,
)
from adapters.text_routes.vocabulary import BACKGROUND, COMMON, Vocabulary
from adapters.visual_prompts import LOOKS

SIZE = (40, 60)


class Words:
    """A text-image model whose vectors of phrases are given; all others are the last unit vector."""

    def __init__(self, vectors: dict[str, list[float]], bias: float | None = None) -> None:
        self.scale, self.bias, self.name = 10.0, bias, "words"
        self._vectors = vectors

    def encode_phrases(self, phrases: list[str]) -> torch.Tensor:
        return torch.tensor([self._vectors.get(p, [0, 0, 0, 1.0]) for p in phrases])


VECTORS = {
    "dog": [1.0, 0, 0, 0],
    "hound": [0.0, 1, 0, 0],
    "zebra": [0, 0, 1.0, 0],
    "toy dog": [0.6, 0, 0, 0.8],
}
PICTURES = torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.0, 0], [0, 0, 0, 1.0]])


def vocabulary(*phrases: str, bias: float | None = None, vectors: Any = VECTORS, **more: Any) -> Vocabulary:
    return Vocabulary.of(Words(vectors, bias), phrases, **more)  # type: ignore[arg-type]


def test_a_softmax_models_score_is_the_share_among_rivals() -> None:
    words = vocabulary("dog", "zebra")
    others = len({*BACKGROUND, *COMMON} - {"dog"})
    expected = np.exp(10) / (np.exp(10) + 1 + others)
    found = words.relevance(PICTURES)
    assert found.shape == (4, 2) and found.dtype == np.float32
    np.testing.assert_allclose(found[0, 0], expected, rtol=1e-4)
    np.testing.assert_allclose(found[2, 1], expected, rtol=1e-4)
    assert found[3].max() < 1e-4  # the picture of what is in the background


def test_the_best_word_for_a_label_counts() -> None:
    alone, with_synonym = vocabulary("dog"), vocabulary("dog", synonyms={"dog": ["hound"]})
    np.testing.assert_allclose(with_synonym.relevance(PICTURES)[0], alone.relevance(PICTURES)[0], rtol=1e-4)
    assert alone.relevance(PICTURES)[1, 0] < 0.05 < 0.9 < with_synonym.relevance(PICTURES)[1, 0]


@pytest.mark.parametrize("bias", [None, -5.0])
def test_a_negative_phrase_takes_what_fits_it_better(bias: float | None) -> None:
    toy = torch.nn.functional.normalize(torch.tensor([[0.8, 0, 0, 0.5]]), dim=1)
    vectors = VECTORS | {"toy dog": toy[0].tolist()}
    alone = vocabulary("zebra", bias=bias, vectors=VECTORS | {"zebra": [1.0, 0, 0, 0]})
    against = vocabulary(
        "zebra", bias=bias, vectors=vectors | {"zebra": [1.0, 0, 0, 0]}, negatives=["toy dog"]
    )
    assert alone.relevance(toy)[0, 0] > 0.25
    assert against.relevance(toy)[0, 0] == 0
    assert against.ruled_out(toy).tolist() == [[True]]
    assert against.relevance(PICTURES)[0, 0] > 0.25, "what the phrase fits better stays"
    assert not alone.has_negatives and against.has_negatives


def test_a_sigmoid_models_score_is_its_own_probability() -> None:
    words = vocabulary("zebra", bias=-5.0)
    found = words.relevance(PICTURES)[:, 0]
    np.testing.assert_allclose(found[2], 1 / (1 + np.exp(-5)), rtol=1e-4)
    assert found[3] == 0  # a word of the fixed lists fits better by more than the slack
    assert 0 < found[1] < 0.01  # nothing fits
    assert found[0] == 0  # it is a dog


def test_words_that_mean_the_same_do_not_compete() -> None:
    words = vocabulary("car", "a red car", "people", vectors={})
    names = ["car", "a red car", "people"]
    assert not words.rivals[0, names.index("a red car")] and not words.rivals[1, names.index("car")]
    same = vocabulary("dog", "hound", vectors={"dog": [1.0, 0, 0, 0], "hound": [0.95, 0.31, 0, 0]})
    assert not same.rivals[0, 1]
    negative = vocabulary("dog", negatives=["toy dog"])
    assert negative.rivals[0, 1], "a negative phrase competes whatever it is like"


def test_phrases_that_are_in_the_fixed_lists_stand_for_themselves() -> None:
    words = vocabulary("Dog", "sky")
    assert len(words.phrase_of) == 2 + len(BACKGROUND) + len(COMMON) - 2
    assert not words.rivals[0, 0]


def test_a_negative_of_the_fixed_lists_is_there_once() -> None:
    words, with_negative = vocabulary("zebra"), vocabulary("zebra", negatives=["Cat"])
    assert len(with_negative.phrase_of) == len(words.phrase_of)


# ---- masks -------------------------------------------------------------------------------------------------


def box(x1: int, y1: int, x2: int, y2: int) -> npt.NDArray[np.bool_]:
    mask = np.zeros(SIZE, bool)
    mask[y1:y2, x1:x2] = True
    return mask


def instances(*masks: npt.NDArray[np.bool_]) -> Instances:
    rles = tuple(encode_mask(mask) for mask in masks)
    return Instances(SIZE, rles, bounding_boxes(rles), np.ones(len(masks), np.float32))


LEFT, LEFT_TOO, PART, RIGHT = box(0, 0, 20, 30), box(2, 0, 22, 30), box(4, 4, 12, 12), box(30, 0, 50, 30)
BOTH = box(0, 0, 50, 30)


@pytest.mark.parametrize(
    ("masks", "scores", "kept"),
    [
        ([LEFT, LEFT_TOO, RIGHT], [0.5, 0.9, 0.7], [1, 2]),  # duplicates
        ([LEFT, PART], [0.9, 0.6], [0]),  # a part
        ([LEFT, PART], [0.6, 0.9], [1]),  # a thing with much around it
        ([LEFT, PART], [0.6, 0.6], [0]),  # of equals the larger
        ([BOTH, LEFT, RIGHT], [0.6, 0.8, 0.5], [1, 2]),  # a group
        ([BOTH, LEFT, RIGHT], [0.9, 0.8, 0.5], [0]),
        ([LEFT], [0.1], [0]),
        ([], [], []),
    ],
)
def test_each_object_once(masks: list[Any], scores: list[float], kept: list[int]) -> None:
    found = distinct([encode_mask(mask) for mask in masks], np.array(scores, np.float32))
    assert found.tolist() == kept


def test_labels_go_to_the_phrase_that_fits_best() -> None:
    words = vocabulary("dog", "zebra")
    relevance = np.array([[0.99, 0.9], [0.5, 0.45], [0.2, 0.5]], np.float32)
    found = answers(Named(instances(LEFT, RIGHT, PART), relevance), words, np.array([0.4, 0.4], np.float32))
    # .45 is close enough to .5 that both clearly apply, and .9 far enough from .99.
    assert found.labels == ("dog", "dog", "zebra", "zebra")
    np.testing.assert_allclose(found.scores, [0.99, 0.5, 0.5, 0.45])
    np.testing.assert_array_equal(found.scores, found.text_score)
    assert found.prompt_index.tolist() == [0, 0, 1, 1] and found.score_kind == "text_score"


def test_one_object_under_two_outlines_has_one_name() -> None:
    words = vocabulary("dog", "zebra")
    relevance = np.array([[0.9, 0.05], [0.05, 0.6], [0.0, 0.5]], np.float32)
    again = box(0, 0, 20, 29)
    found = answers(Named(instances(LEFT, again, RIGHT), relevance), words, np.array([0.4, 0.4], np.float32))
    assert found.labels == ("dog", "zebra") and found.scores[1] == np.float32(0.5)
    close_by = np.array([[0.6, 0.05], [0.05, 0.55], [0.0, 0.5]], np.float32)
    found = answers(Named(instances(LEFT, again, RIGHT), close_by), words, np.array([0.4, 0.4], np.float32))
    assert found.labels == ("dog", "zebra", "zebra")


def test_thresholds_are_by_phrase_and_limits_too() -> None:
    words = vocabulary("dog", "zebra")
    relevance = np.array([[0.5, 0], [0.6, 0], [0, 0.5]], np.float32)
    named = Named(instances(LEFT, RIGHT, PART), relevance)
    found = answers(named, words, np.array([0.4, 0.6], np.float32))
    assert found.labels == ("dog", "dog")
    found = answers(named, words, np.array([0.4, 0.4], np.float32), limit=1)
    assert found.labels == ("dog", "zebra") and found.scores[0] == np.float32(0.6)
    assert len(answers(named, words, np.array([0.7, 0.7], np.float32))) == 0


def test_nothing_fits_at_a_threshold_of_zero_what_is_ruled_out() -> None:
    named = Named(instances(LEFT), np.zeros((1, 1), np.float32))
    assert len(answers(named, vocabulary("dog"), np.zeros(1, np.float32))) == 0


def test_what_a_detector_knows_needs_no_threshold_but_one_that_was_given() -> None:
    words = vocabulary("dog")
    named = Named(instances(LEFT), np.array([[0.3]], np.float32), np.array([[True]]))
    high = np.array([0.5], np.float32)
    assert len(answers(named, words, high)) == 1
    assert len(answers(named, words, high, strict=np.array([True]))) == 0


def test_a_detectors_name_stays_beside_what_fits_better() -> None:
    words = vocabulary("dog", "zebra")
    named = Named(instances(LEFT), np.array([[0.3, 0.9]], np.float32), np.array([[True, False]]))
    assert answers(named, words, np.array([0.2, 0.2], np.float32)).labels == ("zebra", "dog")


def test_what_was_close_is_suggested_where_one_would_click() -> None:
    words = vocabulary("dog", "zebra", "hound")
    relevance = np.array([[0.5, 0.25, 0.1], [0.1, 0.3, 0.0]], np.float32)
    named = Named(instances(LEFT, RIGHT), relevance)
    thresholds = np.full(3, 0.4, np.float32)
    found = answers(named, words, thresholds)
    assert close(named, found, thresholds).tolist() == [False, True, False]
    places = suggestions(named, found, thresholds)
    assert places["prompts"].tolist() == [1]
    x, y = places["points"][0]
    assert 38 <= x <= 41 and 9 <= y <= 20


def test_an_inner_point_lies_in_the_mask() -> None:
    ring = box(10, 5, 50, 35) & ~box(14, 9, 46, 31)
    x, y = inner_point(encode_mask(ring), np.array([10, 5, 50, 35], np.float32))
    assert ring[int(y), int(x)]


def test_joining_and_narrowing() -> None:
    one = Named(instances(LEFT), np.array([[0.2, 0.4]], np.float32))
    both = Named.concatenate([one, one])
    assert both.best().tolist() == pytest.approx([0.2, 0.4])
    assert one.only(np.array([True, False])).best().tolist() == pytest.approx([0.2, 0])
    nothing = Named(instances(LEFT)[[]], np.zeros((0, 2), np.float32))
    assert nothing.best().tolist() == [0, 0]


def test_crops_are_shown_within_a_budget(make_coloured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each crop once, whatever the words; few at a time give the same vectors."""
    coloured = make_coloured()
    scene, model, candidates = coloured.scene, coloured.model, coloured.candidates
    whole = look_at(scene.image, candidates, model)
    assert model.pictures == len(candidates) * len(LOOKS)
    shown: list[int] = []
    encode = model.encode_pictures
    monkeypatch.setattr(model, "encode_pictures", lambda many: shown.append(len(many)) or encode(many))
    monkeypatch.setattr(naming, "PICTURES_BUDGET", 2 * len(LOOKS) * 12 * 32**2)
    few = look_at(scene.image, candidates, model)
    assert shown == [2 * len(LOOKS), len(LOOKS)]
    torch.testing.assert_close(few.vectors, whole.vectors)
    for phrases in (["red"], ["green", "blue"]):
        few.named(Vocabulary.of(model, phrases))
    assert shown == [2 * len(LOOKS), len(LOOKS)]
