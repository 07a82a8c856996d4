"""The decoder as a page needs it: one object at a time, a new answer for every move of the pointer.

Three graphs, in plain matrix products that onnxruntime's WebAssembly build is good at:

``image``: what the encoder gave for a photo, ``image_embeddings`` (1, C, h, w) and, of some encoders,
``high_res_2`` (1, C/4, 2h, 2w) and ``high_res_4`` (1, C/8, 4h, 4w) -> its image side, the tensors that
:func:`image_side` names: all that does not depend on the prompt. It runs once for each photo.

``click``: the image side, ``given`` (k, L), ``point_coords`` (K, 2) and ``point_labels`` (K,) float32
-> ``low_res_masks`` (4, 4h, 4w) logits and ``iou_predictions`` (4,), of the single-mask token and then of the
three masks that one click may mean. Of a photo that does not fill the square, ``upscaled`` may be cut to the
cells that it does fill, and one more: then the masks are drawn in those alone. Coordinates are pixels of the
padded square; labels are 1 object, 0 background, 2 and 3 a box's upper left and lower right corner, -1
padding. Prompts without a box end with a padding point. ``given`` is one row of zeros, L = h * w of them, or
an earlier answer.

``mask``: ``mask_input`` (4h, 4w) float32, the logits of an earlier answer -> ``given``. Whoever tries many
clicks on one earlier answer runs it once.

How a prompt changes the image is kept in the form of :mod:`sam.low_rank` (docs/decisions/0016). The GELU is
the one with tanh: WebAssembly has no fast erf. It differs by at most 5e-4 from the exact one, and that moves
logits by about a thousandth of their size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam.click_side import PromptSide, upper_left
from sam.embedding import Embedding
from sam.mask_decoder import NUM_MASK_TOKENS
from sam.model import SegmentAnything
from sam.shared_image import SharedBlock, SharedImage, SharedScores

EMBEDDING_NAMES = ("image_embeddings", "high_res_2", "high_res_4")
SKIP_NAMES = ("skip_2", "skip_4")
GIVEN, POINT_NAMES = "given", ("point_coords", "point_labels")
MASK_INPUT = "mask_input"
OUTPUTS = ("low_res_masks", "iou_predictions")


def image_side(model: SegmentAnything, embedding: Embedding) -> dict[str, Tensor]:
    """Everything that the click graph needs to know of an image, float32.

    Returns:
        What :class:`SharedImage` has of an image, by names like ``block_0.keys``: with L = h * w cells and H
        heads of d channels, (H, d, L) ``keys``, ``queries`` and ``crossed_N``, (H, L, d) ``values``, (k, L)
        ``given`` and ``constants``, (1, L) ``squares``; then ``last.keys``, ``last.values`` and (C, h, w)
        ``upscaled``, of which the upper left rows and columns will do. Of encoders with skips also ``skip_2``
        (4, C/4, L) and ``skip_4`` (16, C/8, L), by quarters of a cell.
    """
    features = embedding.features.float()
    return _side(_shared(model, features), [skip.float() for skip in embedding.high_res_features], features)


class ImageGraph(nn.Module):
    """An encoder's output to the image side, in the order of :func:`image_side`."""

    def __init__(self, model: SegmentAnything) -> None:
        super().__init__()
        self.model = model

    def forward(self, image_embeddings: Tensor, *skips: Tensor) -> tuple[Tensor, ...]:
        """See the module's text."""
        return tuple(_side(_shared(self.model, image_embeddings), skips, image_embeddings).values())


class MaskGraph(nn.Module):
    """An earlier answer's logits to how much of each of ``PromptEncoder.mask_rows`` it is at each cell."""

    def __init__(self, model: SegmentAnything) -> None:
        super().__init__()
        self.prompt_encoder = model.prompt_encoder

    def forward(self, mask_input: Tensor) -> Tensor:
        """(4h, 4w) -> (k, L)."""
        encoder: Any = self.prompt_encoder
        given: Tensor = encoder.mask_mixture(mask_input[None])[0]
        return given


