"""The smallest model of each encoder family, and a plain trainer of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from sam.model import SegmentAnything
from sam.training.canvas import CanvasSampler, SamplingConfig
from sam.training.config import Phase, TrainingConfig
from sam.training.data import PackedSet
from sam.training.losses import LossConfig
from sam.training.trainer import Trainer
from sam.variants import ModelConfig, build_model

DECODER = {"embed_dim": 16, "num_heads": 2, "mlp_dim": 32, "iou_head_hidden_dim": 16, "mask_in_chans": 4}
ENCODERS: dict[str, dict[str, object]] = {
    "compact": {
        "family": "compact", "backbone": "test_resnet", "image_size": 64, "out_chans": 16, "neck_chans": 8,
        "attention_layers": 1, "attention_heads": 2,
    },
    "vit": {
        "family": "vit", "image_size": 64, "embed_dim": 16, "depth": 3, "num_heads": 2,
        "global_attn_indexes": [1], "window_size": 3, "out_chans": 16,
    },
    "tiny_vit": {
        "family": "tiny_vit", "image_size": 64, "embed_dims": [8, 8, 16, 16], "depths": [1, 1, 2, 1],
        "num_heads": [1, 1, 2, 2], "window_sizes": [2, 2, 2, 2], "num_classes": 2, "out_chans": 16,
    },
}  # fmt: skip


def model_of(family: str, seed: int = 0, *, encoder: Any = None, **decoder: object) -> SegmentAnything:
    """A random model; ``encoder`` and the others change its shapes."""
    values = {"encoder": {**ENCODERS[family], **(encoder or {})}, "decoder": {**DECODER, **decoder}}
    torch.manual_seed(seed)
    return build_model(ModelConfig.from_mapping(family, values))


def plain_config(**settings: Any) -> TrainingConfig:
    """Three steps of two canvases, with the mask losses alone."""
    values: dict[str, Any] = {
        "model": "smallest",
        "phases": (Phase(3, 64, 2),),
        "sampling": SamplingConfig({"shapes": 1.0}, masks=2),
        "losses": LossConfig(focal=0, bce=1.5),
        "rounds": 3,
        "learning_rate": 2e-3,
        "warmup_steps": 1,
        "workers": 0,
        "log_every": 1,
    }
    return TrainingConfig(**{**values, **settings})


def trainer_of(
    model: SegmentAnything, shapes: PackedSet, folder: Path, config: TrainingConfig, **options: Any
) -> Trainer:
    """A trainer on made photos."""
    torch.manual_seed(config.seed)  # for the heads, which are new
    return Trainer(model, CanvasSampler([shapes], config.sampling, config.seed), config, folder, **options)
