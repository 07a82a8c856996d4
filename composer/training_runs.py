"""A training run in its folder: claimed, packed, trained or gone on with, watched, drawn."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from composer.formats.atomic import ensure_folder, write_bytes, write_json
from composer.presets import load_preset
from composer.training_config import TrainingRun
from composer.training_data import opened, pack_sets
from composer.training_sets import Validation
from composer.training_start import Start, new_model
from composer.training_text import with_texts
from composer.training_validation import Validator, held_out
from sam.allocation import keep_freed_memory
from sam.checkpoints import file_digest
from sam.errors import UsageError
from sam.model import SegmentAnything
from sam.precision import choose_precision
from sam.training.canvas import CanvasSampler
from sam.training.config import TrainingConfig
from sam.training.data import PackedSet
from sam.training.ranks import ALONE, Ranks
from sam.training.run_log import as_csv, read_log
from sam.training.teacher import Teacher
from sam.training.trainer import BEST, LOG, WEIGHTS, Trainer

if TYPE_CHECKING:
    from adapters.clip import TextImageModel

RUN_FILE, CURVE, TABLE = "run.json", "learning-curve.png", "log.csv"
_NO_FIGURE = ("step", "seconds", "grad_norm")
_MAY_CHANGE = (
    "precision", "workers", "checkpoint_every", "log_every", "validate_every", "accumulate", "patience",
    "best_by",
)  # fmt: skip
"""Settings that do not change what is learned (or only in the last digits): a run may go on with others."""
_NEWER: dict[str, Any] = {
    key: json.loads(json.dumps(value.default))
    for key, value in TrainingConfig.__dataclass_fields__.items()
    if key
    in (
        "optimiser",
        "minutes",
        "schedule",
        "decay_at",
        "layer_decay",
        "drop_path",
        "freeze_encoder",
        "distill",
        "text",
        "box_noise",
        "deepest_share",
    )
}
"""Settings that earlier versions did not have, as a run of theirs had them."""


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
        best_step: of the validation whose weights are kept as the best; 0: there is none.
        missed: figures below the floor that the run states for them.
    """

    step: int
    total_steps: int
    seconds: float
    weights_sha256: str | None
    figures: dict[str, float]
    best_step: int = 0
    missed: tuple[str, ...] = ()


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
    ranks: Ranks = ALONE,
) -> Outcome:
    """Train in ``folder``, or go on with the run that it holds.

    Args:
        run: what to train.
        folder: for state, log, weights and learning curve.
        data: root of the sets.
        packed: folder for the packed photos, which several runs may share.
        device, dtype: where, and in which format the products are computed (float32 or bfloat16).
        watch: who is told.
        beside: folder of the run's YAML file, from which a teacher's checkpoint is looked for.
        ranks: this process among those that train together; the first packs, validates and writes.

    Raises:
        UsageError: a folder with another run, sources that are missing.
        BadAnnotation: data that contradicts itself.
        CheckpointError: a damaged state, or weights of another model.
        EnvironmentProblem: a folder that cannot be written.
    """
    if ranks.leads:
        claim_folder(folder, run)
    if device.type == "cpu":
        keep_freed_memory()
    with ExitStack() as stack:
        if device.type == "cuda":
            stack.enter_context(fast_kernels(reduced=dtype != torch.float32))
        validator = None
        if run.validation and ranks.leads:
            ensure_folder(packed)
            source = stack.enter_context(opened(run.validation.format, run.validation.source, data, packed))
            validator = Validator(run.validation, held_out(source, run.validation))
        if not ranks.leads:
            ranks.wait()
        sets = packed_sets(run, data, packed, watch)
        if ranks.leads:
            ranks.wait()  # what it has packed, the others only open

        def validate(model: SegmentAnything) -> dict[str, float]:
            assert validator is not None
            figures = validator(model)
            watch.on_validation(trainer.step, figures)
            return figures

        trainer = Trainer(
            new_model(run.model, run.config.seed, run.start, device),
            CanvasSampler(sets, run.config.sampling, run.config.seed),
            run.config,
            folder,
            validate if validator else None,
            dtype,
            teacher=load_teacher(run, beside, device, dtype),
            ranks=ranks,
            after_validation=lambda: _show_log(folder),
        )
        trainer.resume()
        watch.on_start(trainer)
        trainer.run(watch.on_step, watch.should_stop)
    return _outcome(trainer, folder, run.validation)


