"""The benchmark for GPUs runs through on a CPU, and says so where there is no GPU."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch


@pytest.fixture(scope="module")
def gpu(benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark("gpu")


def run(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py", *options])
    gpu.main()


def test_a_dry_run_on_the_cpu(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu, "CLICKS", (2, 3))
    monkeypatch.setattr(gpu, "BATCHES", (1, 2))
    path = tmp_path / "gpu.json"
    options = ("--device", "cpu", "--models", "small", "--repeats", "1", "--points-per-side", "2")
    run(gpu, monkeypatch, *options, "--json", str(path))
    report = json.loads(path.read_text())
    rows = {(row["case"], row["way"]): row for row in report["rows"]}
    assert report["machine"]["peak_gflops"] > 0
    for batch in (1, 2):
        row = rows[f"small, encode {batch}", "sam-composer"]
        assert 0 < row["mfu"] < 1 and row["images_per_second"] > 0
    if "segment_anything" in gpu._peers.installed():
        assert rows["small, encode 1", "sam-composer"]["cosine"] >= 0.999
        assert ("small, automatic masks, 2 x 2", "segment_anything") in rows
    for count in (2, 3):
        assert rows[f"small, {count} clicks", gpu.GRAPH]["largest_difference"] < 1e-4
    assert rows["small, automatic masks, 2 x 2", "sam-composer"]["masks"] >= 1
    assert rows["small, batch job of 4 photos", "sam-composer"]["images_per_second"] > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_exits_with_6(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(gpu, monkeypatch)
    assert ended.value.code == 6
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: device 'cuda' is not available")
