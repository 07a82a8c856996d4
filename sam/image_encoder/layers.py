"""Layers that several encoders and the decoder share."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LayerNorm2d(nn.Module):
    """LayerNorm over the channels of a (B, C, H, W) map, each position on its own.

    Statistics are taken in float32 whatever the input's dtype: half-precision sums of 256 channels lose
    enough to move mask borders.
    """

    def __init__(self, num_channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, H, W); same shape and dtype out."""
        wide = x.float()
        centred = wide - wide.mean(1, keepdim=True)
        scaled = centred * torch.rsqrt(centred.pow(2).mean(1, keepdim=True) + self.eps)
        return (scaled * self.weight[:, None, None] + self.bias[:, None, None]).to(x.dtype)
