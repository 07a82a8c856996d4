"""The training loop: canvases, simulated interaction, AdamW with warm-up and cosine, EMA, exact resume."""

from __future__ import annotations

import copy
import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from sam.checkpoints import load_training_state, save_training_state, save_weights
from sam.errors import CheckpointError, EnvironmentProblem, UsageError
from sam.image_encoder import EncoderOutput
from sam.image_encoder.compact import CompactEncoder
from sam.model import PIXEL_MEAN, PIXEL_STD, SegmentAnything
from sam.training.canvas import CanvasSampler, Sample
from sam.training.config import TrainingConfig
from sam.training.interactive import Round, first_box, first_point, next_round, plan_rounds
from sam.training.losses import AFFINITY_OFFSETS, affinity_loss, edge_loss, prompt_loss

TARGET_STRIDE = 4
Validate = Callable[[SegmentAnything], dict[str, float]]


class CanvasStream(IterableDataset[list[Sample]]):
    """Batches from ``first_step`` to the end of the run, split among loader workers step by step."""

    def __init__(self, sampler: CanvasSampler, config: TrainingConfig, first_step: int) -> None:
        self.sampler, self.config, self.first_step = sampler, config, first_step

    def __iter__(self) -> Iterator[list[Sample]]:
        worker = torch.utils.data.get_worker_info()
        start, stride = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for step in range(self.first_step + start, self.config.total_steps, stride):
            phase = self.config.phase_at(step)
            number = self.config.first_sample(step)
            yield [self.sampler(number + i, phase.size) for i in range(phase.batch)]


