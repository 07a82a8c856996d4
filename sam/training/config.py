"""What a training run is told: one frozen object, read from configs/training/*.yaml by the command line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from sam.image_encoder.compact import CompactConfig
from sam.image_encoder.vit import ViTConfig
from sam.training.canvas import SamplingConfig
from sam.training.interactive import BOX_NOISE
from sam.training.losses import LossConfig
from sam.variants import EncoderConfig

SCHEDULES = ("cosine", "steps")
OPTIMISERS = ("adamw", "muon")


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
class DistillConfig:
    """Another segmenter as a teacher, beside the labels.

    Attributes:
        preset: of the teacher.
        checkpoint: its weights file; None: the preset's own.
        weight: of the loss between its masks and the student's for the same prompts.
        embedding: of the squared difference between its image embedding and the student's.
    """

    preset: str
    checkpoint: str | None = None
    weight: float = 1.0
    embedding: float = 0.0


@dataclass(frozen=True)
class TextConfig:
    """Masks that are first asked for by the vector of their own picture (App. D.5).

    Attributes:
        clip: preset with a text-image model, or a folder of one.
        share: probability that a mask that has a vector is first asked for by it.
        variants: vectors of each mask, of other crops.
        min_side: masks of fewer than ``min_side**2`` pixels of a square of 1024 have none (D.5: 100).
        enlarge: the mask's box is enlarged at random by 1 to this before it is cropped (D.5: 2).
    """

    clip: str
    share: float = 0.5
    variants: int = 4
    min_side: int = 100
    enlarge: float = 2.0


@dataclass(frozen=True)
class TrainingConfig:
    """A whole run.

    Attributes:
        model: name of a model configuration.
        phases: in order; the learning rate follows one schedule over all their steps.
        minutes: of training, validations included, after which the run ends all the same; the schedule then
            follows the clock where that is further on than the steps. None: no limit.
        rounds: prompts simulated on each mask, first one included (paper: 11).
        vary_rounds: draw their number from 2 to ``rounds`` for every step; False: the paper's plan, see
            :func:`sam.training.interactive.plan_rounds`.
        box_share: of a step's masks, how many are first asked for by a box; the rest by a click, or a text.
        box_noise: standard deviation of the noise on its coordinates, as a share of its sides (paper: .1).
        deepest_share: probability that a first click is at the point farthest from the mask's border, and not
            anywhere on it (paper: 0).
        optimiser: ``adamw`` with betas (.9, .999), or ``muon``: see :mod:`sam.training.muon`.
        learning_rate, weight_decay, warmup_steps, clip_norm: of either.
        schedule: ``cosine`` down to a hundredth, or ``steps``: a tenth from each of ``decay_at`` on.
        decay_at: shares of all steps (the paper's are 60,000 and 86,666 of 90,000).
        layer_decay: each layer of a ViT learns by this factor slower than the next one (paper: .8).
        drop_path: stochastic depth of a ViT (paper: .4); None: as the model has it.
        freeze_encoder: train the prompt encoder and the mask decoder alone.
        accumulate: parts of a step's batch that each device computes one after the other: less memory.
        ema_decay: of the averaged weights that are evaluated and released.
        precision: ``auto``, ``fp32``, ``bf16`` (autocast).
        workers: processes that compose canvases; 0 composes in the training process.
        checkpoint_every, log_every, validate_every: steps.
        patience: validations without a better one after which the run ends; 0: it goes to its end.
        best_by: figures of a validation whose mean says which one is best.
        init: what to start from: a weights file, ``PRESET``, ``PRESET:FILE``, or None.
        distill: a teacher, or None. text: text-aware training, or None.
    """

    model: str
    phases: tuple[Phase, ...]
    sampling: SamplingConfig
    losses: LossConfig = field(default_factory=LossConfig)
    minutes: float | None = None
    seed: int = 0
    rounds: int = 11
    vary_rounds: bool = True
    box_share: float = 0.5
    box_noise: float = BOX_NOISE
    deepest_share: float = 0.0
    optimiser: str = "adamw"
    learning_rate: float = 8e-4
    weight_decay: float = 0.1
    warmup_steps: int = 250
    clip_norm: float = 1.0
    schedule: str = "cosine"
    decay_at: tuple[float, float] = (0.667, 0.963)
    layer_decay: float = 1.0
    drop_path: float | None = None
    freeze_encoder: bool = False
    accumulate: int = 1
    ema_decay: float = 0.999
    precision: str = "auto"
    workers: int = 1
    checkpoint_every: int = 500
    log_every: int = 50
    validate_every: int = 1000
    patience: int = 0
    best_by: tuple[str, ...] = ("miou@1", "box")
    init: str | None = None
    distill: DistillConfig | None = None
    text: TextConfig | None = None

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
        if self.minutes is not None and self.minutes <= 0:
            raise ValueError(f"minutes must be above 0, not {self.minutes}")
        for key, known in (("schedule", SCHEDULES), ("optimiser", OPTIMISERS)):
            if getattr(self, key) not in known:
                raise ValueError(f"{key} must be one of {', '.join(known)}, not {getattr(self, key)!r}")

    def misfits(self, encoder: EncoderConfig) -> Iterator[tuple[str, str]]:
        """What this run cannot do with such an encoder: (key, message) of each setting at fault."""
        compact = isinstance(encoder, CompactConfig)
        if isinstance(encoder, ViTConfig):
            for phase in self.phases:
                if phase.size != encoder.image_size:
                    yield (
                        "phases",
                        f"a ViT takes canvases of its own size alone, {encoder.image_size}, not {phase.size}",
                    )
        if compact and self.layer_decay != 1:
            yield "layer_decay", "is for ViTs; leave it out for a compact encoder"
        if compact and self.drop_path:
            yield "drop_path", "is for ViTs; leave it out for a compact encoder"
        for key in ("edge", "affinity"):
            if getattr(self.losses, key) and (self.freeze_encoder or not compact):
                why = "freeze_encoder leaves nothing to learn by it" if compact else "is for compact encoders"
                yield f"losses.{key}", f"{why}; set it to 0"
        if self.freeze_encoder and self.distill is not None and self.distill.embedding:
            yield "distill.embedding", "freeze_encoder leaves nothing to learn by it; set it to 0"
        for phase in self.phases:
            if phase.batch % self.accumulate:
                yield "accumulate", f"must divide the batch of every phase, and {phase.batch} is one"

    @property
    def total_steps(self) -> int:
        """Optimiser steps of all phases."""
        return sum(phase.steps for phase in self.phases)

    def progress(self, step: int, seconds: float) -> float:
        """How much of the run is done after so many steps and seconds; 1 ends it."""
        spent = 0.0 if self.minutes is None else seconds / (60 * self.minutes)
        return min(1.0, max(step / max(1, self.total_steps), spent))

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
