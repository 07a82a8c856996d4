"""Training learns, goes on exactly where it was interrupted, and does the arithmetic that it says."""

from __future__ import annotations

import copy
import json
import math
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from adapters.base import Defaults, Scene
from composer.evaluation.ground_truth import open_panoptic
from composer.evaluation.scoring import evaluate_boxes, evaluate_points
from composer.images import open_image
from composer.training_data import write_panoptic
from sam.checkpoints import load_training_state, load_weights, read_weights, save_training_state
from sam.errors import CheckpointError, EnvironmentProblem
from sam.model import SegmentAnything
from sam.training.batch import Batch
from sam.training.canvas import CanvasSampler, SamplingConfig
from sam.training.config import Phase, TrainingConfig
from sam.training.data import LabelledPhoto, PackedSet, pack
from sam.training.losses import LossConfig
from sam.training.objective import normalise
from sam.training.run_log import forget_after
from sam.training.trainer import Trainer, read_log
from sam.variants import ModelConfig, build_model

CONFIG = TrainingConfig(
    model="smallest",
    phases=(Phase(5, 64, 1), Phase(3, 96, 2)),
    sampling=SamplingConfig({"shapes": 1.0}, masks=2),
    losses=LossConfig(focal=0, bce=1.5, starved=0.05, single=0.5, edge=0.5, affinity=0.5),
    rounds=3,
    learning_rate=2e-3,
    warmup_steps=3,
    workers=0,
    checkpoint_every=100,
    log_every=2,
)
MakeTrainer = Callable[..., Trainer]


