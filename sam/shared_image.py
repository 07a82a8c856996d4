"""What all prompts of one image have in common, multiplied once: see :mod:`sam.low_rank`."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from sam.transformer import Attention, TwoWayAttentionBlock, TwoWayTransformer


class SharedScores(NamedTuple):
    """What an attention's scores read of the shared image, by head: two of (H, d, L).

    Attributes:
        content: of S, scaled for each prompt and position.
        place: of the positions and all that is constant; None: it is in ``content``, which nothing scales
            yet.
    """

    content: Tensor
    place: Tensor | None


class SharedBlock(NamedTuple):
    """What one two-way block reads of the shared image.

    Attributes:
        keys: of the tokens' attention to the image.
        values: (H, L, d) of the same.
        value_shift: (H * d,) what ``shift`` and the bias add to them.
        queries: of the image's attention to the tokens.
        crossed: for this block and each one before it, (H, d, L): S, centred, times what the block's values
            are projected by.
        rows: (H, d, C) what this block's values are projected by, centred.
        constants: (k, C) the rows that what is added everywhere alike has become, centred; and their (k, L)
            products with S. The first block has none: there it is part of S.
        given: (k, L) products of S with the rows that prompts may bring, centred.
        squares: (L,) squared length of S, centred.
    """

    keys: SharedScores
    values: Tensor
    value_shift: Tensor
    queries: SharedScores
    crossed: tuple[Tensor, ...]
    rows: Tensor
    constants: tuple[Tensor, Tensor]
    given: Tensor
    squares: Tensor


class SharedImage(NamedTuple):
    """One image as all its prompts share it, for one decoder.

    Attributes:
        blocks: of the transformer, in order.
        keys, values, value_shift: of its last attention, as in :class:`SharedBlock`.
        upscaled: (L, D) S by the upscaling's first layer; upscaled_shift: (D,) what ``shift`` and bias add.
        upscaling: (D, C) that layer.
        given: (k, C) rows that prompts may bring.
    """

    blocks: tuple[SharedBlock, ...]
    keys: SharedScores
    values: Tensor
    value_shift: Tensor
    upscaled: Tensor
    upscaled_shift: Tensor
    upscaling: Tensor
    given: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes that its tensors hold, but for those of the weights' size."""
        parts: list[Tensor | None] = [*self.keys, self.values, self.upscaled]
        for block in self.blocks:
            parts += [*block.keys, block.values, *block.queries, *block.crossed]
        return sum(part.nbytes for part in parts if part is not None)


def share_image(
    transformer: TwoWayTransformer,
    image: Tensor,
    image_pe: Tensor,
    given: Tensor,
    upscaling: Tensor,
    bias: Tensor,
) -> SharedImage:
    """Multiply one image with all that its prompts' image sides are multiplied with.

    Args:
        transformer: the decoder's.
        image: (L, C) the embedding and what is added to it where no mask is given.
        image_pe: (L, C) its positions.
        given: (k, C) what prompts may add a mixture of at each position before the first block.
        upscaling: (D, C) first layer of the upscaling; bias: (D,).
    """
    content, shift, blocks = image, None, []
    weights: list[Tensor] = []  # of each block so far, (H, d, C): what its values are projected by
    constants, brought = image.new_empty(0, image.shape[1]), given
    for layer in transformer.layers:
        assert isinstance(layer, TwoWayAttentionBlock)
        to_tokens = layer.cross_attn_image_to_token
        keys, values, value_shift = _read(layer.cross_attn_token_to_image, content, image_pe, shift)
        queries = _scores(to_tokens.q_proj, to_tokens.num_heads, content, image_pe, shift)
        weights.append(_by_head(to_tokens.out_proj.weight.transpose(0, 1), to_tokens.num_heads))
        # What is added everywhere alike: at first it goes into the image, later it is a row of its own.
        if shift is None:
            middle = centred(content + to_tokens.out_proj.bias)
        else:
            middle = centred(content)
            constants = centred(torch.cat([constants, (shift + to_tokens.out_proj.bias)[None]]))
        weights, brought = [centred(weight) for weight in weights], centred(brought)
        blocks.append(
            SharedBlock(
                keys,
                values,
                value_shift,
                queries,
                tuple(weight @ middle.transpose(0, 1) for weight in weights),
                weights[-1],
                (constants, constants @ middle.transpose(0, 1)),
                brought @ middle.transpose(0, 1),
                middle.square().sum(1),
            )
        )
        norm = layer.norm4
        content, shift = middle * norm.weight, norm.bias
        weights = [weight * norm.weight for weight in weights]
        constants, brought = constants * norm.weight, brought * norm.weight
    final = transformer.final_attn_token_to_image
    keys, values, value_shift = _read(final, content, image_pe, shift)
    assert shift is not None
    return SharedImage(
        tuple(blocks),
        keys,
        values,
        value_shift,
        F.linear(content, upscaling),
        F.linear(shift, upscaling, bias),
        upscaling,
        given,
    )


def _read(
    attention: Attention, content: Tensor, image_pe: Tensor, shift: Tensor | None
) -> tuple[SharedScores, Tensor, Tensor]:
    """Keys, values and what is added to the values, of the tokens' attention to the image."""
    keys = _scores(attention.k_proj, attention.num_heads, content, image_pe, shift)
    values = F.linear(content, attention.v_proj.weight).unflatten(1, (attention.num_heads, -1))
    added: Tensor = attention.v_proj.bias
    if shift is not None:
        added = added + F.linear(shift, attention.v_proj.weight)
    return keys, values.transpose(0, 1).contiguous(), added


def _scores(
    layer: torch.nn.Linear, heads: int, content: Tensor, image_pe: Tensor, shift: Tensor | None
) -> SharedScores:
    if shift is None:
        return SharedScores(_heads_first(layer(content + image_pe), heads), None)
    return SharedScores(
        _heads_first(F.linear(content, layer.weight), heads), _heads_first(layer(image_pe + shift), heads)
    )


def _heads_first(x: Tensor, heads: int) -> Tensor:
    """(L, H * d) -> (H, d, L)."""
    out: Tensor = x.transpose(0, 1).unflatten(0, (heads, -1)).contiguous()
    return out


def _by_head(weight: Tensor, heads: int) -> Tensor:
    """(H * d, C) -> (H, d, C)."""
    out: Tensor = weight.unflatten(0, (heads, -1))
    return out


def centred(x: Tensor) -> Tensor:
    """(…, C) less its mean over the channels."""
    return x - x.mean(-1, keepdim=True)
