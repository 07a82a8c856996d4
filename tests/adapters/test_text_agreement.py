"""Which mask stands for an object: the one on which those that fit the phrase agree."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from adapters.results import FloatArray
from adapters.rle import encode_masks
from adapters.text_routes.agreement import Overlaps, Weights, outlines, overlaps, weights_of

NEVER = 2.0
"""A score from which an object is certain that none has."""


def columns(*spans: tuple[int, int]) -> Overlaps:
    """How masks of whole columns of an image 10 high and 100 wide lie to each other."""
    masks = np.zeros((len(spans), 10, 100), bool)
    for mask, (left, right) in zip(masks, spans, strict=True):
        mask[:, left:right] = True
    return overlaps(encode_masks(masks))


def numbers(*values: float) -> FloatArray:
    return np.array(values, np.float32)


def shares(*values: float) -> Weights:
    return np.array(values, np.float64)


def chosen(
    between: Overlaps, weights: Weights, scores: FloatArray, certain: float = NEVER
) -> tuple[list[int], list[float]]:
    everywhere = np.ones(len(scores), bool)
    found, best = outlines(between, weights, scores, everywhere, certain)
    return found.tolist(), best.tolist()


def test_how_masks_lie_by_hand() -> None:
    between = columns((0, 20), (10, 30), (0, 10), (50, 60))
    np.testing.assert_allclose(between.iou[0], [1, 1 / 3, 0.5, 0])
    assert between.clash[0].tolist() == [True, False, True, False]
    assert columns((0, 40), (5, 10)).clash.all(), "a part, though it is small"
    assert overlaps([]).iou.shape == (0, 0)


def test_three_that_agree_outvote_the_one_that_fits_best() -> None:
    between = columns((0, 8), (10, 40), (11, 41), (12, 42))
    found, best = chosen(between, shares(0.31, 0.23, 0.23, 0.23), numbers(0.9, 0.7, 0.6, 0.5))
    # Expected IoUs .31 and 0.23 * (1 + 2 * 29 / 31): the middle one of three, with the best score of them.
    assert found[0] == 2 and best[0] == pytest.approx(0.7)
    assert found == [2], "less than ENOUGH of it"
    found, best = chosen(between, shares(0.31, 0.23, 0.23, 0.23), numbers(0.9, 0.7, 0.6, 0.5), certain=0.8)
    assert found == [2, 0] and best == pytest.approx([0.7, 0.9]), "but .9 is certain"


def test_alone_the_best_one_stays() -> None:
    between = columns((0, 20), (50, 70), (80, 90))
    found, best = chosen(between, shares(0.4, 0.35, 0.25), numbers(0.5, 0.4, 0.0))
    assert found == [0, 1] and best == pytest.approx([0.5, 0.4]), "and what fits too little is no answer"
    assert chosen(between, shares(0.1, 0.1, 0.8), numbers(0, 0, 0)) == ([], [])


def test_the_answer_is_near_to_what_fits_and_may_be_answered() -> None:
    between = columns((0, 20), (0, 30), (60, 100))
    weights, scores = shares(0.3, 0.2, 0.5), numbers(0.5, 0, 0)
    assert chosen(between, weights, scores) == ([0], [0.5]), "not where the phrase itself fits nothing"
    eligible = np.array([False, True, True])
    found, _ = outlines(between, weights, scores, eligible, NEVER)
    assert found.tolist() == [1], "another phrase has the mask itself"
    found, _ = outlines(between, weights, scores, np.array([False, False, True]), NEVER)
    assert not len(found)


def test_weights_by_hand() -> None:
    fit: npt.NDArray[np.float32] = numbers(2.0, 0.0, -np.inf)
    weights = weights_of(fit, numbers(np.nan, np.nan, 0.9))
    assert weights[2] == 0 and weights.sum() == pytest.approx(1)
    assert weights[0] / weights[1] == pytest.approx(np.e)
    alike = weights_of(numbers(0, 0), numbers(0.9, 0.5))
    assert alike[0] / alike[1] == pytest.approx(np.exp(0.5 * 3 * 0.4), rel=1e-5)
    assert not weights_of(numbers(-np.inf), numbers(0.9)).any()
