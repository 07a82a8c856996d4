"""``sam-composer train``: train or fine-tune a segmenter, or go on with an interrupted run."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from apps import model_options
from apps.console import flowing, one_line, warn

if TYPE_CHECKING:
    from types import FrameType

    from composer.training_runs import Outcome, Watch
    from sam.training.trainer import Trainer

INTERRUPTED = 130
BELOW_FLOOR = 4
HELP = """Train a segmenter on photos with labelled segments, from scratch or from given weights.

The photos are packed once, then drawn from there. Run the same command again after an interruption: it goes
on from the last saved state and draws what the uninterrupted run would have drawn.

Several processes train together where torchrun starts them:
torchrun --nproc-per-node 8 --no-python sam-composer train --config FILE.

A file with a key `detector` trains a detector of one class with ultralytics instead, after whole epochs; one
with a key `clip` trains a text-image model of open_clip for `--text`.

The folder --out holds state.pt (to go on), log.jsonl, log.csv, learning-curve.png, best.safetensors (the
averaged weights of the best validation, half precision), and at the end weights.safetensors (the last ones).
"""
EPILOG = """
[bold]Examples[/bold]

sam-composer train --config configs/training/smoke.yaml --out runs/smoke

sam-composer train --config configs/training/tiny.yaml --data DATA --out runs/tiny

