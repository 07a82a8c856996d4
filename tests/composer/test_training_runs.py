"""A run's folder is its own, its validation is fair, and its curve is a picture."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from composer import training_runs
from composer.evaluation.ground_truth import open_panoptic
from composer.evaluation.scoring import MaskFilter
from composer.training_config import TrainingRun, read_training_run
from composer.training_data import write_panoptic
from composer.training_runs import claim_folder, save_curve, training_dtype
from composer.training_sets import Validation
from composer.training_start import new_model, read_start
from composer.training_validation import Validator, held_out
from sam.checkpoints import save_weights
from sam.errors import CheckpointError, EnvironmentProblem, UsageError
from sam.model import Candidates, SegmentAnything
from sam.training.data import LabelledPhoto
from sam.training.shapes import made_photos
from sam.variants import build_model

CPU = torch.device("cpu")
TEXT = """\
model: smoke
phases: [{steps: 6, size: 64, batch: 2}]
learning_rate: 1.0e-3
data: {sets: {shapes: {shapes: 20, weight: 1}}}
"""


@pytest.fixture
def run(tmp_path: Path) -> TrainingRun:
    path = tmp_path / "run.yaml"
    path.write_text(TEXT)
    return read_training_run(path)


def changed(run: TrainingRun, **settings: object) -> TrainingRun:
    return replace(run, config=replace(run.config, **settings))  # type: ignore[arg-type]


class TestTheFolder:
    def test_a_run_goes_on_in_its_own(self, run: TrainingRun, tmp_path: Path) -> None:
        claim_folder(tmp_path / "a/b", run)
        told = (tmp_path / "a/b/run.json").read_bytes()
        assert json.loads(told)["learning_rate"] == 1e-3
        claim_folder(tmp_path / "a/b", run)
        assert (tmp_path / "a/b/run.json").read_bytes() == told

    @pytest.mark.parametrize(
        "settings",
        [
            {"workers": 0},
            {"precision": "bf16"},
            {"log_every": 7},
            {"checkpoint_every": 7},
            {"validate_every": 7},
            {"accumulate": 2},
            {"patience": 9},
        ],
    )
    def test_what_changes_nothing_that_is_learned_may_change(
        self, run: TrainingRun, tmp_path: Path, settings: dict[str, object]
    ) -> None:
        claim_folder(tmp_path / "run", run)
        claim_folder(tmp_path / "run", changed(run, **settings))

    def test_another_run_is_refused_and_told_what_differs(self, run: TrainingRun, tmp_path: Path) -> None:
        claim_folder(tmp_path / "run", run)
        other = changed(run, learning_rate=2e-3, seed=1, workers=0)
        with pytest.raises(UsageError, match=r"other settings \(learning_rate, seed\); .* --out") as caught:
            claim_folder(tmp_path / "run", other)
        assert caught.value.code == "output_of_another_run" and caught.value.field == "out"
        with pytest.raises(UsageError, match=r"\(long_side\)"):
            claim_folder(tmp_path / "run", replace(run, long_side=128))
        with pytest.raises(UsageError, match=r"\(sets\)"):
            claim_folder(tmp_path / "run", replace(run, sets=(replace(run.sets[0], source="21"),)))
        claim_folder(tmp_path / "run", run)  # the folder is as it was

    def test_a_setting_that_this_version_does_not_have_is_named(
        self, run: TrainingRun, tmp_path: Path
    ) -> None:
        claim_folder(tmp_path / "run", run)
        path = tmp_path / "run/run.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "momentum": 0.9}))
        with pytest.raises(UsageError, match=r"\(momentum\)"):
            claim_folder(tmp_path / "run", run)

    def test_a_run_of_before_some_settings_goes_on(self, run: TrainingRun, tmp_path: Path) -> None:
        claim_folder(tmp_path / "run", run)
        path = tmp_path / "run/run.json"
        newer = (
            "optimiser", "schedule", "decay_at", "layer_decay", "drop_path", "freeze_encoder", "distill",
            "text", "box_noise", "deepest_share",
        )  # fmt: skip
        told = json.loads(path.read_text())
        del told["sampling"]["photos"]
        path.write_text(json.dumps({key: value for key, value in told.items() if key not in newer}))
        claim_folder(tmp_path / "run", run)
        with pytest.raises(UsageError, match=r"\(schedule\)"):
            claim_folder(tmp_path / "run", changed(run, schedule="steps"))
        with pytest.raises(UsageError, match=r"\(sampling\)"):
            claim_folder(tmp_path / "run", changed(run, sampling=replace(run.config.sampling, photos=0.5)))

    @pytest.mark.parametrize("content", ["", "[]", "{", "nonsense"])
    def test_a_damaged_file_is_no_crash(self, run: TrainingRun, tmp_path: Path, content: str) -> None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run/run.json").write_text(content)
        with pytest.raises(UsageError, match="--out"):
            claim_folder(tmp_path / "run", run)

    def test_a_state_without_its_settings_is_not_taken_over(self, run: TrainingRun, tmp_path: Path) -> None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run/state.pt").touch()
        with pytest.raises(UsageError, match=r"without its run\.json"):
            claim_folder(tmp_path / "run", run)

    def test_a_place_that_cannot_be_a_folder(self, run: TrainingRun, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(EnvironmentProblem, match="cannot be written"):
            claim_folder(tmp_path / "file", run)


def model_of(
    run: TrainingRun, seed: int = 0, init: str | None = None, folder: Path = Path()
) -> SegmentAnything:
    return new_model(run.model, seed, read_start(folder / "run.yaml", init, folder), CPU)


class TestTheModel:
    def test_starts_from_the_seed(self, run: TrainingRun) -> None:
        first, again, other = model_of(run), model_of(run), model_of(run, seed=1)
        assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
        assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))

    def test_or_from_a_file_beside_its_configuration(self, run: TrainingRun, tmp_path: Path) -> None:
        given = model_of(run, seed=5)
        save_weights(given, tmp_path / "start.safetensors", half=False)
        started = model_of(run, init="start.safetensors", folder=tmp_path)
        assert all(torch.equal(a, b) for a, b in zip(given.parameters(), started.parameters(), strict=True))
        with pytest.raises(CheckpointError, match=r"none\.safetensors: no such weights file"):
            model_of(run, init="none.safetensors", folder=tmp_path)


def test_half_precision_is_not_trained_in() -> None:
    assert training_dtype(CPU, "fp32") == torch.float32
    assert training_dtype(CPU, "bf16") == torch.bfloat16
    with pytest.raises(UsageError, match="auto, fp32 or bf16, not fp16") as caught:
        training_dtype(CPU, "fp16")
    assert caught.value.field == "precision"


def photo(*columns: slice) -> LabelledPhoto:
    """(40, 60) with a segment over all rows of each range of columns."""
    layer = np.zeros((40, 60), np.uint8)
    for number, where in enumerate(columns, 1):
        layer[:, where] = number
    return LabelledPhoto(np.full((40, 60, 3), 90, np.uint8), (layer,), "x.png")


class TestValidation:
    def validation(self, count: int, min_area: int = 0) -> Validation:
        return Validation("panoptic", "photos", count, MaskFilter(min_area, 8))

    def test_photos_without_a_segment_do_not_let_others_in(self, tmp_path: Path) -> None:
        """`skip: 2` holds out the first two photos, labelled or not: the third is trained on."""
        photos = [
            replace(photo(), name="0.png"),
            *(replace(photo(slice(9)), name=f"{i}.png") for i in (1, 2)),
        ]
        write_panoptic(photos, tmp_path)
        assert [image.name for image in open_panoptic(tmp_path).limited(2)] == ["1.png", "2.png"]
        assert [image.name for image in held_out(tmp_path, self.validation(2))] == ["1.png"]

    def test_the_figures_are_those_of_the_answers(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: TrainingRun
    ) -> None:
        """A model whose every mask is the left half: right, wrong, and two thirds right."""
        photos = [photo(slice(30), slice(30, 60)), replace(photo(slice(45)), name="y.png")]
        write_panoptic(photos, tmp_path)
        model = build_model(run.model).eval()

        def left_half(self: Candidates, index: torch.Tensor, window: object = None) -> torch.Tensor:
            logits = torch.full((len(index), 16, 16), -5.0)  # 60 x 40 pixels are 16 x 10.7 cells
            logits[:, :, :8] = 5.0
            return logits

        monkeypatch.setattr(Candidates, "low_res_logits", left_half)
        figures = Validator(self.validation(2), held_out(tmp_path, self.validation(2)))(model)
        assert list(figures) == ["miou@1", "miou@2", "miou@3", "oracle@1", "box", "box_filled"]
        for name in ("miou@1", "miou@2", "miou@3", "oracle@1", "box"):
            assert figures[name] == pytest.approx((1 + 0 + 2 / 3) / 3)
        assert figures["box_filled"] == pytest.approx(1)
        first = Validator(self.validation(1), held_out(tmp_path, self.validation(1)))(model)
        assert first["box"] == pytest.approx(1 / 2)
        large = Validator(self.validation(2, min_area=1201), held_out(tmp_path, self.validation(2)))(model)
        assert large["box"] == pytest.approx(2 / 3)

    def test_an_untrained_model_gets_figures_and_is_left_as_it_was(
        self, tmp_path: Path, run: TrainingRun
    ) -> None:
        write_panoptic(made_photos(2, side=48), tmp_path)
        model = model_of(run).eval()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        figures = Validator(self.validation(2), held_out(tmp_path, self.validation(2)))(model)
        assert all(0 <= value <= 1 for value in figures.values())
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def row(step: int, **values: float) -> dict[str, float]:
    return {"step": step, "seconds": step, **values}


def test_the_curve_is_a_picture(tmp_path: Path) -> None:
    losses = [row(step, prompts=2 / step, edge=0.2, grad_norm=1e9) for step in range(10, 100, 10)]
    figures = [row(50, **{"miou@1": 0.2, "box": 0.3}), row(90, **{"miou@1": 0.3, "box": 0.5})]
    save_curve(tmp_path / "with.png", [*losses, *figures])
    save_curve(tmp_path / "without.png", losses)
    pictures = []
    for name in ("with.png", "without.png"):
        with Image.open(tmp_path / name) as image:
            assert image.format == "PNG" and image.size == (1320, 480)
            pictures.append(np.asarray(image.convert("L")))
    with_figures, without = (picture < 200 for picture in pictures)
    assert without[:, :660].any() and with_figures[:, :660].any()
    assert with_figures[:, 660:].sum() > without[:, 660:].sum()  # the second panel fills
    save_curve(tmp_path / "empty.png", [])
    assert (tmp_path / "empty.png").is_file()


def test_a_curve_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "curve.png").mkdir()
    with pytest.raises(EnvironmentProblem, match=r"curve\.png: cannot be written"):
        save_curve(tmp_path / "curve.png", [row(1, prompts=1.0)])
    assert training_runs.CURVE.endswith(".png")
