"""One training of a text-image pair, from its file to a folder in open_clip's form; it can be stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adapters.clip import CONFIG, WEIGHTS, new_model
from composer.clip_training.check import Check
from composer.clip_training.config import MEAN, STD, ClipRun
from composer.clip_training.pack import pack_all
from composer.clip_training.pictures import Sampler, make_batch, train_pictures
from composer.clip_training.schedule import Optimiser
from composer.clip_training.teacher import fewer_dimensions, teacher_vectors
from composer.clip_training.words import Phrases, corpus, train_words
from composer.formats.atomic import ensure_folder, write_json, write_text
from composer.training_data import opened
from sam.allocation import keep_freed_memory
from sam.checkpoints import load_training_state, read_weights, save_training_state, save_weights
from sam.errors import CheckpointError, UsageError
from sam.training.trainer import read_log

STATE, LOG = "state.pt", "log.jsonl"
PARTS = ("words", "pictures")
SAVE_EVERY, LOG_EVERY, CHECK_EVERY = 250, 20, 500
BACKBONE = "image_encoder.backbone."


@dataclass(frozen=True)
class Watch:
    """What a run tells while it goes.

    Attributes:
        on_set: name and number of pictures of a set that is ready.
        on_step: name of the part, step, steps in all, figures.
        on_check: name of the part, step, figures of held-out pictures.
        should_stop: asked after each step.
    """

    on_set: Callable[[str, int], None] = lambda name, count: None
    on_step: Callable[[str, int, int, Mapping[str, float]], None] = lambda part, step, total, figures: None
    on_check: Callable[[str, int, Mapping[str, float]], None] = lambda part, step, figures: None
    should_stop: Callable[[], bool] = lambda: False


@dataclass
class _Progress:
    """Keeps state and log of one part."""

    folder: Path
    part: str
    optimiser: Optimiser
    watch: Watch
    check: Callable[[], Mapping[str, float]] | None = None
    stopped: bool = False
    _last: dict[str, float] = field(default_factory=dict)

    def __call__(self, step: int, figures: dict[str, float]) -> bool:
        for name, value in figures.items():  # a running mean: single batches differ
            self._last[name] = 0.95 * self._last.get(name, value) + 0.05 * value
        self.watch.on_step(self.part, step, self.optimiser.total, self._last)
        over = step == self.optimiser.total
        if step % LOG_EVERY == 0 or over:
            self._log({"part": self.part, "step": step, **self._last})
        if self.check and (step % CHECK_EVERY == 0 or over):
            found = self.check()
            self._log({"part": self.part, "step": step, "held_out": dict(found)})
            self.watch.on_check(self.part, step, found)
        self.stopped = self.watch.should_stop()
        if step % SAVE_EVERY == 0 or over or self.stopped:
            save_training_state(self.folder / STATE, {"part": self.part, **self.optimiser.state()})
        return self.stopped

    def _log(self, entry: dict[str, Any]) -> None:
        with (self.folder / LOG).open("a") as file:
            file.write(json.dumps(entry) + "\n")


def train(run: ClipRun, folder: Path, *, data: Path, packed: Path, watch: Watch = Watch()) -> Path | None:
    """Train, or go on, and write the model.

    Args:
        run: what to train.
        folder: of the run.
        data: folder with the sets.
        packed: folder for the packed pictures.
        watch: what to tell.

    Returns:
        The model's folder, ``model`` in ``folder``; None where it was stopped before the end.

    Raises:
        UsageError, BadAnnotation: a set is missing or damaged.
        EnvironmentProblem: the teacher is not installed.
        CheckpointError: the state is damaged, or belongs to another model.
    """
    torch.manual_seed(run.seed)
    torch.set_flush_denormal(True)
    keep_freed_memory()
    ensure_folder(folder)
    sets, held = pack_all(run, data, packed, watch.on_set)
    weights = {**run.folders, **{one.name: one.weight for one in run.sets}}
    sampler = Sampler(sets, weights, run.vocabulary)
    model, tokenizer = new_model(run.model)
    if run.backbone_from is not None:
        _start_backbone(model, run.backbone_from)

    def on_batch(done: int, total: int) -> bool:
        watch.on_step("teacher", done, total, {})
        return watch.should_stop()

    phrases = _phrases(run, sampler, tokenizer, data, packed, on_batch)
    if phrases is None:
        return None
    state = _read_state(folder)

    first = Optimiser(model, {"text.": float(run.words["learning_rate"])}, run.words["steps"], run.seed)
    if state is None or state["part"] == PARTS[0]:
        if state:
            _restore(first, state, folder)
        progress = _Progress(folder, PARTS[0], first, watch)
        train_words(model.text, phrases, first, run.words["batch"], progress)  # type: ignore[arg-type]
        if progress.stopped:
            return None
        state = None
        model.load_state_dict(first.average)
    rates = {"": float(run.pictures["learning_rate"]), "text.": float(run.pictures["text_learning_rate"])}
    second = Optimiser(model, rates, run.pictures["steps"], run.seed)
    if state:
        _restore(second, state, folder)
    check = Check(sets, held, run.vocabulary, tokenizer, _normalise, run.model)
    progress = _Progress(folder, PARTS[1], second, watch, lambda: check(second.average))
    side = int(run.model["model_cfg"]["vision_cfg"]["image_size"])
    train_pictures(
        model,
        lambda step: make_batch(
            sampler, tokenizer, run.pictures["batch"], side, _normalise, f"pictures {run.seed} {step}"
        ),
        phrases,
        second,
        progress,
    )
    return None if progress.stopped else write_model(run.model, second.average, folder / "model")


def write_model(config: Mapping[str, Any], tensors: Mapping[str, Tensor], folder: Path) -> Path:
    """A folder in open_clip's form: its description, and the tensors in half precision."""
    ensure_folder(folder)
    write_json(folder / CONFIG, dict(config))
    module, _ = new_model(config)
    module.load_state_dict(dict(tensors))
    save_weights(module.half(), folder / WEIGHTS)
    return folder