class ClickGraph(nn.Module):
    """Prompts of one object to all four masks and their predicted IoU; see the module's text.

    Args:
        model: whose decoder it is.
        size: (h, w) of the embedding.
    """

    def __init__(self, model: SegmentAnything, size: tuple[int, int]) -> None:
        super().__init__()
        self.prompt_encoder, self.decoder, self.size = model.prompt_encoder, model.mask_decoder, size
        with torch.no_grad():  # of any image; what depends on it is not used
            self.shared = _shared(model, torch.zeros(1, model.prompt_encoder.embed_dim, *size))

    def forward(
        self, side: Mapping[str, Tensor], given: Tensor, point_coords: Tensor, point_labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See the module's text; ``side`` as :func:`image_side` gives it."""
        decoder: Any = self.decoder
        labels = point_labels.to(torch.int64)
        sparse = self.prompt_encoder.embed_labelled(point_coords[None], labels[None])[0]
        token_pe = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight, sparse])
        tokens = token_pe
        image = PromptSide(given, self.shared.given[: given.shape[0]])
        for number, layer in enumerate(decoder.transformer.layers):
            block = _block_of(side, f"block_{number}.", self.shared.blocks[number])
            if layer.first:
                tokens = layer.norm1(_self_attend(layer, tokens, tokens))
            else:
                tokens = layer.norm1(tokens + _self_attend(layer, tokens + token_pe, tokens))
            look = layer.cross_attn_token_to_image
            asked = _ask(look, tokens + token_pe, image, block.keys, block.values, block.value_shift)
            tokens = layer.norm2(tokens + asked)
            tokens = layer.norm3(tokens + layer.mlp(tokens))
            tell = layer.cross_attn_image_to_token
            keys = _heads(tell, tell.k_proj(tokens + token_pe)) * _scale(tell)
            weights = _softmax(image.scores(keys, tell.q_proj.weight, block.queries))
            image.add(weights, _heads(tell, tell.v_proj(tokens)), block, layer.norm4)
        last = decoder.transformer.final_attn_token_to_image
        # What is read afterwards are the IoU's token and the masks'.
        tokens, token_pe = tokens[: 1 + NUM_MASK_TOKENS], token_pe[: 1 + NUM_MASK_TOKENS]
        placed = SharedScores(side["last.keys"], self.shared.keys.place)
        asked = _ask(last, tokens + token_pe, image, placed, side["last.values"], self.shared.value_shift)
        tokens = decoder.transformer.norm_final_attn(tokens + asked)
        return self._draw(tokens, image, side), decoder.iou_prediction_head(tokens[:1])[0]

    def _draw(self, tokens: Tensor, image: PromptSide, side: Mapping[str, Tensor]) -> Tensor:
        decoder: Any = self.decoder
        _, norm, _, second, _ = decoder.output_upscaling
        upscaled = side["upscaled"]
        rows, columns = upscaled.shape[1], upscaled.shape[2]
        skips = [upper_left(side[name], self.size, (rows, columns)) for name in SKIP_NAMES if name in side]
        # Without skips what is normalised is centred before, in the weights.
        centre = _keep if skips else _centred_quarters
        x = image.upscaled(upscaled, centre(self.shared.upscaling), self.size)
        x = (x + centre(self.shared.upscaled_shift[:, None])).unflatten(0, (4, -1))
        if skips:
            x = x + skips[0]
            x = x - x.mean(1, keepdim=True)
        x = x * torch.rsqrt((x * x).mean(1, keepdim=True) + norm.eps)
        x = F.gelu(x * norm.weight[:, None] + norm.bias[:, None], approximate="tanh")
        x = F.conv1d(x, _quarters(second.weight)[:, :, None], second.bias.repeat(4))
        x = x.unflatten(1, (4, -1)).flatten(0, 1)
        if skips:
            x = x + skips[1]
        x = F.gelu(x, approximate="tanh")
        classifiers = torch.cat(
            [mlp(tokens[1 + i : 2 + i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)]
        )
        # y and x in the cell, y and x in its quarter, mask, cell row and column -> mask, rows, columns.
        cells = (classifiers @ x).unflatten(0, (2, 2, 2, 2)).unflatten(-1, (rows, columns))
        masks: Tensor = cells.permute(4, 5, 0, 2, 6, 1, 3).reshape(NUM_MASK_TOKENS, 4 * rows, 4 * columns)
        return masks


def _shared(model: SegmentAnything, features: Tensor) -> SharedImage:
    """What all prompts of an image share, in float32."""
    encoder = model.prompt_encoder
    return model.mask_decoder.share(
        features, model.image_pe(features), encoder.dense(None), encoder.mask_rows()
    )


def _side(shared: SharedImage, skips: Any, features: Tensor) -> dict[str, Tensor]:
    side: dict[str, Tensor] = {}
    for number, block in enumerate(shared.blocks):
        parts = {"keys": block.keys.content, "values": block.values, "queries": block.queries.content}
        parts |= {f"crossed_{i}": crossed for i, crossed in enumerate(block.crossed)}
        if number:
            parts["constants"] = block.constants[1]
        parts |= {"given": block.given, "squares": block.squares[None]}
        side |= {f"block_{number}.{name}": part for name, part in parts.items()}
    size, upscaled = (features.shape[-2], features.shape[-1]), shared.upscaled.transpose(0, 1)
    side |= {"last.keys": shared.keys.content, "last.values": shared.values}
    side["upscaled"] = (upscaled if len(skips) else _centred_quarters(upscaled)).unflatten(1, size)
    for name, skip, levels in zip(SKIP_NAMES, skips, (1, 2), strict=False):
        side[name] = _nested(skip[0], size, levels)
    return {name: part.contiguous() for name, part in side.items()}


def _block_of(side: Mapping[str, Tensor], prefix: str, block: SharedBlock) -> SharedBlock:
    """A block of which the image's part is taken from ``side``."""
    part = {name.removeprefix(prefix): x for name, x in side.items() if name.startswith(prefix)}
    return block._replace(
        keys=SharedScores(part["keys"], block.keys.place),
        values=part["values"],
        queries=SharedScores(part["queries"], block.queries.place),
        crossed=tuple(part[f"crossed_{i}"] for i in range(len(block.crossed))),
        constants=(block.constants[0], part.get("constants", block.constants[1])),
        given=part["given"],
        squares=part["squares"],
    )


def _ask(
    attention: Any, placed: Tensor, image: PromptSide, keys: SharedScores, values: Tensor, shift: Tensor
) -> Tensor:
    """The tokens' attention to the image: (T, C)."""
    queries = _heads(attention, attention.q_proj(placed)) * _scale(attention)
    weights = image.scores(queries, attention.k_proj.weight, keys).softmax(-1)
    means = image.mean(weights, values, attention.v_proj.weight)
    projected: Tensor = attention.out_proj(means.transpose(0, 1).flatten(1) + shift)
    return projected


def _softmax(scores: Tensor) -> Tensor:
    """Over the tokens of (H, T, L). onnxruntime's own would turn the axes first, which takes longer."""
    exponents = (scores - scores.amax(1, keepdim=True)).exp()
    weights: Tensor = exponents / exponents.sum(1, keepdim=True)
    return weights


def _heads(attention: Any, x: Tensor) -> Tensor:
    """(n, H * d) -> (H, n, d)."""
    split: Tensor = x.unflatten(-1, (attention.num_heads, -1)).transpose(0, 1)
    return split


def _scale(attention: Any) -> float:
    return 1 / math.sqrt(attention.head_width)


def _self_attend(layer: Any, placed: Tensor, tokens: Tensor) -> Tensor:
    attention = layer.self_attn
    q, k = (_heads(attention, p(placed)) for p in (attention.q_proj, attention.k_proj))
    scores = (q * _scale(attention)) @ k.transpose(1, 2)
    out = scores.softmax(-1) @ _heads(attention, attention.v_proj(tokens))
    projected: Tensor = attention.out_proj(out.transpose(0, 1).flatten(1))
    return projected


def _quarters(weight: Tensor) -> Tensor:
    """(C, D, 2, 2) of a transposed convolution of stride 2 -> (4 D, C), a cell's quarters in turn."""
    out: Tensor = weight.permute(2, 3, 1, 0).flatten(0, 2)
    return out


def _centred_quarters(x: Tensor) -> Tensor:
    """(4 D, n) less the mean of each quarter's D rows."""
    quarters = x.unflatten(0, (4, -1))
    centred: Tensor = (quarters - quarters.mean(1, keepdim=True)).flatten(0, 1)
    return centred


def _keep(x: Tensor) -> Tensor:
    return x


def _nested(skip: Tensor, size: tuple[int, int], levels: int) -> Tensor:
    """(D, H, W) at ``2**levels`` times the cells' resolution -> (4^levels, D, h w), quarters of quarters."""
    halves = [2] * levels
    split = skip.unflatten(2, (size[1], *halves)).unflatten(1, (size[0], *halves))
    rows, columns = range(2, 2 + levels), range(3 + levels, 3 + 2 * levels)
    order = [axis for pair in zip(rows, columns, strict=True) for axis in pair]
    nested: Tensor = split.permute(*order, 0, 1, 2 + levels).flatten(-2).flatten(0, 2 * levels - 1)
    return nested
