"""`train` on made photos: what it writes, how it is stopped and gone on with, and what it refuses."""

from __future__ import annotations

import csv
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from composer.training_runs import fast_kernels
from sam.checkpoints import file_digest, load_training_state, read_weights
from sam.training.batch import Batch
from sam.training.trainer import Trainer, read_log

MODEL = """\
encoder:
  {family: compact, backbone: test_resnet, image_size: 64, out_chans: 16, neck_chans: 8,
   attention_layers: 1, attention_heads: 2}
decoder: {embed_dim: 16, num_heads: 2, mlp_dim: 32, iou_head_hidden_dim: 16, mask_in_chans: 4}
"""
RUN = """\
model: model.yaml
phases: [{steps: 6, size: 64, batch: 2}]
learning_rate: 1.0e-3
warmup_steps: 2
rounds: 2
workers: 0
log_every: 2
validate_every: 4
sampling: {masks: 2}
data: {long_side: 64, sets: {made: {shapes: 8, weight: 1}}}
validation: {shapes: 2, limit_images: 2, max_masks_per_image: 2, min_area: 20}
"""


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """The trainer flushes denormal numbers; sums of two threads need not come in one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "model.yaml").write_text(MODEL)
    path = tmp_path / "short.yaml"
    path.write_text(RUN)
    return path


@pytest.fixture
def train(cli, config: Path, tmp_path: Path):
    """`train` with that file, --out tmp_path/run and packed photos that several runs share."""

    def call(*arguments: object):
        packed = ("--packed", tmp_path / "packed", "--device", "cpu", "--precision", "fp32")
        return cli("train", "--config", config, "--out", tmp_path / "run", *packed, *arguments)

    return call


@pytest.fixture
def after_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], object]], None]:
    """Does something while the trainer is in its step number so-and-so."""

    def set_up(number: int, act: Callable[[], object]) -> None:
        train_step = Trainer._train_step

        def step(self: Trainer, batches: list[Batch]) -> dict[str, Tensor]:
            if self.step == number:
                act()
            return train_step(self, batches)

        monkeypatch.setattr(Trainer, "_train_step", step)

    return set_up


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_short_run(train, tmp_path: Path) -> None:
    ended = train()
    assert ended.code == 0
    run = tmp_path / "run"
    assert names(run) - {"best.safetensors"} == {
        "run.json", "state.pt", "log.jsonl", "log.csv", "learning-curve.png", "weights.safetensors"
    }  # fmt: skip
    summary, weights, *best = ended.out.splitlines()
    if best:
        assert best == [f"{run / 'best.safetensors'}  of step 4, the best held out"]
    assert summary.startswith("6 steps in 0.") and "held out: miou@1 0." in summary
    assert weights == f"{run / 'weights.safetensors'}  sha256 {file_digest(run / 'weights.safetensors')}"

    log = read_log(run / "log.jsonl")
    assert [row["step"] for row in log if "prompts" in row] == [2, 4, 6]
    assert [row["step"] for row in log if "box" in row] == [4, 6]
    assert f"box {log[-1]['box']:.3f}" in summary
    with (run / "log.csv").open(newline="") as file:
        table = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
    assert table == log
    told = ended.err.splitlines()
    assert told[0] == "made: 8 photos"
    assert [line.partition(":")[0] for line in told[1:]] == [
        "step 2 of 6", "step 4 of 6", "step 4, held out", "step 6 of 6", "step 6, held out"
    ]  # fmt: skip
    assert json.loads((run / "run.json").read_text())["learning_rate"] == 1e-3
    with Image.open(run / "learning-curve.png") as curve:
        curve.load()
    assert names(tmp_path / "packed") == {"made"}


def test_a_run_of_so_many_minutes(train, tmp_path: Path) -> None:
    """After its first step it is over, validated and released."""
    ended = train("--minutes", "0.0001")
    assert ended.code == 0 and ended.out.startswith("1 steps in 0.")
    assert [row["step"] for row in read_log(tmp_path / "run/log.jsonl") if "box" in row] == [1]
    other = train("--minutes", "5")
    assert other.code == 2 and "other settings (minutes)" in other.error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_run_that_is_stopped_goes_on_as_if_nothing_had_been(
    train, after_step, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    assert train("--out", tmp_path / "whole").code == 0
    before = signal.getsignal(number)
    monkeypatch.setattr(sys, "argv", ["sam-composer", "train", "--config", "my run.yaml"])
    after_step(2, lambda: os.kill(os.getpid(), number))
    ended = train()
    assert (ended.code, ended.out) == (130, "")
    *_, asked, stopped = ended.err.splitlines()
    assert asked == "stopping after this step; once more to stop at once"
    command = shlex.join(["sam-composer", "train", "--config", "my run.yaml"])
    assert stopped == f"stopped after step 3 of 6, saved in {tmp_path / 'run'}; go on with: {command}"
    assert load_training_state(tmp_path / "run/state.pt")["step"] == 3
    assert "weights.safetensors" not in names(tmp_path / "run")
    assert signal.getsignal(number) is before

    monkeypatch.undo()
    ended = train()
    assert ended.code == 0 and "going on after step 3" in ended.err.splitlines()
    whole, parts = (
        read_weights(tmp_path / name / "weights.safetensors").tensors for name in ("whole", "run")
    )
    assert whole.keys() == parts.keys()
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    figures = [
        [row for row in read_log(tmp_path / name / "log.jsonl") if "box" in row] for name in ("whole", "run")
    ]
    assert [row["box"] for row in figures[0]] == [row["box"] for row in figures[1]]


def test_a_second_ctrl_c_ends_the_program_at_once(train, after_step, tmp_path: Path) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    after_step(1, twice)
    ended = train()
    assert (ended.code, ended.out) == (130, "")
    assert ended.err.splitlines()[-1] == "interrupted"
    assert "state.pt" not in names(tmp_path / "run")


def test_another_run_in_the_same_folder(train, config: Path, tmp_path: Path) -> None:
    assert train().code == 0
    before = (tmp_path / "run/state.pt").read_bytes()
    config.write_text(RUN.replace("1.0e-3", "2.0e-3"))
    ended = train()
    assert ended.code == 2 and ended.out == ""
    assert "run: holds a run with other settings (learning_rate)" in ended.error and "--out" in ended.error
    assert (tmp_path / "run/state.pt").read_bytes() == before


@pytest.mark.parametrize(
    ("old", "new", "code", "reason"),
    [
        ("learning_rate", "learning_rat", 2, "short.yaml:3: learning_rat: unknown key; did you mean"),
        ("1.0e-3", "fast", 2, "short.yaml:3: learning_rate: expected float, not 'fast'"),
        ("steps: 6", "steps: 0", 2, "short.yaml:2: phases: steps and batch from 1"),
        ("model.yaml", "none.yaml", 2, "none.yaml: no such file"),
        ("rounds: 2", "rounds: [", 2, "short.yaml:"),
        ("{shapes: 8, weight", "{shapes: 2, weight", 2, "short.yaml:10: data.sets.made: skip holds out 0"),
        ("{shapes: 8, weight", "{panoptic: photos, weight", 2, "photos: neither a folder nor a .tar file"),
        ("rounds: 2", "init: none.safetensors", 5, "none.safetensors: no such weights file"),
        ("min_area: 20", "min_area: 99999", 3, "no mask of at least 99999 pixels in 2 photos"),
    ],
)
def test_a_wrong_configuration(
    train, config: Path, tmp_path: Path, old: str, new: str, code: int, reason: str
) -> None:
    assert RUN.count(old) == 1
    config.write_text(RUN.replace(old, new))
    ended = train("--data", tmp_path / "data")
    assert ended.code == code and ended.out == ""
    assert ended.err.splitlines()[-1].startswith("error: ") and reason in ended.err.splitlines()[-1]
    assert len([line for line in ended.err.splitlines() if line.startswith("error")]) == 1


def test_missing_data_is_found_before_any_photo_is_packed(train, config: Path, tmp_path: Path) -> None:
    config.write_text(RUN.replace("weight: 1}", "weight: 1}, more: {bsds: none, weight: 1}"))
    ended = train("--data", tmp_path / "data")
    assert ended.code == 2 and "--data" in ended.error
    assert str(tmp_path / "data/none") in ended.error and names(tmp_path / "packed") == set()


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        (("--precision", "fp16"), 2, "training takes precision auto, fp32 or bf16, not fp16"),
        (("--precision", "fp8"), 2, "fp8"),
        (("--device", "tpu"), 2, "auto, cpu, cuda"),
        (("--device", "cuda:99"), 6, "not available"),
        (("--config", "none.yaml"), 2, "none.yaml: no such file"),
        (("--confg", "x"), 2, "--confg"),
        (("--minutes", "0"), 2, "--minutes: expected a number above 0, not 0"),
        (("--minutes", "nan"), 2, "--minutes: expected a number above 0, not nan"),
    ],
)
def test_wrong_options(train, tmp_path: Path, options: tuple[str, ...], code: int, reason: str) -> None:
    ended = train(*options)
    assert ended.code == code and ended.out == ""
    assert ended.error.startswith("error: ") and reason in ended.error
    assert not (tmp_path / "run").exists()


def test_an_output_that_cannot_be_written(train, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file/below", "/proc/nowhere"):
        ended = train("--out", out)
        assert ended.code == 6
        assert ended.error.startswith(f"error: {out}") and "cannot be written" in ended.error


def test_starting_from_a_file_named_on_the_command_line(train, config: Path, tmp_path: Path) -> None:
    assert train().code == 0
    config.write_text(RUN.replace("steps: 6", "steps: 1"))
    best = tmp_path / "run/weights.safetensors"
    ended = train("--out", tmp_path / "tuned", "--init", best)
    assert ended.code == 0 and json.loads((tmp_path / "tuned/run.json").read_text())["init"] == str(best)
    ended = train("--out", tmp_path / "other", "--init", tmp_path / "none.safetensors")
    assert ended.code == 5 and "none.safetensors: no such weights file" in ended.err
    ended = train("--out", tmp_path / "other", "--init", "vit_b:x.pth")
    assert ended.code == 2 and "short.yaml: init: preset 'vit_b' is not of model" in ended.err


def test_a_floor_that_is_not_reached(train, config: Path) -> None:
    config.write_text(RUN.replace("min_area: 20", "min_area: 20, floor: {box: 1.0, miou@1: 0}"))
    ended = train()
    assert ended.code == 4 and "held out: miou@1" in ended.out
    last = ended.err.splitlines()[-1]
    assert last.startswith("error: below the floor") and "box 0." in last and "< 1" in last
    assert "miou@1" not in last


def test_taught_by_the_embedded_segmenter_and_by_text(train, config: Path, tmp_path: Path) -> None:
    """The whole way: a teacher from a preset, vectors from the embedded pair, packed and drawn."""
    extra = "distill: {preset: tiny, weight: 1, embedding: 1}\ntext: {clip: tiny, share: 1, variants: 1}\n"
    config.write_text(RUN.replace("steps: 6", "steps: 2") + extra)
    ended = train()
    assert ended.code == 0, ended.err
    (row, _) = read_log(tmp_path / "run/log.jsonl")
    assert {"prompts", "teacher", "embedding"} < row.keys()
    assert (tmp_path / "packed/made/texts/vectors.npy").is_file()
    tensors = read_weights(tmp_path / "run/weights.safetensors").tensors
    assert tensors["prompt_encoder.text_projection.weight"].shape == (16, 256)


def test_a_damaged_state(train, tmp_path: Path) -> None:
    assert train().code == 0
    state = tmp_path / "run/state.pt"
    state.write_bytes(state.read_bytes()[:999])
    ended = train()
    assert ended.code == 5
    assert ended.err.splitlines()[-1] == (
        f"error: {state}: damaged or no training state; delete it to start anew"
    )


def test_what_is_set_for_a_gpu_comes_back() -> None:
    before = torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()
    with fast_kernels(reduced=False):
        assert (torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()) == (True, before[1])
    with fast_kernels(reduced=True):
        assert torch.get_float32_matmul_precision() == "high"
    assert (torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()) == before