@pytest.fixture(autouse=True)
def as_before(one_thread: None) -> Iterator[None]:
    """The trainer flushes denormal numbers, which the process would go on doing."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture
def make_trainer(model: SegmentAnything, shapes: PackedSet, tmp_path: Path) -> MakeTrainer:
    """A trainer of a fresh copy of one model, in a folder of tmp_path, with some settings changed."""

    def make(folder: str = "run", dtype: torch.dtype = torch.float32, **settings: Any) -> Trainer:
        config = replace(CONFIG, **settings)
        sampler = CanvasSampler([shapes], config.sampling, config.seed)
        torch.manual_seed(config.seed)  # for the affinity head, which is new
        return Trainer(copy.deepcopy(model), sampler, config, tmp_path / folder, dtype=dtype)

    return make


def flat(state: Any, name: str = "") -> dict[str, Any]:
    """Nested dicts and lists as one dict of their leaves."""
    if isinstance(state, dict | list | tuple):
        pairs = state.items() if isinstance(state, dict) else enumerate(state)
        return {k: v for key, value in pairs for k, v in flat(value, f"{name}/{key}").items()}
    return {name: state}


def differences(a: Any, b: Any) -> list[str]:
    """Names of leaves that are not the same to the last bit."""
    a, b = flat(a), flat(b)
    assert a.keys() == b.keys()
    return [
        k for k, v in a.items() if not (torch.equal(v, b[k]) if isinstance(v, torch.Tensor) else v == b[k])
    ]


def rows(trainer: Trainer) -> list[dict[str, Any]]:
    return [
        {k: v for k, v in row.items() if k != "seconds"} for row in read_log(trainer.folder / "log.jsonl")
    ]


def saved(trainer: Trainer) -> dict[str, Any]:
    state = load_training_state(trainer.folder / "state.pt")
    assert state.pop("seconds") > 0
    return state


def one_shape_each(count: int, seed: int, side: int = 64) -> Iterator[LabelledPhoto]:
    """Photos of a disc or a rectangle in strong colours, about a fifth of the picture, on grey noise."""
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        pixels = np.clip(rng.normal(128, 6, (side, side, 3)), 0, 255).astype(np.uint8)
        y, x = np.mgrid[:side, :side] - rng.integers(14, side - 14, (2, 1, 1))
        radius = int(rng.integers(12, 20))
        disc = y**2 + x**2 <= radius**2
        mask = disc if rng.random() < 0.5 else (abs(x) <= radius) & (abs(y) <= radius * 2 // 3)
        colour = rng.choice([10, 245], 3)
        pixels[mask] = np.clip(colour + rng.normal(0, 6, (int(mask.sum()), 3)), 0, 255)
        yield LabelledPhoto(pixels, (mask.astype(np.uint8),), f"{number}.png")


def two_shapes() -> LabelledPhoto:
    """A red and a blue rectangle on grey; whoever returns one mask whatever the prompt gets half at best."""
    pixels, layer = np.full((64, 64, 3), 120, np.uint8), np.zeros((64, 64), np.uint8)
    for number, where, colour in (
        (1, np.s_[16:50, 4:26], (230, 20, 20)),
        (2, np.s_[10:40, 36:62], (20, 20, 230)),
    ):
        pixels[where], layer[where] = colour, number
    return LabelledPhoto(pixels, (layer,), "two.png")


def learn(
    model: SegmentAnything, shown: Iterable[LabelledPhoto], steps: int, batch: int, masks: int, folder: Path
) -> Trainer:
    """Train on the photos as they are, with a learning rate for haste."""
    plain = SamplingConfig(
        {"shown": 1.0}, mosaic=0, paste=0, surroundings=0, component=0, group=0, scale=(1, 1), masks=masks
    )
    settings = replace(
        CONFIG,
        phases=(Phase(steps, 64, batch),),
        sampling=plain,
        losses=LossConfig(focal=0, bce=1.5, starved=0.3, single=1, edge=0.3, affinity=0.3),
        rounds=1,
        learning_rate=5e-3,
        weight_decay=0.01,
        warmup_steps=10,
        ema_decay=0.95,
    )
    torch.manual_seed(0)
    trainer = Trainer(
        model, CanvasSampler([pack(shown, folder / "shown")], plain, 0), settings, folder / "run"
    )
    trainer.run()
    return trainer


def measure(model: SegmentAnything, photos: Iterable[LabelledPhoto], folder: Path) -> tuple[float, float]:
    """Mean IoU of a click and of a box, by the evaluation that users run."""
    write_panoptic(photos, folder)
    truth = open_panoptic(folder)

    def scene(path: Path) -> Scene:
        return Scene(open_image(path).pixels, model, lambda image: model.encode([image])[0], Defaults())

    return evaluate_points(scene, truth, (1,)).miou[1], evaluate_boxes(scene, truth).miou[1]


class TestLearning:
    def test_what_a_shape_looks_like(self, model: SegmentAnything, tmp_path: Path) -> None:
        """From 0.18 (click) and 0.08 (box) to 0.9 of mean IoU, on photos that it was not trained on."""
        held_out = list(one_shape_each(12, seed=99))
        before = measure(model.eval(), held_out, tmp_path / "a")
        trainer = learn(model, one_shape_each(200, seed=0), 100, 8, 1, tmp_path)
        after = measure(trainer.average, held_out, tmp_path / "b")
        assert max(before) < 0.3 and min(after) > 0.8, f"click, box: {before} before, {after} after"
        losses = [row["prompts"] for row in rows(trainer)]
        assert losses[-1] < losses[0] / 4

    def test_that_the_prompt_chooses(self, model: SegmentAnything, tmp_path: Path) -> None:
        """Boxes: from 0.07 to over 0.8 on the photo that it is trained on, where one mask for all gets 0.5.

        After a click, one of three masks is right by then, but which one is learned later.
        """
        _, before = measure(model.eval(), [two_shapes()], tmp_path / "a")
        trainer = learn(model, [two_shapes()], 200, 4, 4, tmp_path)
        _, after = measure(trainer.average, [two_shapes()], tmp_path / "b")
        assert before < 0.3 and after > 0.65, f"box: {before} before, {after} after"


class TestGoingOn:
    @pytest.mark.parametrize(("workers", "optimiser"), [(0, "adamw"), (1, "adamw"), (0, "muon")])
    def test_four_steps_and_four_more_are_eight(
        self, make_trainer: MakeTrainer, workers: int, optimiser: str
    ) -> None:
        whole = make_trainer("whole", optimiser=optimiser)
        whole.run()
        first = make_trainer("parts", workers=workers, optimiser=optimiser)
        first.run(should_stop=lambda: first.step == 4)
        assert first.step == 4 and not first.finished
        assert not (first.folder / "weights.safetensors").exists()
        half_way = saved(first)
        second = make_trainer("parts", workers=workers, optimiser=optimiser)
        second.run()
        assert second.step == 8 and second.finished and second.seconds > first.seconds
        assert differences(saved(whole), saved(second)) == []
        assert [row["step"] for row in rows(whole)] == [2, 4, 6, 8]
        assert rows(whole) == rows(second)
        weights = [read_weights(one.folder / "weights.safetensors").tensors for one in (whole, second)]
        assert differences(*weights) == []
        # Every weight has moved since, so that equality says something.
        moved = differences(half_way["model"], saved(second)["model"])
        assert len(moved) > 0.9 * len(weights[0])

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_to_all_its_processes_leaves_the_workers_to_it(
        self, make_trainer: MakeTrainer, number: signal.Signals
    ) -> None:
        told: list[int] = []

        def tell_workers() -> bool:
            told.extend(child.pid or 0 for child in multiprocessing.active_children())
            for process in multiprocessing.active_children():
                os.kill(process.pid or 0, number)
            return False

        trainer = make_trainer(workers=1)
        trainer.run(should_stop=tell_workers)
        assert told and trainer.finished

    def test_a_run_that_is_done_stays_as_it_is(self, make_trainer: MakeTrainer) -> None:
        done = make_trainer(phases=(Phase(2, 64, 1),))
        done.run()
        before, log = saved(done), rows(done)
        again = make_trainer(phases=(Phase(2, 64, 1),))
        again.run(on_step=lambda step, losses: pytest.fail("went on"))
        assert differences(before, saved(again)) == [] and rows(again) == log

    def test_state_is_saved_on_the_way(self, make_trainer: MakeTrainer) -> None:
        trainer = make_trainer(checkpoint_every=2)
        seen: list[int] = []

        def power_cut(step: int, losses: dict[str, float]) -> None:
            if (trainer.folder / "state.pt").exists():
                seen.append(load_training_state(trainer.folder / "state.pt")["step"])
            if step == 6:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            trainer.run(power_cut)
        assert seen == [2, 4]
        assert [row["step"] for row in rows(trainer)] == [2, 4, 6]
        with (trainer.folder / "log.jsonl").open("a") as log:
            log.write('{"step": 7, "prom')  # what a power cut leaves

        again = make_trainer(checkpoint_every=2)
        again.resume()
        assert again.step == 4 and [row["step"] for row in rows(again)] == [2, 4]
        again.run()
        whole = make_trainer("whole")
        whole.run()
        assert rows(again) == rows(whole)
        assert all(json.loads(line) for line in (again.folder / "log.jsonl").read_text().splitlines())

    def test_a_log_without_a_state_is_begun_anew(self, make_trainer: MakeTrainer) -> None:
        """Interrupted before the first save: the same steps come again."""
        trainer = make_trainer(phases=(Phase(2, 64, 1),))
        (trainer.folder / "log.jsonl").write_text('{"step": 2, "prompts": 9.0}\n{"step": 3, "pro')
        trainer.run()
        (row,) = rows(trainer)
        assert row["step"] == 2 and row["prompts"] != 9.0

    def test_the_log_of_a_run_whose_disk_was_cut_off_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "log.jsonl").write_bytes(b'{"step": 1}\n[3]\n{"step": "x"}\n\n{"step": 2}\n\x00\xff\xfe')
        assert read_log(tmp_path / "log.jsonl") == [{"step": 1}, {"step": 2}]

    def test_a_log_that_cannot_be_written(self, make_trainer: MakeTrainer) -> None:
        trainer = make_trainer()
        (trainer.folder / "log.jsonl").symlink_to(trainer.folder / "gone/log.jsonl")
        with pytest.raises(EnvironmentProblem, match=r"log\.jsonl: cannot be written"):
            trainer.run()


class TestAForeignState:
    def test_of_another_model(self, make_trainer: MakeTrainer, shapes: PackedSet) -> None:
        trainer = make_trainer()
        trainer.run(should_stop=lambda: True)
        encoder = {"family": "compact", "backbone": "test_resnet", "image_size": 64, "out_chans": 16,
                   "neck_chans": 8, "attention_layers": 1, "attention_heads": 2}  # fmt: skip
        decoder = {"embed_dim": 16, "num_heads": 2, "mlp_dim": 32, "iou_head_hidden_dim": 16,
                   "mask_in_chans": 4}  # fmt: skip
        other = build_model(ModelConfig.from_mapping("other", {"encoder": encoder, "decoder": decoder}))
        sampler = CanvasSampler([shapes], CONFIG.sampling, 0)
        with pytest.raises(CheckpointError, match=r"state\.pt: the state of another model") as caught:
            Trainer(other, sampler, CONFIG, trainer.folder).run()
        assert caught.value.code == "state_foreign"

    @pytest.mark.parametrize("missing", ["step", "average", "optimizer", "affinity_head"])
    def test_of_another_program(self, make_trainer: MakeTrainer, missing: str) -> None:
        trainer = make_trainer()
        trainer._save_state()
        state = load_training_state(trainer.folder / "state.pt")
        save_training_state(trainer.folder / "state.pt", {k: v for k, v in state.items() if k != missing})
        with pytest.raises(CheckpointError, match="choose another folder") as caught:
            make_trainer().resume()
        assert caught.value.code == "state_foreign"

    @pytest.mark.parametrize("damage", ["cut off", "flipped", "empty", "text"])
    def test_damaged(self, make_trainer: MakeTrainer, damage: str) -> None:
        trainer = make_trainer()
        trainer._save_state()
        path = trainer.folder / "state.pt"
        data = bytearray(path.read_bytes())
        if damage == "flipped":
            data[len(data) // 2] ^= 1
        broken = {"cut off": data[: len(data) // 2], "empty": b"", "text": b"what?" * 99}.get(damage, data)
        path.write_bytes(broken)
        with pytest.raises(CheckpointError, match=r"state\.pt: .*start anew") as caught:
            make_trainer().run()
        assert caught.value.code == "checkpoint_corrupt" and "download" not in str(caught.value)
        assert path.read_bytes() == broken


class TestArithmetic:
    def test_learning_rate(self, make_trainer: MakeTrainer) -> None:
        """Warm-up over 10 steps, times a cosine from 1 to 0.01 over 100."""
        trainer = make_trainer(
            learning_rate=2.0, warmup_steps=10, phases=(Phase(60, 64, 1), Phase(40, 96, 1))
        )
        expected = {0: 0.2, 4: 0.9960968, 9: 1.9606907, 25: 1.7100357, 50: 1.01, 75: 0.3099643, 100: 0.02}
        for step, rate in expected.items():
            trainer.step = step
            assert trainer._learning_rate() == pytest.approx(rate, rel=1e-6)

    def test_the_optimiser_gets_it(self, make_trainer: MakeTrainer) -> None:
        trainer = make_trainer(learning_rate=0.5, warmup_steps=4, phases=(Phase(2, 64, 1),))
        rates = []
        trainer.optimizer.register_step_pre_hook(
            lambda optimizer, *_: rates.append([group["lr"] for group in optimizer.param_groups])
        )
        trainer.run()
        second = 0.25 * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi / 2)))
        assert rates == [[pytest.approx(0.125)] * 2, [pytest.approx(second)] * 2]

    def test_weights_decay_and_biases_do_not(self, make_trainer: MakeTrainer) -> None:
        trainer = make_trainer(weight_decay=0.25)
        decayed, plain = trainer.optimizer.param_groups
        assert (decayed["weight_decay"], plain["weight_decay"]) == (0.25, 0.0)
        assert all(p.ndim > 1 for p in decayed["params"]) and all(p.ndim <= 1 for p in plain["params"])
        trained = [*trainer.model.parameters(), *trainer.affinity_head.parameters()]
        assert {id(p) for p in trained} == {id(p) for p in (*decayed["params"], *plain["params"])}

    def test_average(self, make_trainer: MakeTrainer) -> None:
        """Early steps count more, (1 + step) / (10 + step) of the past, and at most ``ema_decay`` is kept."""
        trainer = make_trainer(ema_decay=0.9)
        name, weight = next(iter(trainer.model.named_parameters()))
        with torch.no_grad():
            for module in (trainer.model, trainer.average):
                for value in module.state_dict().values():
                    value.zero_()
            for parameter in trainer.model.parameters():
                parameter.fill_(1.0)
        found = []
        for step in (0, 2, 10**6):
            trainer.step = step
            trainer._update_average()
            found.append(float(trainer.average.state_dict()[name].mean()))
        first = 1 - 1 / 10
        second = 1 - (1 - first) * 3 / 12
        assert found == pytest.approx([first, second, 1 - (1 - second) * 0.9])
        assert float(weight.detach().mean()) == 1

    def test_counters_are_copied_not_averaged(self, make_trainer: MakeTrainer) -> None:
        trainer = make_trainer(phases=(Phase(3, 64, 1),))
        trainer.run()
        counts = {k: int(v) for k, v in trainer.average.state_dict().items() if k.endswith("batches_tracked")}
        assert counts and set(counts.values()) == {3}

    def test_gradients_are_clipped(self, make_trainer: MakeTrainer) -> None:
        trainer = make_trainer(clip_norm=1e-3)
        sizes = []
        trainer.optimizer.register_step_pre_hook(
            lambda optimizer, *_: sizes.append(
                torch.cat([p.grad.flatten() for g in optimizer.param_groups for p in g["params"]]).norm()
            )
        )
        losses = trainer._train_step([Batch.of([trainer.sampler(0, 64)])])
        assert float(sizes[0]) == pytest.approx(1e-3, rel=1e-3) and losses["grad_norm"] > 1e-2

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_a_gradient_that_is_no_number_changes_nothing(
        self, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, value: float
    ) -> None:
        trainer = make_trainer()
        weight = next(trainer.model.parameters())
        trainer._train_step([Batch.of([trainer.sampler(0, 64)])])
        before = copy.deepcopy(
            [trainer.model.state_dict(), trainer.average.state_dict(), trainer.optimizer.state_dict()]
        )
        with monkeypatch.context() as broken:
            broken.setattr(trainer, "_losses", lambda *_: {"prompts": (weight * value).sum()})
            assert not math.isfinite(trainer._train_step([Batch.of([trainer.sampler(0, 64)])])["grad_norm"])
        state = [trainer.model.state_dict(), trainer.average.state_dict(), trainer.optimizer.state_dict()]
        assert [name for name in differences(before, state) if not name.endswith("/lr")] == []
        trainer._train_step([Batch.of([trainer.sampler(0, 64)])])
        assert differences(before[0], trainer.model.state_dict())
        assert all(p.isfinite().all() for p in trainer.model.parameters())

    def test_padding_is_zero_after_normalisation(self) -> None:
        pixels = torch.full((1, 64, 64, 3), 200, dtype=torch.uint8)
        pixels[:, 32:] = 0
        pixels[:, :, 0, 1:] = 0  # a red column is no padding
        normal = normalise(pixels)
        assert normal.shape == (1, 3, 64, 64) and (normal[:, :, 32:] == 0).all()
        assert normal[0, :, 0, 5].tolist() == pytest.approx(
            [(200 - 123.675) / 58.395, (200 - 116.28) / 57.12, (200 - 103.53) / 57.375]
        )
        assert normal[0, 1, 0, 0] == pytest.approx(-116.28 / 57.12)


def test_the_weights_at_the_end_are_the_average_in_half_precision(
    make_trainer: MakeTrainer, model: SegmentAnything
) -> None:
    trainer = make_trainer(phases=(Phase(2, 64, 1),))
    average = trainer.run()
    path = trainer.folder / "weights.safetensors"
    weights = read_weights(path)
    assert weights.metadata["steps"] == "2"
    parameters = dict(average.named_parameters())
    assert all(weights.tensors[name].dtype == torch.float16 for name in parameters)
    load_weights(model, path)  # strict
    for name, value in model.named_parameters():
        assert torch.equal(value, parameters[name].half().float())
    assert not all(torch.equal(value, parameters[name]) for name, value in trainer.model.named_parameters())
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, dict(average.named_buffers())[name])


def test_validation_sees_the_average_now_and_then_and_at_the_end(
    make_trainer: MakeTrainer, shapes: PackedSet
) -> None:
    trainer = make_trainer(phases=(Phase(5, 64, 1),), validate_every=2)
    seen: list[tuple[int, bool]] = []

    def validate(model: SegmentAnything) -> dict[str, float]:
        seen.append((trainer.step, model is trainer.average and not model.training))
        return {"box": trainer.step / 10}

    trainer.validate = validate
    trainer.run()
    assert seen == [(2, True), (4, True), (5, True)]
    assert [(row["step"], row["box"]) for row in rows(trainer) if "box" in row] == [
        (2, 0.2),
        (4, 0.4),
        (5, 0.5),
    ]


class TestTheBest:
    def judged(self, make_trainer: MakeTrainer, scores: list[float], **settings: Any) -> Trainer:
        trainer = make_trainer(validate_every=1, **settings)
        trainer.validate = lambda model: {"miou@1": 0.0, "box": scores[trainer.step - 1]}
        trainer.run()
        return trainer

    def test_is_kept(self, make_trainer: MakeTrainer) -> None:
        drawn: list[int] = []
        trainer = make_trainer(phases=(Phase(4, 64, 1),), validate_every=1)
        trainer.validate = lambda model: {"box": [0.1, 0.6, 0.6, 0.2][trainer.step - 1]}
        trainer.after_validation = lambda: drawn.append(rows(trainer)[-1]["step"])
        trainer.run()
        assert trainer.best == {"score": 0.6, "step": 2, "waited": 2} and drawn == [1, 2, 3, 4]
        metadata = {
            name: read_weights(trainer.folder / f"{name}.safetensors").metadata["steps"]
            for name in ("best", "weights")
        }
        assert metadata == {"best": "2", "weights": "4"}

    def test_a_run_ends_when_none_is_better(self, make_trainer: MakeTrainer) -> None:
        scores = [0.1, 0.3, 0.3, 0.2, 0.9]
        phases = (Phase(5, 64, 1),)
        tired = self.judged(make_trainer, scores, phases=phases, patience=2)
        assert tired.step == 4 and tired.finished and (tired.folder / "weights.safetensors").exists()
        again = make_trainer(phases=phases, patience=2)
        again.run(on_step=lambda step, losses: pytest.fail("went on"))
        assert again.step == 4 and again.best["step"] == 2
        patient = make_trainer("patient", phases=phases, validate_every=1, patience=3)
        patient.validate = lambda model: {"box": scores[patient.step - 1]}
        patient.run()
        assert patient.step == 5 and patient.best["step"] == 5

    def test_a_run_of_minutes(self, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
        """A step takes 20 seconds by this clock, as does a validation: three steps fill a minute."""
        clock = iter(range(0, 10_000, 20))
        # The trainer's own clock: other threads of the process look at the real one, and must not move this.
        monkeypatch.setattr(
            "sam.training.trainer.time", SimpleNamespace(monotonic=lambda: float(next(clock)))
        )
        settings = {"phases": (Phase(50, 64, 1),), "minutes": 1.0, "warmup_steps": 0, "log_every": 1}
        trainer = make_trainer(**settings)
        trainer.validate = lambda model: {"box": 0.5, "at": float(trainer.step)}
        rates: list[float] = []
        trainer.run(
            on_step=lambda step, losses: rates.append(trainer._learning_rate()), should_stop=stop_at(2)
        )
        assert trainer.step == 2 and not trainer.finished and trainer.seconds == 40
        again = make_trainer(**settings)
        again.validate = lambda model: {"box": 0.5, "at": float(again.step)}
        again.run(on_step=lambda step, losses: rates.append(again._learning_rate()))
        assert again.step == 3 and again.finished and again.seconds == 80, "what was spent before counts"
        assert [row["at"] for row in rows(again) if "at" in row] == [3] and (
            again.folder / "weights.safetensors"
        ).exists()
        peak = again.config.learning_rate
        assert rates == pytest.approx([0.7525 * peak, 0.2575 * peak, 0.01 * peak])

    def test_a_validation_that_takes_the_rest_of_the_time_is_the_last(
        self, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = [0.0]
        monkeypatch.setattr("sam.training.trainer.time", SimpleNamespace(monotonic=lambda: clock[0]))
        trainer = make_trainer(phases=(Phase(50, 64, 1),), minutes=1.0, validate_every=2)
        validated: list[int] = []

        def validate(model: object) -> dict[str, float]:
            validated.append(trainer.step)
            clock[0] += 90
            return {"box": 0.5}

        trainer.validate = validate
        trainer.run()
        assert validated == [2] and trainer.finished and trainer.seconds == 90

    def test_what_counts_can_be_chosen(self, make_trainer: MakeTrainer) -> None:
        trainer = self.judged(make_trainer, [0.4, 0.2], phases=(Phase(2, 64, 1),), best_by=("miou@1",))
        assert trainer.best["step"] == 1 and trainer.best["score"] == 0.0

    def test_a_state_of_before_there_was_a_best(self, make_trainer: MakeTrainer) -> None:
        trainer = make_trainer()
        trainer.run(should_stop=lambda: True)
        state = load_training_state(trainer.folder / "state.pt")
        save_training_state(
            trainer.folder / "state.pt", {k: v for k, v in state.items() if k not in ("best", "parts")}
        )
        again = make_trainer()
        again.resume()
        assert again.step == 1 and again.best["waited"] == 0


def test_one_step_in_bfloat16(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products in bfloat16; weights and losses stay float32. Processors without bfloat16 emulate it: tiny."""
    trainer = make_trainer(
        dtype=torch.bfloat16, rounds=1, sampling=SamplingConfig({"shapes": 1.0}, masks=1), log_every=1
    )
    in_bfloat16 = []
    render_all = trainer.model.mask_decoder.render_all_by

    def watched(*arguments: Any) -> torch.Tensor:
        in_bfloat16.append(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None)
        return render_all(*arguments)

    monkeypatch.setattr(trainer.model.mask_decoder, "render_all_by", watched)
    before = copy.deepcopy(trainer.model.state_dict())
    trainer.run(should_stop=lambda: True)
    (row,) = rows(trainer)
    assert {"prompts", "edge", "affinity", "grad_norm"} < row.keys()
    assert all(math.isfinite(value) for value in row.values())
    assert set(in_bfloat16) == {torch.bfloat16}
    assert all(value.dtype != torch.bfloat16 for value in trainer.model.state_dict().values())
    assert differences(before, trainer.model.state_dict())


def stop_at(count: int) -> Callable[[], bool]:
    """True at the ``count``-th time it is asked."""
    asked = iter(range(1, 10_000))
    return lambda: next(asked) == count


def test_a_log_that_cannot_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 1}\n{"step": 2}\n')

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sam.training.run_log.os.replace", fails)
    with pytest.raises(EnvironmentProblem, match="make room"):
        forget_after(log, 1)
    assert [row["step"] for row in read_log(log)] == [1, 2]