sam-composer train --config configs/training/finetune.yaml --init vit_b:sam_vit_b_01ec64.pth --data DATA
"""


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("train", help=flowing(HELP), epilog=flowing(EPILOG), no_args_is_help=True)(train)


def train(
    config: Annotated[
        Path,
        typer.Option("--config", metavar="FILE", help="What to train: a YAML file as in configs/training."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="RUNDIR", help="Folder of the run. (default: runs/ and FILE's name)"
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="ROOT",
            help="Folder with the sets, as folders or .tar files. (default: what the configuration says)",
        ),
    ] = None,
    packed: Annotated[
        Path | None,
        typer.Option(
            "--packed", metavar="DIR", help="Folder for the packed photos. (default: packed/ in RUNDIR)"
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            "--init",
            metavar="[PRESET:]FILE",
            help="Weights to start from: a file, a preset, or a file for a preset's architecture. "
            "(default: what the configuration says)",
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            "--minutes",
            help="End after so many minutes of training, with the learning rate down by then. "
            "(default: what the configuration says)",
        ),
    ] = None,
    device: model_options.Device = "auto",
    precision: Annotated[
        str | None,
        typer.Option("--precision", help="auto, fp32 or bf16. (default: what the configuration says)"),
    ] = None,
) -> None:
    """The command; see ``HELP``."""
    from composer.clip_training.config import is_clip_run
    from composer.detector_training import is_detector_run
    from sam.errors import UsageError

    for name, given in (("init", init), ("minutes", minutes)):
        if given is not None and (is_detector_run(config) or is_clip_run(config)):
            raise UsageError(
                f"--{name} is for segmenters; this file trains another kind of model", field=name
            )
    if minutes is not None and not 0 < minutes < float("inf"):
        raise UsageError(f"--minutes: expected a number above 0, not {minutes:g}", field="minutes")
    if is_detector_run(config):
        _train_detector(config, out or Path("runs", config.stem), data, packed, device)
        return
    if is_clip_run(config):
        _train_clip(config, out or Path("runs", config.stem), data, packed)
        return
    _train_segmenter(config, out or Path("runs", config.stem), data, packed, init, minutes, device, precision)


def _train_segmenter(
    config: Path,
    out: Path,
    data: Path | None,
    packed: Path | None,
    init: str | None,
    minutes: float | None,
    device: str,
    precision: str | None,
) -> None:
    from composer import training_runs
    from composer.training_config import read_training_run
    from sam.precision import choose_device
    from sam.training.ranks import joined, local_device

    run = read_training_run(config, init)
    if minutes is not None:
        run = replace(run, config=replace(run.config, minutes=minutes))
    where = choose_device(local_device(device))
    dtype = training_runs.training_dtype(where, precision or run.config.precision)
    with (
        joined(where) as ranks,
        _interruptible() as should_stop,
        _progress(run.config.total_steps, shown=ranks.leads) as watch_with,
    ):
        outcome = training_runs.train(
            run,
            out,
            data=data or run.root,
            packed=packed or out / "packed",
            device=where,
            dtype=dtype,
            watch=watch_with(should_stop),
            beside=config.parent,
            ranks=ranks,
        )
    if ranks.leads:
        _report(outcome, out)


def _train_detector(config: Path, out: Path, data: Path | None, packed: Path | None, device: str) -> None:
    from composer import detector_training
    from sam.precision import choose_device

    run = detector_training.read_detector_run(config)
    weights = detector_training.train(
        run,
        out,
        data=data or run.root,
        packed=packed or out / "packed",
        device=str(choose_device(device)),
        on_set=lambda name, count: warn(f"{name}: {count} photos"),
    )
    typer.echo(one_line(str(weights)))


def _train_clip(config: Path, out: Path, data: Path | None, packed: Path | None) -> None:
    from composer.clip_training import run as clip_training
    from composer.clip_training.config import read_clip_run

    run = read_clip_run(config)

    def on_step(part: str, step: int, total: int, figures: Mapping[str, float]) -> None:
        if part == "teacher" or step % clip_training.LOG_EVERY == 0:
            warn(f"{part}, step {step} of {total}: {_told(figures)}")

    with _interruptible() as should_stop:
        watch = clip_training.Watch(
            lambda name, count: warn(f"{name}: {count} pictures"),
            on_step,
            lambda part, step, figures: warn(f"{part}, step {step}, held out: {_told(figures)}"),
            should_stop,
        )
        folder = clip_training.train(
            run, out, data=data or run.root, packed=packed or out / "packed", watch=watch
        )
    if folder is None:
        _go_on("stopped", out)
    typer.echo(one_line(str(folder)))


def _told(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in figures.items())


def _go_on(what: str, out: Path) -> NoReturn:
    again = one_line(shlex.join(["sam-composer", *sys.argv[1:]]))
    warn(f"{what}, saved in {out}; go on with: {again}")
    raise SystemExit(INTERRUPTED)


def _report(outcome: Outcome, out: Path) -> None:
    if outcome.weights_sha256 is None:
        _go_on(f"stopped after step {outcome.step} of {outcome.total_steps}", out)
    figures = ", ".join(f"{name} {value:.3f}" for name, value in outcome.figures.items())
    typer.echo(
        f"{outcome.step} steps in {outcome.seconds / 60:.1f} min"
        + (f"; held out: {figures}" if figures else "")
    )
    typer.echo(one_line(f"{out / 'weights.safetensors'}  sha256 {outcome.weights_sha256}"))
    if 0 < outcome.best_step < outcome.step:
        typer.echo(one_line(f"{out / 'best.safetensors'}  of step {outcome.best_step}, the best held out"))
    if outcome.missed:
        warn(f"error: below the floor that {out} was to reach: {', '.join(outcome.missed)}")
        raise typer.Exit(BELOW_FLOOR)


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C (or SIGTERM) lets the step in hand finish; a second one ends the program at once."""
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        warn("stopping after this step; once more to stop at once")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _progress(total: int, shown: bool) -> Iterator[Callable[[Callable[[], bool]], Watch]]:
    """A bar over the steps on a terminal, plain lines elsewhere; both on stderr. Nothing unless ``shown``."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from composer.training_runs import Watch

    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("steps"), TimeRemainingColumn())
    bar = Progress(
        *columns,
        TextColumn("{task.description}", markup=False),
        console=console,
        disable=not (console.is_terminal and shown),
    )
    with bar:
        task = bar.add_task("", total=total)

        def note(text: str) -> None:
            if not shown:
                return
            if console.is_terminal:
                bar.console.print(one_line(text), markup=False, highlight=False, soft_wrap=True)
            else:
                warn(text)

        def on_start(trainer: Trainer) -> None:
            bar.update(task, completed=trainer.step)
            if trainer.step:
                note(f"going on after step {trainer.step}")

        def on_step(step: int, losses: dict[str, float]) -> None:
            text = ", ".join(f"{name} {value:.3f}" for name, value in losses.items())
            bar.update(task, completed=step, description=text)
            if not console.is_terminal:
                warn(f"step {step} of {total}: {text}")

        def on_validation(step: int, figures: dict[str, float]) -> None:
            note(f"step {step}, held out: " + ", ".join(f"{k} {v:.3f}" for k, v in figures.items()))

        yield lambda should_stop: Watch(
            lambda name, count: note(f"{name}: {count} photos"), on_start, on_step, on_validation, should_stop
        )
