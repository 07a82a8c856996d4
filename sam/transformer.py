"""The two-way transformer of the mask decoder (paper §3 and App. A, "Lightweight mask decoder").

Tokens attend to the image and the image attends to the tokens, twice. Parameter names follow the public
checkpoints. Batches broadcast: image keys of batch 1 serve N prompts until the first image-to-token
attention makes them differ, so nothing is repeated before it must be.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Multi-head attention whose inner width is ``embed_dim / downsample_rate``."""

    def __init__(self, embed_dim: int, num_heads: int, downsample_rate: int = 1) -> None:
        super().__init__()
        inner = embed_dim // downsample_rate
        if inner % num_heads:
            raise ValueError(f"{num_heads} heads do not divide the attention width {inner}")
        self.num_heads = num_heads
        self.q_proj = nn.Linear(embed_dim, inner)
        self.k_proj = nn.Linear(embed_dim, inner)
        self.v_proj = nn.Linear(embed_dim, inner)
        self.out_proj = nn.Linear(inner, embed_dim)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q (B, Q, C), k and v (B or 1, K, C) -> (B, Q, C); as published, step by step."""
        heads_q, heads_k, heads_v = (
            self._split(self.q_proj(q)),
            self._split(self.k_proj(k)),
            self._split(self.v_proj(v)),
        )
        # Explicit products: with 7 tokens against thousands of positions they beat fused attention on CPU.
        scores = (heads_q / math.sqrt(heads_q.shape[-1])) @ heads_k.transpose(-1, -2)
        out = scores.float().softmax(-1).to(heads_v.dtype) @ heads_v
        projected: Tensor = self.out_proj(out.transpose(1, 2).flatten(2))
        return projected

    def from_few(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The same for few queries and thousands of keys and values, with fewer products.

        The projections of keys and values are taken into the queries and out of the weighted mean: a dozen
        vectors are projected instead of thousands. The keys' bias shifts all scores of a query alike, which
        the softmax does not see.
        """
        exporting = torch.compiler.is_exporting()  # and then nothing depends on how many there are
        if not exporting and k.shape[0] == 1 < q.shape[0]:  # projected once for all prompts anyway
            return self.forward(q, k, v)
        if not self._few(q.shape[1]):
            return self.forward(q, k, v)
        queries = self._split(self.q_proj(q)) / math.sqrt(self.head_width)
        absorbed = (queries @ self._by_head(self.k_proj.weight)).flatten(1, 2)
        weights = (absorbed @ k.transpose(1, 2)).float().softmax(-1).to(v.dtype)
        means = (weights @ v).unflatten(1, (self.num_heads, -1))
        out = means @ self._by_head(self.v_proj.weight).transpose(1, 2)
        out = out + self.v_proj.bias.view(self.num_heads, 1, self.head_width)
        projected: Tensor = self.out_proj(out.transpose(1, 2).flatten(2))
        return projected

    def to_few(self, q: Tensor, k: Tensor, v: Tensor, residual: Tensor) -> Tensor:
        """``residual`` (B or 1, Q, C) and the same for thousands of queries and few keys and values.

        Here the projections of queries and of the result are taken into the keys and values. The scores are
        laid out keys first, so that the softmax runs over whole rows of queries at a time; the residual is
        added by the last product, since to pass over the image once more takes as long.
        """
        if not self._few(k.shape[1]):
            return residual + self.forward(q, k, v)
        heads_k = self._split(self.k_proj(k)) / math.sqrt(self.head_width)
        absorbed = (heads_k @ self._by_head(self.q_proj.weight)).flatten(1, 2)
        if q.shape[0] == 1:  # one image for all prompts: one product instead of as many
            scores = (absorbed.flatten(0, 1) @ q[0].transpose(0, 1)).unflatten(0, absorbed.shape[:2])
        else:
            scores = absorbed @ q.transpose(1, 2)
        biases = heads_k @ self.q_proj.bias.view(self.num_heads, self.head_width, 1)
        scores = scores.unflatten(1, (self.num_heads, -1)) + biases
        weights = scores.float().softmax(2).to(v.dtype).flatten(1, 2)
        out = self.out_proj.weight.transpose(0, 1).unflatten(0, (self.num_heads, -1))
        values = self._split(self.v_proj(v)) @ out + self.out_proj.bias / self.num_heads  # weights sum to 1
        return torch.baddbmm(residual, weights.transpose(1, 2), values.flatten(1, 2))

    @property
    def head_width(self) -> int:
        """Channels of a head."""
        return self.q_proj.out_features // self.num_heads

    def _few(self, count: int) -> bool:
        """Whether ``count`` vectors in all heads are fewer products than projecting the many."""
        # An exported graph serves any count, and is the same for all.
        return torch.compiler.is_exporting() or self.num_heads * count < self.q_proj.out_features

    def _by_head(self, weight: Tensor) -> Tensor:
        """(heads * width, C) -> (heads, width, C)."""
        heads: Tensor = weight.unflatten(0, (self.num_heads, -1))
        return heads

    def _split(self, x: Tensor) -> Tensor:
        heads: Tensor = x.unflatten(-1, (self.num_heads, -1))
        return heads.transpose(1, 2)


