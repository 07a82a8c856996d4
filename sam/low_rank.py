"""The image side of the mask decoder for many prompts of one image, exact and never written out.

The two-way transformer gives every prompt an image side of its own: thousands of vectors, of which nearly
everything is the same for all prompts. What a block does to it is to add, at every position, a mixture of a
few dozen vectors (the attention's weights ``w`` times its projected values), and to normalise. Both keep this
form:

    x[l] = scale[l] * S[l] + sum over r of w[r, l] * R[r] + shift

where S (L, C) and ``shift`` (C,) are the same for all prompts, and scale (L,), w (r, L) and R (r, C) are
small. So whatever is multiplied with x, the projections of both kinds of attention and the upscaling's
first layer, is multiplied with S once for the image (:class:`sam.shared_image.SharedImage`) and with R once
for the prompt, and what is left for each position is r products instead of C. The norm's mean and variance
follow from the same parts: the mean by taking each row's own mean off, the variance from the rows' products
with each other and with S. A mask that is given with a prompt is such a mixture from the start: of the last
layer of its encoder.

For the published decoder and one click (r = 113, C = 256) that is a quarter of the products and of the memory
of the published order of work. Nothing is approximated; sums are added up in another order.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from sam.shared_image import SharedBlock, SharedImage, SharedScores, centred
from sam.transformer import Attention, TwoWayAttentionBlock, TwoWayTransformer


class LowRankSide:
    """The image sides of N prompts: see the module.

    Attributes:
        size: (h, w), h * w = L.
    """

    def __init__(
        self, shared: SharedImage, size: tuple[int, int], prompts: int, rank: int, given: Tensor | None
    ) -> None:
        self.size = size
        self._shared = shared
        self._scale: Tensor | None = None  # (N, 1, L); None: 1
        self._rows: Tensor | None = None  # (N, r, C)
        # (N, rank, L), of which the first r rows are filled.
        self._weights = shared.upscaled.new_empty(prompts, rank, size[0] * size[1])
        self._given = 0 if given is None else given.shape[1]
        if given is not None:
            self._weights[:, : self._given] = given
            self._rows = shared.given.expand(prompts, -1, -1)

    def __len__(self) -> int:
        return len(self._weights)

    def scores(self, vectors: Tensor, weight: Tensor, shared: SharedScores) -> Tensor:
        """(N, H, T, d) vectors times the image projected by ``weight`` (H * d, C): (N, H, T, L).

        What is the same at all positions may be left out of ``shared`` for a softmax over them.
        """
        heads, tokens = vectors.shape[1:3]
        content = _for_all(vectors, shared.content)
        if self._rows is None:
            return content
        projected = F.linear(self._rows, weight).unflatten(2, (heads, -1)).permute(0, 2, 3, 1)
        small = torch.matmul(vectors, projected).flatten(1, 2)  # (N, H * T, r)
        out: Tensor = torch.bmm(small, self._filled).unflatten(1, (heads, tokens))
        if self._scale is None or shared.place is None:
            return out.add_(content)
        out.addcmul_(content, self._scale[:, None])
        return out.add_(_for_all(vectors, shared.place))

    def mean(self, weights: Tensor, values: Tensor, projection: Tensor) -> Tensor:
        """Means, weighted by (N, H, T, L), of the image by ``projection`` (H * d, C): (N, H, T, d)."""
        n, heads, tokens, length = weights.shape
        by_head = weights.transpose(0, 1)
        if self._scale is not None:
            by_head = torch.mul(by_head, self._scale[:, 0, None], out=weights.new_empty(by_head.shape))
        shared = torch.bmm(by_head.reshape(heads, n * tokens, length), values)
        out: Tensor = shared.unflatten(1, (n, tokens)).transpose(0, 1)
        if self._rows is None:
            return out
        small = torch.bmm(weights.flatten(1, 2), self._filled.transpose(1, 2)).unflatten(1, (heads, tokens))
        projected = F.linear(self._rows, projection).unflatten(2, (heads, -1)).transpose(1, 2)
        return out + torch.matmul(small, projected)

    def add(
        self, weights: Tensor, values: list[Tensor], block: SharedBlock, norm: torch.nn.LayerNorm
    ) -> None:
        """Add what the tokens say at each position, and normalise.

        Args:
            weights: (N, H, T, L) how much of each.
            values: (N, H, T, d) before they are projected, of this block and all before it.
            block: where it stands.
            norm: the block's.
        """
        n, heads, tokens, _ = weights.shape
        step = heads * tokens
        parts = [] if self._rows is None else [centred(self._rows)]
        filled = 0 if self._rows is None else self._rows.shape[1]
        constants, constants_crossed = block.constants
        if len(constants):
            parts.append(constants[-1].expand(n, 1, -1))
            self._weights[:, filled] = 1
            filled += 1
        self._weights[:, filled : filled + step].unflatten(1, (heads, tokens)).copy_(weights)
        rows = torch.cat([*parts, torch.matmul(values[-1], block.rows).flatten(1, 2)], 1)
        self._rows, mixed = rows, self._weights[:, : filled + step]
        # |x|^2 = scale^2 |S|^2 + sum over r of w_r (2 scale S.R_r + sum over q of R_r.R_q w_q)
        products = torch.bmm(torch.bmm(rows, rows.transpose(1, 2)), mixed)
        twice = torch.full_like(mixed[:, :1], 2) if self._scale is None else 2 * self._scale
        if self._given:
            products[:, : self._given].addcmul_(twice, block.given)
        for i, (vectors, crossed) in enumerate(zip(values, block.crossed, strict=True)):
            mine = products[:, self._given + i * (step + 1) :][:, :step].unflatten(1, (heads, tokens))
            mine.addcmul_(_for_all(vectors, crossed), twice[:, None])
        for i, crossed in enumerate(constants_crossed):
            products[:, self._given + step + i * (step + 1)].addcmul_(twice[:, 0], crossed)
        wide = torch.promote_types(products.dtype, torch.float32)
        squares = products.mul_(mixed).sum(1, keepdim=True, dtype=wide)
        squares += block.squares if self._scale is None else self._scale.square() * block.squares
        scale = torch.rsqrt(squares / rows.shape[2] + norm.eps)
        mixed *= scale
        self._scale = scale if self._scale is None else self._scale * scale
        self._rows = rows * norm.weight

    def upscaled(self, prompts: Tensor | None, window: tuple[int, int]) -> Tensor:
        """The upscaling's first layer of chosen prompts, (n, rows * columns, D).

        Args:
            prompts: (n,) int64; None: all.
            window: the upper left (rows, columns) of the cells.
        """
        assert self._scale is not None and self._rows is not None
        parts = (self._scale, self._filled, self._rows)
        scale, weights, rows = parts if prompts is None else (part[prompts] for part in parts)
        shared = self._shared.upscaled
        if window != self.size:
            scale, weights = (
                x.unflatten(-1, self.size)[..., : window[0], : window[1]].flatten(-2)
                for x in (scale, weights)
            )
            # In rows: on a CPU, a bfloat16 product into columns is a hundred times as slow.
            shared = shared.unflatten(0, self.size)[: window[0], : window[1]].flatten(0, 1)
        out = torch.addcmul(self._shared.upscaled_shift, scale.transpose(1, 2), shared)
        return out.to(weights.dtype).baddbmm_(weights.transpose(1, 2), F.linear(rows, self._shared.upscaling))

    @property
    def _filled(self) -> Tensor:
        assert self._rows is not None
        return self._weights[:, : self._rows.shape[1]]


def attend_shared(
    transformer: TwoWayTransformer,
    shared: SharedImage,
    size: tuple[int, int],
    tokens: Tensor,
    given: Tensor | None = None,
    read: int | None = None,
) -> tuple[Tensor, LowRankSide]:
    """What :class:`TwoWayTransformer` does, for prompts that share an image.

    Args:
        transformer: that of ``shared``.
        shared: the image.
        size: (h, w) of its cells.
        tokens: (N, T, C).
        given: (N, k, h * w) how much of each of ``shared.given`` a prompt adds at each cell.
        read: how many of the tokens are read afterwards, the first ones; None: all. The last attention of
            the others changes nothing that is read.

    Returns:
        (N, T, C) tokens, or those that are read, and the image sides.
    """
    token_pe = tokens
    heads = transformer.final_attn_token_to_image.num_heads
    most = rank(transformer, tokens.shape[1]) + (0 if given is None else given.shape[1])
    side = LowRankSide(shared, size, len(tokens), most, given)
    said: list[Tensor] = []
    for layer, block in zip(transformer.layers, shared.blocks, strict=True):
        assert isinstance(layer, TwoWayAttentionBlock)
        tokens = layer.attend_tokens(tokens, token_pe)
        tokens = layer.norm2(
            tokens
            + _look(
                layer.cross_attn_token_to_image,
                side,
                tokens + token_pe,
                block.keys,
                block.values,
                block.value_shift,
            )
        )
        tokens = layer.norm3(tokens + layer.mlp(tokens))
        back = layer.cross_attn_image_to_token
        placed = tokens + token_pe
        keys = _split(back.k_proj(placed), heads) / math.sqrt(back.head_width)
        weights = side.scores(keys, back.q_proj.weight, block.queries).softmax(2)
        said.append(_split(back.v_proj(tokens), heads))
        side.add(weights, said, block, layer.norm4)
    final = transformer.final_attn_token_to_image
    tokens, token_pe = tokens[:, :read], token_pe[:, :read]
    seen = _look(final, side, tokens + token_pe, shared.keys, shared.values, shared.value_shift)
    return transformer.norm_final_attn(tokens + seen), side


def rank(transformer: TwoWayTransformer, tokens: int) -> int:
    """Rows of the image side of prompts of so many tokens."""
    heads, depth = transformer.final_attn_token_to_image.num_heads, len(transformer.layers)
    return depth * heads * tokens + depth - 1


def _look(
    attention: Attention, side: LowRankSide, placed: Tensor, keys: SharedScores, values: Tensor, shift: Tensor
) -> Tensor:
    """The tokens' attention to the image: (N, T, C)."""
    queries = _split(attention.q_proj(placed), attention.num_heads) / math.sqrt(attention.head_width)
    weights = side.scores(queries, attention.k_proj.weight, keys).softmax(3)
    means = side.mean(weights, values, attention.v_proj.weight).transpose(1, 2).flatten(2)
    projected: Tensor = attention.out_proj(means + shift)
    return projected


def _for_all(vectors: Tensor, shared: Tensor) -> Tensor:
    """(N, H, T, d) by (H, d, L) in one product for each head: (N, H, T, L)."""
    n, _, tokens, _ = vectors.shape
    product = torch.bmm(vectors.transpose(0, 1).flatten(1, 2), shared)
    by_prompt: Tensor = product.unflatten(1, (n, tokens)).transpose(0, 1)
    return by_prompt


def _split(x: Tensor, heads: int) -> Tensor:
    """(N, T, H * d) -> (N, H, T, d)."""
    split: Tensor = x.unflatten(-1, (heads, -1)).transpose(1, 2)
    return split
