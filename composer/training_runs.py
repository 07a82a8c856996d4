"""A training run in its folder: claimed, packed, trained or gone on with, watched, drawn."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from adapters.base import Defaults, Scene
from composer.evaluation.ground_truth import GroundTruth, open_panoptic
from composer.evaluation.scoring import evaluate_boxes, evaluate_points
from composer.formats.atomic import ensure_folder, write_bytes, write_json
from composer.images import open_image
from composer.training_config import TrainingRun, Validation
from composer.training_data import opened, pack_sets
from sam.allocation import keep_freed_memory
from sam.checkpoints import file_digest, load_weights
from sam.errors import UsageError
from sam.model import SegmentAnything
from sam.precision import choose_precision
from sam.training.canvas import CanvasSampler
from sam.training.panoptic import read_panoptic_index
from sam.training.trainer import Trainer, read_log
from sam.variants import build_model

RUN_FILE, LOG, WEIGHTS, CURVE = "run.json", "log.jsonl", "weights.safetensors", "learning-curve.png"
VALIDATION_CLICKS = (1, 2, 3)
_NO_FIGURE = ("step", "seconds", "grad_norm")
_MAY_CHANGE = ("precision", "workers", "checkpoint_every", "log_every", "validate_every")
"""Settings that do not change what is learned (or only in the last digits): a run may go on with others."""


@dataclass(frozen=True)
class Watch:
    """Who is told how a run goes. All are called in the process of the run.

    Attributes:
        on_packed: a set's name and its number of photos.
        on_start: the trainer, before its first step; its ``step`` is above 0 when a run goes on.
        on_step: the step and the mean losses since the last call.
        on_validation: the step and the figures of :class:`Validator`.
        should_stop: asked after every step.
    """

    on_packed: Callable[[str, int], None]
    on_start: Callable[[Trainer], None]
    on_step: Callable[[int, dict[str, float]], None]
    on_validation: Callable[[int, dict[str, float]], None]
    should_stop: Callable[[], bool]


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        step, total_steps: done, and of the whole run.
        seconds: of training, earlier sittings included.
        weights_sha256: of the released weights; None for a run that was stopped.
        figures: of the last validation, if the run is finished and has one.
    """

    step: int
    total_steps: int
    seconds: float
    weights_sha256: str | None
    figures: dict[str, float]


def train(
    run: TrainingRun,
    folder: Path,
    *,
    data: Path,
    packed: Path,
    device: torch.device,
    dtype: torch.dtype,
    watch: Watch,
    beside: Path,
) -> Outcome:
    """Train in ``folder``, or go on with the run that it holds.

    Args:
        run: what to train.
        folder: for state, log, weights and learning curve.
        data: root of the sets.
        packed: folder for the packed photos, which several runs may share.
        device, dtype: where, and in which format the products are computed (float32 or bfloat16).
        watch: who is told.
        beside: folder of the run's YAML file, from which ``init`` is looked for.

    Raises:
        UsageError: a folder with another run, sources that are missing.
        BadAnnotation: data that contradicts itself.
        CheckpointError: a damaged state, or weights of another model.
        EnvironmentProblem: a folder that cannot be written.
    """
    claim_folder(folder, run)
    if device.type == "cpu":
        keep_freed_memory()
    with ExitStack() as stack:
        validator = None
        if run.validation:
            ensure_folder(packed)
            source = stack.enter_context(opened(run.validation.format, run.validation.source, data, packed))
            validator = Validator(run.validation, held_out(source, run.validation.limit_images))
        sets = pack_sets(run.sets, data, packed, long_side=run.long_side, on_packed=watch.on_packed)

        def validate(model: SegmentAnything) -> dict[str, float]:
            assert validator is not None
            figures = validator(model)
            watch.on_validation(trainer.step, figures)
            return figures

        trainer = Trainer(
            new_model(run, device, beside),
            CanvasSampler(sets, run.config.sampling, run.config.seed),
            run.config,
            folder,
            validate if validator else None,
            dtype,
        )
        trainer.resume()
        watch.on_start(trainer)
        trainer.run(watch.on_step, watch.should_stop)
    return _outcome(trainer, folder)


def _outcome(trainer: Trainer, folder: Path) -> Outcome:
    rows = read_log(folder / LOG) if (folder / LOG).exists() else []
    if rows:
        save_curve(folder / CURVE, rows)
    validations = [{k: v for k, v in row.items() if k not in _NO_FIGURE} for row in rows if "box" in row]
    return Outcome(
        trainer.step,
        trainer.config.total_steps,
        trainer.seconds,
        file_digest(folder / WEIGHTS) if trainer.finished else None,
        validations[-1] if validations and trainer.finished else {},
    )