@contextmanager
def fast_kernels(*, reduced: bool) -> Iterator[None]:
    """cuDNN tries its kernels, since all canvases of a phase have one size; what was set comes back after.

    Args:
        reduced: float32 products may be TF32's, beside others in bf16.
    """
    tries, precision = torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()
    torch.backends.cudnn.benchmark = True
    if reduced:
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = tries
        torch.set_float32_matmul_precision(precision)


def packed_sets(run: TrainingRun, data: Path, packed: Path, watch: Watch) -> list[PackedSet]:
    """The run's sets, packed; with vectors of their segments where it trains with text."""
    sets = pack_sets(run.sets, data, packed, long_side=run.long_side, on_packed=watch.on_packed)
    if run.clip is None or run.config.text is None:
        return sets
    clip = run.clip

    def load() -> TextImageModel:
        from adapters.clip import TextImageModel

        return TextImageModel.load(clip)

    return with_texts(sets, packed, clip, run.config.text, load)


def load_teacher(run: TrainingRun, beside: Path, device: torch.device, dtype: torch.dtype) -> Teacher | None:
    """The segmenter of ``config.distill``, if it names one.

    Raises:
        UsageError: an unknown preset. CheckpointError: weights that are missing, damaged or of another model.
    """
    distill = run.config.distill
    if distill is None:
        return None
    file = None if distill.checkpoint is None else beside / distill.checkpoint
    preset = load_preset(
        distill.preset if not distill.preset.endswith((".yaml", ".yml")) else beside / distill.preset
    )
    return Teacher(new_model(preset.model, 0, Start(preset, file), device), dtype)


def _outcome(trainer: Trainer, folder: Path, validation: Validation | None) -> Outcome:
    if trainer.ranks.leads:
        _show_log(folder)
    rows = read_log(folder / LOG) if (folder / LOG).exists() else []
    validations = [{k: v for k, v in row.items() if k not in _NO_FIGURE} for row in rows if "box" in row]
    figures = validations[-1] if validations and trainer.finished else {}
    floor = validation.floor if validation is not None and figures else {}
    return Outcome(
        trainer.step,
        trainer.config.total_steps,
        trainer.seconds,
        file_digest(folder / WEIGHTS) if trainer.finished else None,
        figures,
        int(trainer.best["step"]) if (folder / BEST).is_file() else 0,
        tuple(
            f"{name} {figures[name]:.3f} < {least:g}"
            for name, least in floor.items()
            if figures[name] < least
        ),
    )


def _show_log(folder: Path) -> None:
    """The log as a picture and as a table."""
    rows = read_log(folder / LOG) if (folder / LOG).exists() else []
    if rows:
        save_curve(folder / CURVE, rows)
        write_bytes(folder / TABLE, as_csv(rows).encode())


def save_curve(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw losses and validation figures over the steps, as a PNG. Raises EnvironmentProblem."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
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
        if chosen:  # beside the lines, and not on them
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8, frameon=False)
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


def _as_now(found: dict[str, Any]) -> dict[str, Any]:
    """What an earlier version wrote of a run, with the settings that it did not have."""
    sampling = found.get("sampling")
    if isinstance(sampling, dict):
        found = {**found, "sampling": {"photos": 1.0, **sampling}}
    return {**_NEWER, **found}


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
        found = _as_now(found) if isinstance(found, dict) and found else {}
        if found != told:
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
    sets = {one.name: one.told() for one in run.sets}
    return {**config, "model_shapes": asdict(run.model), "sets": sets, "long_side": run.long_side}
