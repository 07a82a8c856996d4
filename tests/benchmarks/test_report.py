"""Turns, rows and kept runs of the benchmarks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from adapters.rle import encode_mask


@pytest.fixture(scope="module")
def report(benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark("_report")


def test_each_way_has_its_turn_in_every_round(report: ModuleType) -> None:
    order: list[str] = []
    ways = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    seconds = report.take_turns(ways, 2, warm_up=False)
    assert order == ["a", "b", "a", "b"]
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2}
    assert all(value >= 0 for times in seconds.values() for value in times)


def test_a_ratio_is_that_of_one_round(report: ModuleType) -> None:
    """A machine that is twice as slow in the second round is so for both."""
    rows = report.rows_of(
        "x", {report.OURS: [1.0, 2.0, 1.0], "peer": [3.0, 8.0, 5.0]}, {"peer": {"masks": 4}}
    )
    assert rows[0]["seconds"] == {"median": 1.0, "low": 1.0, "high": 2.0, "runs": 3}
    assert "ratio" not in rows[0]
    assert rows[1]["ratio"] == {"median": 4.0, "low": 3.0, "high": 5.0}
    assert rows[1]["masks"] == 4


def test_a_stopped_run_goes_on(report: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "PROGRESS", tmp_path)
    first = report.Progress("x", {"points": (8, 8)})
    assert first.once("a", lambda: 1) == 1
    again = report.Progress("x", {"points": (8, 8)})
    assert again.once("a", lambda: 2) == 1
    other = report.Progress("x", {"points": (4, 4)})
    assert other.once("a", lambda: 3) == 3
    other.finish()
    assert not list(tmp_path.iterdir())


def test_a_report_says_what_it_ran_on(report: ModuleType) -> None:
    about = report.machine(rates=False)
    assert about["threads"] == torch.get_num_threads()
    assert about["precision"] in ("fp32", "bf16")
    assert set(about["flags"]) <= set(report.CPU_FLAGS)
    assert "torch" in about["versions"]
    assert isinstance(about["busy"], bool)


def test_agreement_of_masks(benchmark: Callable[[str], ModuleType]) -> None:
    masks = np.zeros((3, 40, 40), bool)
    masks[0, :20], masks[1, :, :20], masks[2, 5:25, 5:30] = True, True, True
    rles = [encode_mask(mask) for mask in masks]
    moved = masks[2].copy()
    moved[5] = False
    amg = benchmark("amg")
    theirs = [rles[0], encode_mask(moved)]
    assert amg.agreement(theirs, rles) == {
        "masks": 2,
        "matched": 0.5,
        "matched_of_ours": round(1 / 3, 4),
        "median_iou": round((1 + 19 / 20) / 2, 4),
    }
    assert amg.agreement([], rles)["matched"] == 0


def test_boxes_lie_in_the_photo(benchmark: Callable[[str], ModuleType]) -> None:
    boxes = benchmark("box_batch").detector_boxes(50, (1200, 1800))
    assert boxes.shape == (50, 4)
    assert (boxes >= 0).all() and (boxes <= [1800, 1200, 1800, 1200]).all()
    assert (boxes[:, 2:] - boxes[:, :2] >= [44, 29]).all()
