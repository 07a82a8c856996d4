"""What a training run is told: one frozen object, read from configs/training/*.yaml by the command line."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from sam.training.canvas import SamplingConfig
from sam.training.losses import LossConfig


@dataclass(frozen=True)
class Phase:
    """A stretch of training at one canvas size.

    Attributes:
        steps: optimiser steps. size: canvas side in pixels, a multiple of 32. batch: canvases a step.
    """

    steps: int
    size: int
    batch: int


@dataclass(frozen=True)
class TrainingConfig:
    """A whole run.

    Attributes:
        model: name of a model configuration.
        phases: in order; the learning rate follows one cosine over all their steps.
        rounds: prompts simulated on each mask, first one included (paper: 11).
        vary_rounds: draw their number from 2 to ``rounds`` for every step; False: the paper's plan, see
            :func:`sam.training.interactive.plan_rounds`.
        box_share: probability that the first prompt is a box.
        learning_rate, weight_decay, warmup_steps, clip_norm: AdamW with betas (.9, .999).
        ema_decay: of the averaged weights that are evaluated and released.
        precision: ``auto``, ``fp32``, ``bf16`` (autocast).
        workers: processes that compose canvases; 0 composes in the training process.
        checkpoint_every, log_every, validate_every: steps.
        init: a weights file to start from, or None.
    """

    model: str
    phases: tuple[Phase, ...]
    sampling: SamplingConfig
    losses: LossConfig = field(default_factory=LossConfig)
    seed: int = 0
    rounds: int = 11
    vary_rounds: bool = True
    box_share: float = 0.5
    learning_rate: float = 8e-4
    weight_decay: float = 0.1
    warmup_steps: int = 250
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    precision: str = "auto"
    workers: int = 1
    checkpoint_every: int = 500
    log_every: int = 50
    validate_every: int = 1000
    init: str | None = None

    def __post_init__(self) -> None:
        if not self.phases:
            raise ValueError("phases: at least one is needed")
        for phase in self.phases:
            if phase.steps < 1 or phase.batch < 1 or phase.size < 64 or phase.size % 32:
                raise ValueError(
                    f"phases: steps and batch from 1, size a multiple of 32 from 64; got {phase}"
                )
        if self.rounds < 1:
            raise ValueError(f"rounds must be at least 1, not {self.rounds}")

    @property
    def total_steps(self) -> int:
        """Optimiser steps of all phases."""
        return sum(phase.steps for phase in self.phases)

    def phase_at(self, step: int) -> Phase:
        """The phase that contains ``step``."""
        for phase in self.phases:
            if step < phase.steps:
                return phase
            step -= phase.steps
        return self.phases[-1]

    def first_sample(self, step: int) -> int:
        """How many canvases were drawn before ``step``: the number of its first one."""
        count = 0
        for phase in self.phases:
            taken = min(step, phase.steps)
            count += taken * phase.batch
            step -= taken
        return count

    def with_steps(self, share: float) -> TrainingConfig:
        """The same run with every phase's steps multiplied by ``share`` (at least one step each)."""
        phases = tuple(replace(p, steps=max(1, round(p.steps * share))) for p in self.phases)
        return replace(self, phases=phases)
