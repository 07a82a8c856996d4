"""AdamW with warm-up and cosine, and an average of the weights: all that a run needs to go on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

WARM_UP = 0.04
DECAY = 0.05
CLIP_NORM = 1.0
AVERAGE = 0.998


class Optimiser:
    """Steps of a part of the training.

    Args:
        model: what is averaged; its parameters that need gradients are trained.
        rates: highest learning rates by the beginning of a parameter's name; the longest that fits counts.
        total: steps.
        seed: of what is drawn.

    Attributes:
        step: steps taken.
        average: state dict of averaged weights.
    """

    def __init__(self, model: nn.Module, rates: Mapping[str, float], total: int, seed: int = 0) -> None:
        self.model, self.total, self.seed, self.step = model, total, seed, 0
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            fitting = [prefix for prefix in rates if name.startswith(prefix)]
            if not parameter.requires_grad or not fitting:
                continue
            key = (rates[max(fitting, key=len)], parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
        self._adam = torch.optim.AdamW(
            [
                {"params": parameters, "highest": rate, "lr": rate, "weight_decay": DECAY if decays else 0.0}
                for (rate, decays), parameters in groups.items()
            ],
            betas=(0.9, 0.98),
            fused=True,
        )
        self.parameters: Sequence[nn.Parameter] = [p for group in groups.values() for p in group]
        self.average = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    def take(self, loss: Tensor) -> None:
        """One step down the gradient of a loss."""
        share = self.step / max(1, self.total)
        rise = min(1.0, (self.step + 1) / max(1, WARM_UP * self.total))
        for group in self._adam.param_groups:
            group["lr"] = group["highest"] * rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))
        self._adam.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, CLIP_NORM)
        self._adam.step()
        self.step += 1
        decay = min(AVERAGE, self.step / (self.step + 10))
        with torch.no_grad():
            for name, tensor in self.model.state_dict().items():
                if tensor.is_floating_point():
                    self.average[name].lerp_(tensor, 1 - decay)
                else:
                    self.average[name].copy_(tensor)

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` needs."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average,
            "adam": self._adam.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self.model.load_state_dict(state["model"])
        for name, tensor in self.average.items():
            tensor.copy_(state["average"][name])
        self._adam.load_state_dict(state["adam"])
        self.step = int(state["step"])
