"""Boxes first and stability where it decides: the answer is that of drawing everything and filtering."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from adapters import contest as contests
from adapters.contest import Contest, Winners
from adapters.drawing import DrawnMask, MaskDrawer
from adapters.rle import BoolArray, IntArray
from adapters.selection import box_nms

NMS = 0.6


def drawer() -> MaskDrawer:
    return MaskDrawer((64, 64), 256, (192, 256), (150, 200), origin=(7, 3), canvas=(180, 240))


def discs(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Discs that overlap a lot, some with soft borders (not stable), some empty; and their predicted IoU."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64]
    centre, radius = rng.integers(1, 4, (count, 2, 1, 1)) * 14, rng.integers(0, 3, (count, 1, 1)) * 5 + 4
    slope = rng.choice([0.3, 1.0, 4.0], (count, 1, 1))
    logits = slope * (radius + rng.random((count, 1, 1)) - np.hypot(x - centre[:, 0], y - centre[:, 1]))
    logits[rng.random(count) < 0.1] = -3
    scores = rng.random(count).round(1)  # with ties
    return torch.from_numpy(logits.astype(np.float32)), torch.from_numpy(scores.astype(np.float32))


def on_the_left(boxes: np.ndarray) -> BoolArray:
    return np.asarray(boxes[:, 0] < 120)


def filtered(logits: Tensor, scores: Tensor, min_stability: float) -> list[tuple[int, DrawnMask]]:
    """The paper's order: draw all, drop what is empty or not stable, then suppress duplicates."""
    drawn = drawer().draw(logits)
    boxes = np.array([mask.box for mask in drawn], np.float32)
    stable = np.array([mask.area > 0 and mask.stability >= min_stability for mask in drawn])
    alive = np.flatnonzero(stable & on_the_left(boxes))
    kept = alive[box_nms(boxes[alive], scores.numpy()[alive], NMS)]
    return [(number, drawn[number]) for number in kept.tolist()]


class Run:
    def __init__(self, logits: Tensor, scores: Tensor, min_stability: float, batch: int = 12) -> None:
        self.logits = logits
        self.again: list[int] = []
        contest = Contest(drawer(), self.redraw, on_the_left, nms_thresh=NMS, min_stability=min_stability)
        index = torch.stack([torch.arange(len(logits)) // 3, torch.arange(len(logits)) % 3], 1)
        for some in torch.arange(len(logits)).split(batch):
            contest.add(index[some], scores[some], logits[some])
        self.winners: Winners = contest.winners()

    def redraw(self, index: IntArray) -> Iterator[tuple[IntArray, Tensor]]:
        assert (np.diff(index[:, 0]) >= 0).all()
        numbers = index[:, 0] * 3 + index[:, 1]
        self.again += numbers.tolist()
        for start in range(0, len(index), 2):
            yield index[start : start + 2], self.logits[torch.from_numpy(numbers[start : start + 2])]

    def found(self) -> list[tuple[int, DrawnMask]]:
        numbers = self.winners.rows[:, 0] * 3 + self.winners.rows[:, 1]
        return list(zip(numbers.tolist(), self.winners.drawn, strict=True))


@pytest.mark.parametrize("min_stability", [0.0, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_same_as_drawing_everything(seed: int, min_stability: float) -> None:
    logits, scores = discs(150, seed)
    run = Run(logits, scores, min_stability)
    expected = filtered(logits, scores, min_stability)
    assert run.found() == expected
    assert run.again == []
    np.testing.assert_array_equal(run.winners.predicted_iou, scores.numpy()[[i for i, _ in expected]])
    assert len(expected) > 3 or min_stability == 1.0


@pytest.mark.parametrize("seed", range(2))
def test_same_when_no_logits_may_be_held(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contests, "HELD_LOGITS_BUDGET", 0)
    monkeypatch.setattr(contests, "BOXES_AT_ONCE", 5)
    monkeypatch.setattr(contests, "DRAWN_AT_ONCE", 2)
    logits, scores = discs(60, seed)
    run = Run(logits, scores, 0.8)
    assert run.found() == filtered(logits, scores, 0.8)


def test_what_comes_back_is_decoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second is beaten by the first, and loses its logits; the third beats the first alone."""
    monkeypatch.setattr(contests, "HELD_LOGITS_BUDGET", 0)
    monkeypatch.setattr(contests, "BOXES_AT_ONCE", 1)
    logits = torch.full((3, 64, 64), -5.0)
    for number, left in enumerate((5, 0, 10)):
        logits[number, 10:30, left : left + 25] = 5.0
    scores = torch.tensor([0.5, 0.1, 0.9])
    run = Run(logits, scores, 0.0, batch=1)
    assert run.found() == filtered(logits, scores, 0.0)
    assert [number for number, _ in run.found()] == [2, 1]
    assert run.again == [1]


def test_few_masks_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, scores = discs(150, 1)
    drawn: list[int] = []
    original = MaskDrawer.draw
    monkeypatch.setattr(
        MaskDrawer,
        "draw",
        lambda self, low, **options: drawn.append(len(low)) or original(self, low, **options),
    )
    run = Run(logits, scores, 0.0)
    assert sum(drawn) == len(run.winners.drawn) < 75


def test_nothing_competes() -> None:
    empty = Run(torch.zeros(0, 64, 64), torch.zeros(0), 0.5)
    assert empty.found() == [] and empty.winners.rows.shape == (0, 2)
