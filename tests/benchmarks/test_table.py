"""docs/performance.md says what the results say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ABOUT: dict[str, Any] = {
    "cpu": "A Processor",
    "flags": ["avx2"],
    "threads": 2,
    "precision": "fp32",
    "load_before": 0.1,
    "busy": False,
    "versions": {"torch": "2.0"},
    "gflops_fp32": 100.0,
}
ROWS: list[dict[str, Any]] = [
    {
        "case": "64 clicks",
        "way": "sam-composer",
        "seconds": {"median": 0.5, "low": 0.4, "high": 0.6, "runs": 3},
        "gflop": 25,
        "gflop_published": 80,
    },
    {
        "case": "64 clicks",
        "way": "peer",
        "seconds": {"median": 0.0501, "low": 0.05, "high": 0.07, "runs": 3},
        "ratio": {"median": 4.0, "low": 3.5, "high": 4.256},
        "difference": 1e-6,
    },
]


@pytest.fixture(scope="module")
def table(benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark("table")


def test_the_page_is_what_the_results_give(table: ModuleType) -> None:
    page = table.PAGE.read_text(encoding="utf-8")
    assert len(table.PLACE.findall(page)) >= 5
    assert table.filled(page, table.RESULTS) == page, "run: python benchmarks/table.py"


def test_rows(table: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "decode.json").write_text(json.dumps({"machine": ABOUT, "rows": ROWS}))
    page = "before\n<!-- table: decode -->\nold\n<!-- end of table -->\nafter\n"
    filled = table.filled(page, tmp_path)
    assert filled.splitlines() == [
        "before",
        "<!-- table: decode -->",
        "A Processor (avx2), 2 threads, ours in fp32; matrix products at 100 GFLOP/s; torch 2.0.",
        "",
        "| measured | with | seconds (range) | times ours | beside it |",
        "| --- | --- | --- | --- | --- |",
        "| 64 clicks | sam-composer | 0.5 (0.4–0.6) |  "
        "| 25 GFLOP, 2.0 times what they take at the full rate; "
        "published code: 80 GFLOP, no less than 0.8 s |",
        "|  | peer | 50.1 (50–70) ms | 4 (3.5–4.26) | logits differ by at most 1e-06 of the largest |",
        "<!-- end of table -->",
        "after",
    ]
    assert table.filled(filled, tmp_path) == filled


def test_busy_machines_are_named(table: ModuleType, tmp_path: Path) -> None:
    busy = ABOUT | {"busy": True, "load_before": 9.5}
    (tmp_path / "a.json").write_text(json.dumps({"machine": busy, "rows": ROWS}))
    assert "Made on a busy machine (load 9.5 before the start)" in table.table("a", tmp_path / "a.json")


def test_other_forms_and_none(table: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_text(json.dumps({"machine": "x", "rows": {"a": 1}}))
    assert "[odd.json]" in table.table("odd", tmp_path / "odd.json")
    assert "Not measured yet" in table.table("none", tmp_path / "none.json")
