"""Muon: momentum whose matrices are made nearly orthogonal before they are applied (Jordan et al., 2024).

AdamW scales each number of a gradient by itself; the update of a matrix is then led by a few directions. Muon
gives all directions of a matrix the same size, by a few Newton-Schulz steps, which are products of the matrix
with itself. What is no matrix (biases, norms, embeddings), and convolutions from or to a few channels, are
left to AdamW. An update has the size of one of AdamW's (Liu et al., 2025), so that both take the same rate
and decay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

MATRICES = "matrices"
"""Key of a group: each parameter as (rows, columns), or as (groups, rows, columns)."""
MOMENTUM = 0.95
STEPS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the odd polynomial whose repetition brings singular values near 1: most to .7 to 1.2 (Jordan et al.)."""
SIZE = 0.2
"""Root mean square of an update at a learning rate of 1: about AdamW's (Liu et al.)."""
FEW = 8
"""Convolutions from or to at most so many channels are left to AdamW."""


class Muon(torch.optim.AdamW):
    """AdamW, and Muon in those groups that have :data:`MATRICES`.

    Args:
        groups, lr, betas, weight_decay: as of AdamW.
        dtype: of Muon's products: bfloat16 is enough (Jordan et al.), and where the device multiplies it, six
            times as fast.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.01,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(groups, lr=lr, betas=betas, weight_decay=weight_decay)
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of all groups."""
        groups = self.param_groups
        self.param_groups = [group for group in groups if MATRICES not in group]
        try:
            loss: float | None = super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            alike: dict[tuple[int, ...], list[Tensor]] = {}
            for parameter, shape in zip(group["params"], group.get(MATRICES, ()), strict=False):
                if parameter.grad is not None:
                    alike.setdefault(tuple(shape), []).append(parameter)
            for shape, parameters in alike.items():
                self._step_matrices(parameters, shape, group["lr"], group["weight_decay"])
        return loss

    def _step_matrices(
        self, parameters: list[Tensor], shape: tuple[int, ...], rate: float, decay: float
    ) -> None:
        """Parameters of one shape together: a few large products in place of many small ones."""
        momenta = [self._momentum(parameter) for parameter in parameters]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        ahead = torch._foreach_lerp(gradients, momenta, MOMENTUM)  # Nesterov's
        stacked = torch.stack([one.reshape(shape) for one in ahead])
        updates = orthogonal(stacked.to(self.dtype)).to(stacked.dtype)
        torch._foreach_mul_(parameters, 1 - rate * decay)
        alpha = -rate * SIZE * max(shape[-2:]) ** 0.5
        whole = [one.view_as(p) for one, p in zip(updates, parameters, strict=True)]
        torch._foreach_add_(parameters, whole, alpha=alpha)

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.tensor(0.0)  # not used here; AdamW looks for it when a state is loaded
            state["momentum_buffer"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum_buffer"]
        return momentum


def orthogonal(x: Tensor) -> Tensor:
    """(…, r, c) -> about the matrices with the same singular vectors and all singular values 1."""
    a, b, c = COEFFICIENTS
    wide = x.shape[-2] <= x.shape[-1]
    x = x if wide else x.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    shape = x.shape
    x = x.reshape(-1, *shape[-2:])
    for _ in range(STEPS):
        square = x @ x.mT
        # a x + (b square + c square square) x, in as few kernels as there are products
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    x = x.reshape(shape)
    return (x if wide else x.mT).contiguous()


def matrices(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Parameters that are matrices, by name, with their shape as such.

    A convolution is one from all that a kernel sees to its output; that of several groups is as many.
    """
    found: dict[str, tuple[int, ...]] = {}
    for name, part in module.named_modules():
        if isinstance(part, nn.Linear):
            found[f"{name}.weight"] = tuple(part.weight.shape)
        elif isinstance(part, nn.MultiheadAttention):
            found[f"{name}.in_proj_weight"] = (3, part.embed_dim, part.embed_dim)
        elif isinstance(part, nn.Conv2d) and min(part.in_channels, part.out_channels) > FEW:
            rows = part.out_channels // part.groups
            found[f"{name}.weight"] = (part.groups, rows, part.weight[0].numel())
        elif isinstance(part, nn.ConvTranspose2d):
            found[f"{name}.weight"] = (part.in_channels, part.weight[0].numel())
    return found
