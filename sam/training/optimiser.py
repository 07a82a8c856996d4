"""The optimiser's groups of parameters, and the learning rate of each step (App. A, "Training recipe")."""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import nn

from sam.image_encoder.tiny_vit import TinyViT
from sam.image_encoder.vit import ImageEncoderViT
from sam.training.config import TrainingConfig
from sam.training.muon import MATRICES, Muon, matrices

LAST_SHARE = 0.01
"""Of the learning rate, what a cosine ends with."""
ENCODER = "model.image_encoder."
_BLOCK = re.compile(r"blocks\.(\d+)\.")
_STAGE_BLOCK = re.compile(r"layers\.(\d+)\.blocks\.(\d+)\.")


def build_optimiser(
    objective: nn.Module,
    encoder: nn.Module,
    config: TrainingConfig,
    dtype: torch.dtype = torch.float32,
) -> torch.optim.AdamW:
    """AdamW, or Muon, over what is to be trained: matrices decay, biases, norms and positions do not.

    Args:
        objective: names of its parameters begin with :data:`ENCODER` in the image encoder.
        encoder: the image encoder.
        config: which one, rate, decay, and how much slower each earlier layer learns; every group holds that
            factor as ``scale``.
        dtype: of Muon's products.
    """
    shapes = matrices(objective) if config.optimiser == "muon" else {}
    groups: dict[tuple[float, bool, bool], list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in objective.named_parameters():
        if not parameter.requires_grad:
            continue
        scale = config.layer_decay ** layers_above(name, encoder) if config.layer_decay != 1 else 1.0
        decays = parameter.ndim > 1 and not name.endswith("pos_embed")
        groups.setdefault((scale, decays, name in shapes), []).append((name, parameter))
    described: list[dict[str, Any]] = []
    for key in sorted(groups, reverse=True):
        scale, decays, orthogonal = key
        group: dict[str, Any] = {"params": [parameter for _, parameter in groups[key]], "scale": scale}
        group["weight_decay"] = config.weight_decay if decays else 0.0
        if orthogonal:
            group[MATRICES] = [shapes[name] for name, _ in groups[key]]
        described.append(group)
    if config.optimiser == "muon":
        return Muon(described, lr=config.learning_rate, dtype=dtype)
    return torch.optim.AdamW(described, lr=config.learning_rate, betas=(0.9, 0.999))


def layers_above(name: str, encoder: nn.Module) -> int:
    """How many layers of the encoder come after the one that holds a parameter, its neck counting as one.

    What is outside of the blocks (neck, prompt encoder, mask decoder) has none above; patch and position
    embeddings lie under all blocks, as ViTDet has it.

    Args:
        name: of a parameter of the objective.
        encoder: the image encoder.
    """
    if not name.startswith(ENCODER):
        return 0
    part = name.removeprefix(ENCODER)
    if isinstance(encoder, ImageEncoderViT):
        depth, block = encoder.config.depth, _BLOCK.match(part)
        number = int(block[1]) if block else None
    elif isinstance(encoder, TinyViT):
        depths, found = encoder.config.depths, _STAGE_BLOCK.match(part)
        depth = sum(depths)
        number = sum(depths[: int(found[1])]) + int(found[2]) if found else None
        merging = re.match(r"layers\.(\d+)\.downsample", part)
        if merging:  # learns as the block before it
            number = sum(depths[: int(merging[1]) + 1]) - 1
    else:
        return 0
    if number is not None:
        return depth - number
    return depth + 1 if part.startswith(("patch_embed", "pos_embed")) else 0


def learning_rate(config: TrainingConfig, step: int, seconds: float = 0.0) -> float:
    """Of the step after so many steps and seconds: linear warm-up, then the schedule over the whole run."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    progress = config.progress(step, seconds)
    if config.schedule == "steps":
        share = math.prod(0.1 if progress >= at else 1.0 for at in config.decay_at)
    else:
        share = LAST_SHARE + (1 - LAST_SHARE) * 0.5 * (1 + math.cos(math.pi * progress))
    return config.learning_rate * warm * share
