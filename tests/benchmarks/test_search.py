"""Short runs: what each changes reaches its training file and its model, and their outcome is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from matplotlib.figure import Figure

from composer.configs import load_yaml
from composer.presets import load_model_config
from composer.training_config import read_training_run
from sam.image_encoder.compact import CompactConfig

ROOT = Path(__file__).parents[2]
TOLD = load_yaml(ROOT / "benchmarks/search.yaml")
BASE = ROOT / "benchmarks" / TOLD["base"]


@pytest.fixture(scope="module")
def search(benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark("search")


@pytest.mark.parametrize("name", TOLD["runs"])
def test_every_run_can_be_trained(search: ModuleType, name: str, tmp_path: Path) -> None:
    run = read_training_run(search.written(tmp_path, BASE, {**TOLD["settings"], **TOLD["runs"][name]}))
    assert run.config.total_steps == 800 and run.root.resolve() == (ROOT.parent / "shared/data").resolve()
    plain = read_training_run(BASE)
    assert run.sets == plain.sets and run.validation == plain.validation


def test_a_run_changes_what_it_says_and_nothing_else(search: ModuleType, tmp_path: Path) -> None:
    changes = {"shapes.encoder.out_chans": 192, "shapes.decoder.embed_dim": 192, "sampling.mosaic": 0}
    run = read_training_run(search.written(tmp_path, BASE, changes))
    shipped = load_model_config("tiny")
    assert isinstance(run.model.encoder, CompactConfig) and isinstance(shipped.encoder, CompactConfig)
    assert (run.model.encoder.out_chans, run.model.decoder.embed_dim) == (192, 192)
    assert run.model.encoder.backbone == shipped.encoder.backbone
    assert run.config.sampling.mosaic == 0 and run.config.sampling.component == 0.2
    assert load_yaml(BASE)["model"] == "tiny"


def test_the_last_validation_is_the_outcome(search: ModuleType, tmp_path: Path) -> None:
    config = search.written(tmp_path, BASE, {"phases": [{"steps": 10, "size": 64, "batch": 3}]})
    figures = {"miou@1": 0.2, "miou@2": 0.3, "miou@3": 0.35, "oracle@1": 0.31, "box": 0.4, "box_filled": 0.5}
    rows: list[dict[str, Any]] = [
        {"step": 5, "seconds": 60, "prompts": 3.0},
        {"step": 5, "seconds": 60, **figures},
        {"step": 10, "seconds": 120, **figures, "box": 0.456},
    ]
    (tmp_path / "run").mkdir()
    (tmp_path / "run/log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = search.outcome(tmp_path, config)
    assert (found["step"], found["box"], found["oracle@1"]) == (10, 45.6, 31.0)
    assert (found["canvases"], found["minutes"], len(found["curve"])) == (30, 2.0, 2)
    assert found["million_parameters"] == pytest.approx(10.3, abs=0.1)


def test_a_folder_of_other_settings_is_refused(search: ModuleType, tmp_path: Path) -> None:
    search.written(tmp_path, BASE, {"sampling.mosaic": 0})
    search.written(tmp_path, BASE, {"sampling.mosaic": 0})
    with pytest.raises(SystemExit, match=r"config.yaml: of a run with other settings; .* --out"):
        search.written(tmp_path, BASE, {"sampling.mosaic": 0.1})


def test_a_run_that_is_not_there_is_named(
    search: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["search.py", "--only", "nonsense"])
    with pytest.raises(SystemExit):
        search.main()
    assert "no run 'nonsense'" in capsys.readouterr().err


def test_a_finished_run_is_not_trained_again(search: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/weights.safetensors").touch()
    search.train(tmp_path / "missing.yaml", tmp_path, None, None)


def test_shapes_are_timed_and_shown(
    search: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"phases": [{"steps": 1, "size": 64, "batch": 1}], "shapes.encoder.image_size": 64}
    search.written(tmp_path / search.folder_of("one, two"), BASE, small)
    row: dict[str, Any] = {"name": "one, two", "million_parameters": 6.2, "minutes": 0.1}
    row |= dict.fromkeys(search.FIGURES, 1.0)
    search.costs([row], tmp_path, 1)
    assert row["encode_ms"] > 0 and row["click_ms"] > 0
    assert search.table([row]).splitlines()[-1].startswith("| one, two | 6.2 | ")
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    search.draw([row, {**row, "name": "three", "box": 4.0}], tmp_path / "runs.png")
    [axes] = drawn[0].axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["one, two", "three"]
    points = {line.get_label(): list(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2}
    assert points["box"] == [1.0, 4.0] and set(search.FIGURES) <= points.keys()
