"""Self-attention over a square of tokens with decomposed relative positions (MViTv2, Li et al., 2021).

The score of query (i, j) and key (k, l) is ``q·K / sqrt(d) + q·rel_pos_h[i - k] + q·rel_pos_w[j - l]``. The
last two terms are a bias of one number for each pair of tokens, 4096 x 4096 for each head of a global block:
more memory traffic than the attention itself. Two ways avoid that, with the same result:

- on a CPU so few queries at a time that their bias stays in the cache, where a fused kernel finds it
  (:func:`attend_in_cache`);
- on a GPU the bias becomes a part of the product, so that a fused kernel needs none: queries are lengthened
  by their two rows of it, keys by ones where they stand (:func:`attend_extended`).
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam.image_encoder.windows import join_windows, partition_windows

IN_CACHE = 1 << 22
"""Biases made at once on a CPU, 16 MB of fp32: 1024 queries of 4096 tokens. Below 768 queries torch's kernel
takes them in smaller blocks, which costs 15 %."""
KERNEL_MULTIPLE = 8
"""Fused attention on GPUs wants head widths that are multiples of this."""


class RelativeAttention(nn.Module):
    """Multi-head attention in windows of ``side`` tokens, or over a map of just this side.

    Args:
        dim: width D.
        num_heads: attention heads; divides ``dim``.
        side: of the square that one attention covers, tokens.
    """

    def __init__(self, dim: int, num_heads: int, side: int) -> None:
        super().__init__()
        self.num_heads, self.side = num_heads, side
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, dim // num_heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, dim // num_heads))

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, D) -> the same shape."""
        shape, side = (x.shape[1], x.shape[2]), self.side
        # The map is padded after the norm: padding is zero there, so what the projection makes of it is its
        # bias, and real tokens attend to that. The published weights were trained so.
        windows = partition_windows(self.qkv(x), side, self.qkv.bias)
        qkv = windows.flatten(1, 2).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)  # each (n, heads, side * side, d)
        # What is exported has to be the same product for any number of windows.
        attend = attend_extended if q.is_cuda or torch.compiler.is_exporting() else attend_in_cache
        out = attend(q, k, v, *self._bias(q))
        joined = join_windows(out.transpose(1, 2).flatten(2).unflatten(1, (side, side)), side, shape)
        projected: Tensor = self.proj(joined)
        return projected

    def _bias(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """Bias of queries (n, heads, L, d) to each row, and to each column: two of (n, heads, L, side)."""
        steps = torch.arange(self.side, device=q.device)
        offsets = steps[:, None] - steps[None, :] + self.side - 1
        grid = q.unflatten(2, (self.side, self.side))
        along_h = torch.einsum("nhijd,ikd->nhijk", grid, self.rel_pos_h[offsets])
        along_w = torch.einsum("nhijd,jld->nhijl", grid, self.rel_pos_w[offsets])
        return along_h.flatten(2, 3), along_w.flatten(2, 3)


def attend_in_cache(q: Tensor, k: Tensor, v: Tensor, along_h: Tensor, along_w: Tensor) -> Tensor:
    """Attention for as many queries at a time as :data:`IN_CACHE` holds scores of.

    Args:
        q, k, v: (n, heads, L, d), of n squares of L tokens; views of one product will do.
        along_h, along_w: (n, heads, L, side) parts of the bias.

    Returns:
        (n, heads, L, d).
    """
    n, heads, length, _ = q.shape
    if squares := IN_CACHE // (heads * length * length):
        parts = [slice(start, start + squares) for start in range(0, n, squares)]
        return torch.cat([_attend(q[s], k[s], v[s], along_h[s], along_w[s]) for s in parts])
    step = max(1, IN_CACHE // length)
    rows = [slice(start, start + step) for start in range(0, length, step)]
    one_by_one = [
        torch.cat(
            [_attend(q[i, j, r], k[i, j], v[i, j], along_h[i, j, r], along_w[i, j, r]) for r in rows], -2
        )
        for i, j in itertools.product(range(n), range(heads))
    ]
    joined: Tensor = torch.stack(one_by_one).unflatten(0, (n, heads))
    return joined


def _attend(q: Tensor, k: Tensor, v: Tensor, along_h: Tensor, along_w: Tensor) -> Tensor:
    """(…, l, d) queries over (…, L, d) keys; the parts of the bias are (…, l, side)."""
    bias = (along_h[..., :, None] + along_w[..., None, :]).flatten(-2).to(q.dtype)
    if q.ndim == 4:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    # The fused kernel takes four dimensions; with fewer, torch falls back to one that holds all scores.
    q, k, v, bias = (x[None, None] for x in (q, k, v, bias))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)[0, 0]


def attend_extended(q: Tensor, k: Tensor, v: Tensor, along_h: Tensor, along_w: Tensor) -> Tensor:
    """Attention of queries and keys so lengthened that their product holds the bias.

    Arguments and result are those of :func:`attend_in_cache`. Fused kernels want values as long as keys.
    """
    side, d = along_h.shape[-1], q.shape[-1]
    spare = -(d + 2 * side) % KERNEL_MULTIPLE
    which = torch.eye(side, dtype=k.dtype, device=k.device)
    row = which[:, None].expand(side, side, side).reshape(side * side, side)
    column = which[None].expand(side, side, side).reshape(side * side, side)
    place = F.pad(torch.cat([row, column], -1), (0, spare)).expand(*k.shape[:2], -1, -1)
    bias = F.pad(torch.cat([along_h, along_w], -1), (0, spare)).to(q.dtype)
    long_q = torch.cat([q * d**-0.5, bias], -1)
    long_k = torch.cat([k, place], -1)
    long_v = F.pad(v, (0, 2 * side + spare))
    return F.scaled_dot_product_attention(long_q, long_k, long_v, scale=1.0)[..., :d]