class MLPBlock(nn.Module):
    """Linear, ReLU, linear."""

    def __init__(self, embed_dim: int, mlp_dim: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(embed_dim, mlp_dim)
        self.lin2 = nn.Linear(mlp_dim, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(…, embed_dim) -> (…, embed_dim)."""
        out: Tensor = self.lin2(F.relu(self.lin1(x)))
        return out


class TwoWayAttentionBlock(nn.Module):
    """Token self-attention, tokens to image, MLP on tokens, image to tokens; norm after each."""

    def __init__(
        self, embed_dim: int, num_heads: int, mlp_dim: int, downsample_rate: int, first: bool
    ) -> None:
        super().__init__()
        self.self_attn = Attention(embed_dim, num_heads)
        self.norm1 = nn.LayerNorm(embed_dim)
        self.cross_attn_token_to_image = Attention(embed_dim, num_heads, downsample_rate)
        self.norm2 = nn.LayerNorm(embed_dim)
        self.mlp = MLPBlock(embed_dim, mlp_dim)
        self.norm3 = nn.LayerNorm(embed_dim)
        self.norm4 = nn.LayerNorm(embed_dim)
        self.cross_attn_image_to_token = Attention(embed_dim, num_heads, downsample_rate)
        self.first = first

    def forward(
        self, tokens: Tensor, image: Tensor, token_pe: Tensor, image_pe: Tensor
    ) -> tuple[Tensor, Tensor]:
        """tokens, token_pe (N, T, C), image (N or 1, L, C), image_pe (1, L, C) -> tokens, image."""
        if self.first:
            # Neither positions nor a residual here, as published: tokens still equal their positions.
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            placed = tokens + token_pe
            tokens = tokens + self.self_attn(placed, placed, tokens)
        tokens = self.norm1(tokens)
        placed_image = image + image_pe
        tokens = self.norm2(
            tokens + self.cross_attn_token_to_image.from_few(tokens + token_pe, placed_image, image)
        )
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = self.norm4(
            self.cross_attn_image_to_token.to_few(placed_image, tokens + token_pe, tokens, residual=image)
        )
        return tokens, image


class TwoWayTransformer(nn.Module):
    """``depth`` two-way blocks and a last attention from the tokens to the image."""

    def __init__(
        self, depth: int, embed_dim: int, num_heads: int, mlp_dim: int, downsample_rate: int = 2
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TwoWayAttentionBlock(embed_dim, num_heads, mlp_dim, downsample_rate, first=i == 0)
            for i in range(depth)
        )
        self.final_attn_token_to_image = Attention(embed_dim, num_heads, downsample_rate)
        self.norm_final_attn = nn.LayerNorm(embed_dim)

    def forward(self, image: Tensor, image_pe: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """image (N or 1, L, C), image_pe (1, L, C), tokens (N, T, C) -> tokens (N, T, C), image (N, L, C)."""
        token_pe = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_pe, image_pe)
        attended = self.final_attn_token_to_image.from_few(tokens + token_pe, image + image_pe, image)
        return self.norm_final_attn(tokens + attended), image
