"""The training loop: canvases, simulated interaction, optimiser, EMA, exact resume, early stop."""

from __future__ import annotations

import copy
import functools
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from sam.checkpoints import load_training_state, save_training_state, save_weights
from sam.errors import CheckpointError, UsageError
from sam.model import SegmentAnything
from sam.training.batch import Batch, in_parts
from sam.training.canvas import CanvasSampler, Sample
from sam.training.config import TrainingConfig
from sam.training.objective import Objective
from sam.training.optimiser import build_optimiser, learning_rate
from sam.training.ranks import ALONE, Ranks
from sam.training.run_log import forget_after, read_log, write_row
from sam.training.teacher import Teacher

__all__ = ["CanvasStream", "Trainer", "read_log"]
STATE, LOG, WEIGHTS, BEST = "state.pt", "log.jsonl", "weights.safetensors", "best.safetensors"
Validate = Callable[[SegmentAnything], dict[str, float]]


class CanvasStream(IterableDataset[list[Sample]]):
    """Batches from ``first_step`` to the end of the run, split among loader workers step by step.

    Of each step's batch a process gets its own parts, one after the other: with P parts in all, part p has
    the samples p, p + P, p + 2 P, …
    """

    def __init__(
        self, sampler: CanvasSampler, config: TrainingConfig, first_step: int, ranks: Ranks = ALONE
    ) -> None:
        self.sampler, self.config, self.first_step, self.ranks = sampler, config, first_step, ranks

    def __iter__(self) -> Iterator[list[Sample]]:
        worker = torch.utils.data.get_worker_info()
        start, stride = (0, 1) if worker is None else (worker.id, worker.num_workers)
        parts = self.ranks.count * self.config.accumulate
        for step in range(self.first_step + start, self.config.total_steps, stride):
            phase = self.config.phase_at(step)
            number = self.config.first_sample(step)
            yield [
                self.sampler(number + i, phase.size)
                for part in range(self.ranks.rank, parts, self.ranks.count)
                for i in range(part, phase.batch, parts)
            ]