class Trainer:
    """Trains a :class:`SegmentAnything` with a ``compact`` encoder, in a folder that can be resumed.

    The folder holds ``state.pt`` (everything needed to go on exactly), ``log.jsonl`` (a line for each
    ``log_every`` steps and each validation) and, at the end, ``weights.safetensors`` (averaged, fp16).
    """

    def __init__(
        self,
        model: SegmentAnything,
        sampler: CanvasSampler,
        config: TrainingConfig,
        folder: Path,
        validate: Validate | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.model, self.sampler, self.config, self.folder = model, sampler, config, folder
        self.validate, self.dtype = validate, dtype
        encoder = model.image_encoder
        if not isinstance(encoder, CompactEncoder):
            raise UsageError(
                f"training takes a model with a compact encoder, not {type(encoder).__name__}", field="model"
            )
        self.encoder = encoder
        self.affinity_head = nn.Conv2d(encoder.config.neck_chans, len(AFFINITY_OFFSETS), 1).to(model.device)
        self.average = copy.deepcopy(model).eval().requires_grad_(False)
        self.optimizer = self._build_optimizer()
        self.step = 0
        self.seconds = 0.0
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.step >= self.config.total_steps

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
        self.resume()
        loader = DataLoader(
            CanvasStream(self.sampler, self.config, self.step),
            batch_size=None,
            num_workers=self.config.workers,
            prefetch_factor=4 if self.config.workers else None,
            worker_init_fn=_ignore_interrupts,
        )
        recent: list[dict[str, float]] = []
        started = time.monotonic() - self.seconds
        for samples in loader:
            recent.append(self._train_step(samples))
            self.step += 1
            self.seconds = time.monotonic() - started
            if self.step % self.config.log_every == 0:
                means = {k: float(np.mean([r[k] for r in recent])) for k in recent[0]}
                self._log({"step": self.step, "seconds": round(self.seconds), **means})
                recent.clear()
                if on_step:
                    on_step(self.step, means)
            if self.step % self.config.checkpoint_every == 0:
                self._save_state()
            if self.validate and (self.step % self.config.validate_every == 0 or self.finished):
                self._log({"step": self.step, "seconds": round(self.seconds), **self.validate(self.average)})
            if should_stop and should_stop():
                break
        self._save_state()
        if not self.finished:
            return self.average
        save_weights(self.average, self.folder / "weights.safetensors", metadata={"steps": str(self.step)})
        return self.average

    def _train_step(self, samples: list[Sample]) -> dict[str, float]:
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.step)
        with torch.autocast(self.model.device.type, self.dtype, enabled=self.dtype != torch.float32):
            losses = self._losses(samples, generator)
        total = sum(losses.values(), torch.zeros((), device=self.model.device))
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        parameters = [p for g in self.optimizer.param_groups for p in g["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, self.config.clip_norm)
        if torch.isfinite(norm):
            self.optimizer.step()
            self._update_average()
        return {**{k: float(v.detach()) for k, v in losses.items()}, "grad_norm": float(norm)}

    def _losses(self, samples: list[Sample], generator: torch.Generator) -> dict[str, Tensor]:
        device = self.model.device
        pixels = torch.from_numpy(np.stack([s.pixels for s in samples])).to(device)
        ids = torch.from_numpy(np.stack([s.ids[2::4, 2::4] for s in samples])).long()
        targets = torch.from_numpy(np.stack([s.targets for s in samples])).float()
        encoded, stride8, _ = self.encoder.pyramid(normalise(pixels))
        losses = {"prompts": self._prompt_rounds(encoded, targets.flatten(0, 1), generator)}
        weights = self.config.losses
        if weights.edge and encoded.edge_logits is not None:
            losses["edge"] = weights.edge * edge_loss(encoded.edge_logits.float(), ids.to(device))
        if weights.affinity:
            losses["affinity"] = weights.affinity * affinity_loss(
                self.affinity_head(stride8).float(), ids[:, ::2, ::2].to(device)
            )
        return losses

    def _prompt_rounds(self, encoded: EncoderOutput, targets: Tensor, generator: torch.Generator) -> Tensor:
        """Mean loss over the masks (B * K, h, w), half begun with a box and half with a point.

        The two halves are decoded apart because their prompts have different numbers of tokens, and padding
        one to fit the other would train on token sets that inference never sees.
        """
        begun_with_box = torch.rand(len(targets), generator=generator) < self.config.box_share
        total = torch.zeros((), device=self.model.device)
        for boxes in (False, True):
            rows = (begun_with_box == boxes).nonzero()[:, 0]
            if not len(rows):
                continue
            begin = first_box if boxes else first_point
            prompt = begin(targets[rows], TARGET_STRIDE, generator)
            images = rows // (len(targets) // len(encoded.image_embedding))
            loss = self._interact(encoded, images.to(total.device), targets[rows], prompt, generator)
            total = total + loss * (len(rows) / len(targets))
        return total

    def _interact(
        self,
        encoded: EncoderOutput,
        images: Tensor,
        targets: Tensor,
        prompt: Round,
        generator: torch.Generator,
    ) -> Tensor:
        """All rounds of N masks on the canvases ``images`` (N,): the mean of the rounds' losses."""
        features = encoded.image_embedding[images]
        skips = tuple(f[images] for f in encoded.high_res_features)
        side = targets.shape[-1] * TARGET_STRIDE
        new_points = plan_rounds(self.config.rounds, self.config.vary_rounds, generator)
        on_device = targets.to(features.device)
        previous: Tensor | None = None
        total = torch.zeros((), device=features.device)
        for brings_point in new_points:
            if previous is not None and brings_point:
                prompt = next_round(prompt, previous.cpu(), targets, TARGET_STRIDE, generator)
            logits, iou = self._decode(features, skips, prompt, previous, side)
            total = total + prompt_loss(logits, iou, on_device, prompt.ambiguous, self.config.losses)
            ranked = iou[:, 1:].argmax(1) + 1 if prompt.ambiguous else torch.zeros_like(images)
            previous = logits.detach()[torch.arange(len(logits), device=logits.device), ranked].float()
        return total / len(new_points)

    def _decode(
        self, features: Tensor, skips: tuple[Tensor, ...], prompt: Round, previous: Tensor | None, side: int
    ) -> tuple[Tensor, Tensor]:
        """All four masks (N, 4, h, w) and predicted IoUs (N, 4) for N prompts on N feature maps."""
        model, device = self.model, features.device
        # Positions are relative to the square: rescale those on a canvas of another side.
        factor = model.image_size / side
        points = (prompt.points.to(device) + 0.5) * factor - 0.5
        boxes = None if prompt.boxes is None else (prompt.boxes.to(device) + 0.5) * factor - 0.5
        sparse = model.prompt_encoder.sparse(points, prompt.labels.to(device), boxes, None)
        dense = model.prompt_encoder.dense(previous)
        attended = model.mask_decoder.attend(features, model.image_pe(features), sparse, dense, len(features))
        return model.mask_decoder.render_all(attended, skips), attended.iou_predictions

    def _build_optimizer(self) -> torch.optim.AdamW:
        decay: list[nn.Parameter] = []
        plain: list[nn.Parameter] = []
        for module in (self.model, self.affinity_head):
            for parameter in module.parameters():
                (decay if parameter.ndim > 1 else plain).append(parameter)
        groups = [
            {"params": decay, "weight_decay": self.config.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.config.learning_rate, betas=(0.9, 0.999))

    def _learning_rate(self) -> float:
        config = self.config
        warm = min(1.0, (self.step + 1) / max(1, config.warmup_steps))
        progress = self.step / max(1, config.total_steps)
        return config.learning_rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        source = self.model.state_dict()
        for name, value in self.average.state_dict().items():
            if value.is_floating_point():
                value.lerp_(source[name], 1 - decay)
            else:
                value.copy_(source[name])

    def _save_state(self) -> None:
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "affinity_head": self.affinity_head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        save_training_state(self.folder / "state.pt", state)

    def resume(self) -> None:
        """Take up the folder's state, if there is one; :meth:`run` does so itself.

        Raises:
            CheckpointError: the state is damaged or of another model.
        """
        path = self.folder / "state.pt"
        if not path.exists():
            self._forget_log_after(0)
            return
        state = load_training_state(path)
        try:
            self.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            self.affinity_head.load_state_dict(state["affinity_head"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.seconds = int(state["step"]), float(state["seconds"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{path}: the state of another model or program; choose another folder for this run",
                code="state_foreign",
            ) from error
        self._forget_log_after(self.step)

    def _forget_log_after(self, step: int) -> None:
        """Drop the rows of steps that came after the saved state: they are about to be done again."""
        path = self.folder / "log.jsonl"
        if path.exists():
            rows = read_log(path)
            path.write_text("".join(json.dumps(row) + "\n" for row in rows if row["step"] <= step))

    def _log(self, row: dict[str, Any]) -> None:
        rounded = {k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()}
        path = self.folder / "log.jsonl"
        try:
            with path.open("a") as log:
                log.write(json.dumps(rounded) + "\n")
        except OSError as error:
            raise EnvironmentProblem(
                f"{path}: cannot be written ({error.strerror}); make room and run again: "
                "training goes on from the last saved state"
            ) from error


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a ``log.jsonl``; a line that a crash cut short is left out."""
    rows = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows


def _ignore_interrupts(worker: int) -> None:
    """Ctrl-C, and a service manager's SIGTERM, reach every process of the run; the training one decides.

    It finishes its step and saves, for which it needs its workers; they end when it says so, or is gone.
    """
    for wanted in (signal.SIGINT, signal.SIGTERM):
        signal.signal(wanted, signal.SIG_IGN)


def normalise(pixels: Tensor) -> Tensor:
    """(B, S, S, 3) uint8 canvases -> (B, 3, S, S) float32; black padding becomes zero, as at inference."""
    x = pixels.permute(0, 3, 1, 2).float()
    mean = torch.tensor(PIXEL_MEAN, device=x.device).view(3, 1, 1)
    std = torch.tensor(PIXEL_STD, device=x.device).view(3, 1, 1)
    padding = (pixels == 0).all(-1)[:, None]
    return ((x - mean) / std).masked_fill(padding, 0.0)