def save_curve(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw losses and validation figures over the steps, as a PNG. Raises EnvironmentProblem."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    losses, figures = figure.subplots(1, 2)
    for axes, marker, title in (
        (losses, "prompts", "training losses"),
        (figures, "box", "mean IoU, held out"),
    ):
        chosen = [row for row in rows if marker in row]
        for name in [key for key in (chosen[0] if chosen else ()) if key not in _NO_FIGURE]:
            points = [(row["step"], row[name]) for row in chosen if name in row]
            axes.plot(*zip(*points, strict=True), marker="." if len(points) < 50 else "", label=name)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        if chosen:
            axes.legend(fontsize=8)
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=120)
    write_bytes(path, data.getvalue())


def training_dtype(device: torch.device, precision: str) -> torch.dtype:
    """The number format of training: float32, or bfloat16 by autocast where the device multiplies it.

    Raises:
        UsageError: fp16, whose range needs loss scaling, which the trainer does not do.
    """
    if precision == "fp16":
        raise UsageError("training takes precision auto, fp32 or bf16, not fp16", field="precision")
    choice = choose_precision(device, precision)
    return torch.float32 if choice.dtype == torch.float16 else choice.dtype


def claim_folder(folder: Path, run: TrainingRun) -> None:
    """Make ``folder`` this run's own; in one that holds this run already, training goes on.

    Raises:
        UsageError: it holds another run.
        EnvironmentProblem: it cannot be written.
    """
    told = json.loads(json.dumps(_identity(run)))
    path = ensure_folder(folder) / RUN_FILE
    if path.exists():
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError):
            found = None
        if found != told:
            found = found if isinstance(found, dict) else {}
            other = sorted(k for k in {*told, *found} if k not in told or found.get(k) != told[k])
            raise UsageError(
                f"{folder}: holds a run with other settings ({', '.join(other)}); "
                "choose another folder with --out",
                code="output_of_another_run",
                field="out",
            )
    elif (folder / "state.pt").exists():
        raise UsageError(f"{folder}: holds a run without its {RUN_FILE}; choose another folder with --out")
    else:
        write_json(path, told)


def _identity(run: TrainingRun) -> dict[str, Any]:
    config = {k: v for k, v in asdict(run.config).items() if k not in _MAY_CHANGE}
    sets = {one.name: asdict(one) for one in run.sets}
    return {**config, "model_shapes": asdict(run.model), "sets": sets, "long_side": run.long_side}


def new_model(run: TrainingRun, device: torch.device, beside: Path) -> SegmentAnything:
    """The model that a run starts from: random by its seed, or ``init``, a path from ``beside``.

    Raises:
        CheckpointError: ``init`` is missing, damaged or of another model.
    """
    torch.manual_seed(run.config.seed)
    model = build_model(run.model)
    if run.config.init:
        load_weights(model, beside / run.config.init)
    return model.to(device)


def held_out(folder: Path, count: int) -> GroundTruth:
    """The labelled ones among the first ``count`` photos of a panoptic folder.

    Counted as ``skip`` counts them: photos without a segment do not let later ones in, which are trained on.
    """
    first = {record.photo for record in read_panoptic_index(folder)[:count]}
    truth = open_panoptic(folder)
    return replace(truth, images=tuple(image for image in truth.images if image.path in first))


class Validator:
    """Evaluates weights on the held-out photos of a run.

    Args:
        validation: what to evaluate on.
        truth: the photos; see :func:`held_out`.
    """

    def __init__(self, validation: Validation, truth: GroundTruth) -> None:
        self.validation = validation
        self.truth = truth

    def __call__(self, model: SegmentAnything) -> dict[str, float]:
        """Mean IoU in [0, 1]: ``miou@1`` … ``miou@3``, ``oracle@1``, ``box``, ``box_filled``."""
        scenes: dict[Path, Scene] = {}

        def open_scene(path: Path) -> Scene:
            if path not in scenes:
                pixels = open_image(path).pixels
                scenes[path] = Scene(pixels, model, lambda image: model.encode([image])[0], Defaults())
            return scenes[path]

        which = self.validation.which
        points = evaluate_points(open_scene, self.truth, VALIDATION_CLICKS, which)
        boxes = evaluate_boxes(open_scene, self.truth, which)
        found = {f"miou@{count}": value for count, value in points.miou.items()}
        assert boxes.box_filled is not None
        return {**found, "oracle@1": points.oracle[1], "box": boxes.miou[1], "box_filled": boxes.box_filled}