class Trainer:
    """Trains a :class:`SegmentAnything` of any encoder family, in a folder that can be resumed.

    The folder holds ``state.pt`` (everything needed to go on exactly), ``log.jsonl`` (a line for each
    ``log_every`` steps and each validation), ``best.safetensors`` (the averaged weights of the best
    validation, fp16) and, at the end, ``weights.safetensors`` (the last ones).

    Args:
        model: to be trained.
        sampler: of its canvases.
        config: the run.
        folder: of the run.
        validate: gives the figures of the averaged weights; None: no validation.
        dtype: of the large products, by autocast.
        teacher: for ``config.distill``.
        ranks: this process among those that train together.
        after_validation: called when a validation is in the log.

    Raises:
        UsageError: settings that such an encoder, or so many processes, cannot follow.
    """

    def __init__(
        self,
        model: SegmentAnything,
        sampler: CanvasSampler,
        config: TrainingConfig,
        folder: Path,
        validate: Validate | None = None,
        dtype: torch.dtype = torch.float32,
        *,
        teacher: Teacher | None = None,
        ranks: Ranks = ALONE,
        after_validation: Callable[[], None] | None = None,
    ) -> None:
        self.model, self.sampler, self.config, self.folder = model, sampler, config, folder
        self.validate, self.dtype, self.ranks = validate, dtype, ranks
        self.after_validation = after_validation
        self._check()
        if model.device.type == "cuda":
            model.to(memory_format=torch.channels_last)
        self.objective = Objective(model, config, teacher)
        self.affinity_head = self.objective.affinity_head
        self.average = copy.deepcopy(model).eval().requires_grad_(False)
        self.optimizer = build_optimiser(self.objective, model.image_encoder, config, dtype)
        self.parallel = ranks.share(self.objective)
        self.step = 0
        self.seconds = 0.0
        self.best: dict[str, float] = {"score": -1.0, "step": 0, "waited": 0}
        folder.mkdir(parents=True, exist_ok=True)

    def _check(self) -> None:
        encoder: Any = self.model.image_encoder
        for key, message in self.config.misfits(encoder.config):
            raise UsageError(f"{key}: {message}", field=key)
        for phase in self.config.phases:
            if phase.batch % (self.ranks.count * self.config.accumulate):
                raise UsageError(
                    f"phases: a batch of {phase.batch} is not divided by {self.ranks.count} processes of "
                    f"{self.config.accumulate} parts each",
                    field="phases",
                )

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or ``minutes`` or ``patience`` are at their end."""
        tired = 0 < self.config.patience <= self.best["waited"]
        return tired or self.config.progress(self.step, self.seconds) >= 1

    def run(
        self,
        on_step: Callable[[int, dict[str, float]], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> SegmentAnything:
        """Train to the end, resuming from the folder's state if there is one.

        Args:
            on_step: called every ``log_every`` steps with the step and the mean losses since the last call.
            should_stop: asked after every step; True saves the state and ends the run early. A step that is
                cut in the middle could not be resumed exactly, so nothing shorter is offered.

        Returns:
            The averaged model; see :attr:`finished`.
        """
        torch.set_flush_denormal(True)
        threads = cv2.getNumThreads()
        try:
            if self.config.workers > 1:
                cv2.setNumThreads(1)  # set here, as a forked pool of threads cannot be
            return self._run(on_step, should_stop)
        finally:
            cv2.setNumThreads(threads)

    def _run(
        self,
        on_step: Callable[[int, dict[str, float]], None] | None,
        should_stop: Callable[[], bool] | None,
    ) -> SegmentAnything:
        self.resume()
        recent: list[dict[str, Tensor]] = []
        started = time.monotonic() - self.seconds
        for batches in () if self.finished else self._loader():
            recent.append(self._train_step(batches))
            self.step += 1
            self._look_at_the_clock(started)
            if self.step % self.config.log_every == 0:
                means = self.ranks.mean(_means(recent), self.model.device)
                self._log(means)
                recent.clear()
                if on_step and self.ranks.leads:
                    on_step(self.step, means)
            if self.step % self.config.validate_every == 0 or self.finished:
                self._validate()
                self._look_at_the_clock(started)
            if self.step % self.config.checkpoint_every == 0:
                self._save_state()
            asked = should_stop is not None and should_stop()
            if self.ranks.any(asked, self.model.device) or self.finished:
                break
        self._save_state()
        if self.finished and self.ranks.leads:
            save_weights(self.average, self.folder / WEIGHTS, metadata={"steps": str(self.step)})
        self.ranks.wait()
        return self.average

    def _look_at_the_clock(self, started: float) -> None:
        self.seconds = time.monotonic() - started
        if self.config.minutes is not None:  # the leader's clock is everybody's
            self.seconds = self.ranks.agree(self.seconds)

    def _loader(self) -> DataLoader[list[Sample]]:
        """Gives the batches of each step's parts, which its workers make of the stream's samples."""
        return DataLoader(
            CanvasStream(self.sampler, self.config, self.step, self.ranks),
            batch_size=None,
            collate_fn=functools.partial(in_parts, parts=self.config.accumulate),
            num_workers=self.config.workers,
            prefetch_factor=4 if self.config.workers else None,
            pin_memory=self.model.device.type == "cuda",
            worker_init_fn=_ignore_interrupts,
        )

    def _train_step(self, batches: list[Batch]) -> dict[str, Tensor]:
        """One step of the optimiser, over the gradients of all parts; the losses stay on the device."""
        self.objective.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate() * group.get("scale", 1.0)
        self.optimizer.zero_grad(set_to_none=True)
        found = []
        for part, batch in enumerate(batches):
            with self.ranks.apart(self.parallel, last=part == len(batches) - 1):
                losses = self._losses(batch, part)
                total = sum(losses.values(), torch.zeros((), device=self.model.device))
                (total / len(batches)).backward()
            found.append({name: loss.detach() for name, loss in losses.items()})
        parameters = [p for g in self.optimizer.param_groups for p in g["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, self.config.clip_norm)
        if torch.isfinite(norm):
            self.optimizer.step()
            self._update_average()
        mean = {name: torch.stack([row[name] for row in found]).mean() for name in found[0]}
        return {**mean, "grad_norm": norm.detach()}

    def _losses(self, batch: Batch, part: int) -> dict[str, Tensor]:
        """Of one part of this process's canvases; its seed is that of the part among those of all."""
        number = part * self.ranks.count + self.ranks.rank
        seed = self.config.seed * 1_000_003 + self.step + number * 7_919_000_003
        with torch.autocast(self.model.device.type, self.dtype, enabled=self.dtype != torch.float32):
            losses: dict[str, Tensor] = self.parallel(batch, seed)
        return losses

    def _learning_rate(self) -> float:
        return learning_rate(self.config, self.step, self.seconds)

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        averaged, sources, others = self._averaged
        torch._foreach_lerp_(averaged, sources, 1 - decay)
        for value, source in others:
            value.copy_(source)

    @functools.cached_property
    def _averaged(self) -> tuple[list[Tensor], list[Tensor], list[tuple[Tensor, Tensor]]]:
        """The averaged numbers and what they are averages of; what is copied, which are counters."""
        source = self.model.state_dict()
        pairs = [(value, source[name]) for name, value in self.average.state_dict().items()]
        real = [pair for pair in pairs if pair[0].is_floating_point()]
        others = [pair for pair in pairs if not pair[0].is_floating_point()]
        return [value for value, _ in real], [value for _, value in real], others

    def _validate(self) -> None:
        """Figures of the averaged weights into the log; the best so far are kept."""
        if self.ranks.leads and self.validate is not None:
            figures = self.validate(self.average)
            self._log(figures)
            known = [figures[name] for name in self.config.best_by if name in figures]
            score = float(np.mean(known)) if known else 0.0
            if score > self.best["score"]:
                self.best = {"score": score, "step": self.step, "waited": 0}
                save_weights(self.average, self.folder / BEST, metadata={"steps": str(self.step)})
            else:
                self.best = {**self.best, "waited": self.best["waited"] + 1}
            if self.after_validation:
                self.after_validation()
        self.best = self.ranks.agree(self.best)

    def _save_state(self) -> None:
        if not self.ranks.leads:
            return
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "parts": self.ranks.count * self.config.accumulate,
            "best": self.best,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **{name: head.state_dict() for name, head in self._heads().items()},
        }
        save_training_state(self.folder / STATE, state)

    def _heads(self) -> dict[str, nn.Module]:
        """What is trained beside the model."""
        heads = {"affinity_head": self.affinity_head, "projection": self.objective.projection}
        return {name: head for name, head in heads.items() if head is not None}

    def resume(self) -> None:
        """Take up the folder's state, if there is one; :meth:`run` does so itself.

        Raises:
            CheckpointError: the state is damaged or of another model.
            UsageError: it is of another number of parts a step (processes times ``accumulate``).
        """
        path = self.folder / STATE
        if not path.exists():
            self._forget_log_after(0)
            return
        state = load_training_state(path)
        parts = self.ranks.count * self.config.accumulate
        if state.get("parts", parts) != parts:
            raise UsageError(
                f"{path}: a run of {state['parts']} parts a step (processes x accumulate), not {parts}: "
                "go on with as many, or choose another folder",
                field="accumulate",
            )
        try:
            self.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            for name, head in self._heads().items():
                head.load_state_dict(state[name])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.seconds = int(state["step"]), float(state["seconds"])
            self.best = dict(state.get("best", self.best))
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{path}: the state of another model or program; choose another folder for this run",
                code="state_foreign",
            ) from error
        self._forget_log_after(self.step)

    def _forget_log_after(self, step: int) -> None:
        if self.ranks.leads:
            forget_after(self.folder / LOG, step)

    def _log(self, values: dict[str, float]) -> None:
        if self.ranks.leads:
            write_row(self.folder / LOG, {"step": self.step, "seconds": round(self.seconds), **values})


def _means(rows: list[dict[str, Tensor]]) -> dict[str, float]:
    return {name: float(torch.stack([row[name] for row in rows]).mean()) for name in rows[0]}


def _ignore_interrupts(worker: int) -> None:
    """Ctrl-C, and a service manager's SIGTERM, reach every process of the run; the training one decides.

    It finishes its step and saves, for which it needs its workers; they end when it says so, or is gone.
    """
    for wanted in (signal.SIGINT, signal.SIGTERM):
        signal.signal(wanted, signal.SIG_IGN)