def _phrases(
    run: ClipRun,
    sampler: Sampler,
    tokenizer: Any,
    data: Path,
    packed: Path,
    on_batch: Callable[[int, int], bool],
) -> Phrases | None:
    where = run.words["nouns"]
    with opened("folders", str(where["tar"]), data, packed) as source:
        nouns = (source / str(where["file"])).read_text("utf-8").splitlines()
    words, often = corpus(sampler.words, nouns, run.words["composed"], run.seed)
    vectors = teacher_vectors(words, str(run.words["teacher"]), packed, on_batch)
    if vectors is None:
        return None
    dimensions = int(run.model["model_cfg"]["embed_dim"])
    return Phrases(words, torch.from_numpy(fewer_dimensions(vectors, dimensions)), often, tokenizer)


def _start_backbone(model: nn.Module, path: Path) -> None:
    tensors = read_weights(path).tensors
    backbone = {k.removeprefix(BACKBONE): v.float() for k, v in tensors.items() if k.startswith(BACKBONE)}
    trunk: Any = model.visual.trunk  # type: ignore[union-attr]
    missing, unexpected = trunk.load_state_dict(backbone, strict=False)
    if missing or unexpected or not backbone:
        raise UsageError(
            f"{path}: its backbone is another one than this model's",
            field="backbone_from",
            code="config_invalid",
        )


def _read_state(folder: Path) -> dict[str, Any] | None:
    """The saved state, or None; rows of the log that came after it are about to be written again, and go."""
    path, log = folder / STATE, folder / LOG
    state = load_training_state(path) if path.is_file() else None
    if state is not None and not (state.get("part") in PARTS and isinstance(state.get("step"), int)):
        raise _foreign(path)
    reached = (PARTS.index(state["part"]), state["step"]) if state else (0, 0)
    if log.is_file():
        kept = [
            row
            for row in read_log(log)
            if row.get("part") in PARTS and (PARTS.index(row["part"]), row["step"]) <= reached
        ]
        write_text(log, "".join(json.dumps(row) + "\n" for row in kept))
    return state


def _restore(optimiser: Optimiser, state: Mapping[str, Any], folder: Path) -> None:
    try:
        optimiser.restore(state)
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise _foreign(folder / STATE) from error


def _foreign(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path}: the state of another model or program; choose another folder for this run",
        code="state_foreign",
    )


def _normalise(pictures: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (pictures - mean) / std
