"""The decoder as a page needs it: one object at a time, a new answer for every move of the pointer.

Everything that does not depend on the prompt is computed once for each image, by :func:`image_side`. The rest
is laid out for one object, in plain matrix products that onnxruntime's WebAssembly build is good at.
There are two graphs:

``click``: what :func:`image_side` gives, ``point_coords`` (K, 2) and ``point_labels`` (K,) float32
-> ``low_res_masks`` (4, 4h, 4w) logits and ``iou_predictions`` (4,), of the single-mask token and then of the
three masks that one click may mean. Coordinates are pixels of the padded square; labels are 1 object,
0 background, 2 and 3 a box's upper left and lower right corner, -1 padding. Prompts without a box end with a
padding point.

``mask``: what :func:`image_side` gives of the image, and ``mask_input`` (4h, 4w) float32, the logits of an
earlier answer -> the same tensors, which then go into ``click`` in their place. Whoever tries many clicks on
one earlier answer runs it once.

The GELU is the one with tanh: WebAssembly has no fast erf. It differs by at most 5e-4 from the exact one, and
that moves logits by about a thousandth of their size.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam.mask_decoder import NUM_MASK_TOKENS
from sam.model import Embedding, SegmentAnything

IMAGE_NAMES = ("keys", "first_keys", "first_values", "first_queries")
SKIP_NAMES = ("skip_2", "skip_4")
POINT_NAMES = ("point_coords", "point_labels")
MASK_INPUT = "mask_input"
OUTPUTS = ("low_res_masks", "iou_predictions")


@torch.inference_mode()
def image_side(model: SegmentAnything, embedding: Embedding) -> dict[str, Tensor]:
    """Everything that the click graph needs to know of an image, float32.

    With L = h * w cells, C channels, H heads of d channels in the cross attention:

    Returns:
        ``keys`` (L, C), the embedding with the no-mask vector; ``first_keys`` (H, d, L), ``first_values``
        (H, L, d) and ``first_queries`` (L, H * d), its projections in the first layer; ``skip_2`` (4 L, C/4)
        and ``skip_4`` (16 L, C/8) of encoders with skips, cell by cell as the decoder upscales them.
    """
    features = embedding.features.float()
    size = features.shape[-2], features.shape[-1]
    layer: Any = model.mask_decoder.transformer.layers[0]
    keys = features[0].flatten(1).T + model.prompt_encoder.no_mask_embed.weight
    placed = keys + model.image_pe(features)[0]
    to_image, to_tokens = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
    found = {
        "keys": keys,
        "first_keys": _heads(to_image, to_image.k_proj(placed)).transpose(1, 2),
        "first_values": _heads(to_image, to_image.v_proj(keys)),
        "first_queries": to_tokens.q_proj(placed),
    }
    for name, skip, levels in zip(SKIP_NAMES, embedding.high_res_features, (1, 2), strict=False):
        found[name] = _nested(skip[0].float(), size, levels)
    return {name: tensor.contiguous() for name, tensor in found.items()}


class ClickGraph(nn.Module):
    """Prompts of one object to all four masks and their predicted IoU; see the module's text."""

    def __init__(self, model: SegmentAnything, size: tuple[int, int]) -> None:
        super().__init__()
        self.prompt_encoder, self.decoder = model.prompt_encoder, model.mask_decoder
        self.size = size
        self.register_buffer("image_pe", model.prompt_encoder.pe_layer.grid(*size)[0], persistent=False)

    def forward(
        self,
        keys: Tensor,
        first_keys: Tensor,
        first_values: Tensor,
        first_queries: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        skip_2: Tensor | None = None,
        skip_4: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """See the module's text."""
        decoder: Any = self.decoder
        labels = point_labels.to(torch.int64)
        sparse = self.prompt_encoder.embed_labelled(point_coords[None], labels[None])[0]
        token_pe = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight, sparse])
        image_pe: Any = self.image_pe
        tokens, image = token_pe, keys
        for number, layer in enumerate(decoder.transformer.layers):
            if number == 0:
                tokens = layer.norm1(_self_attend(layer, tokens, tokens))
                tokens = _ask_first(layer, tokens, token_pe, first_keys, first_values)
                weights, values = _tell_first(layer, tokens + token_pe, tokens, first_queries)
            else:
                tokens = layer.norm1(tokens + _self_attend(layer, tokens + token_pe, tokens))
                placed = image + image_pe
                asked = _ask(layer.cross_attn_token_to_image, tokens + token_pe, placed, image)
                tokens = layer.norm2(tokens + asked)
                tokens = layer.norm3(tokens + layer.mlp(tokens))
                weights, values = _tell(layer.cross_attn_image_to_token, placed, tokens + token_pe, tokens)
            image = layer.norm4(torch.addmm(image, weights, values))
        last = decoder.transformer.final_attn_token_to_image
        asked = _ask(last, tokens + token_pe, image + image_pe, image)
        tokens = decoder.transformer.norm_final_attn(tokens + asked)
        return self._draw(tokens, image, skip_2, skip_4), decoder.iou_prediction_head(tokens[:1])[0]

    def _draw(self, tokens: Tensor, image: Tensor, skip_2: Tensor | None, skip_4: Tensor | None) -> Tensor:
        decoder: Any = self.decoder
        first, norm, _, second, _ = decoder.output_upscaling
        x = _quarter(first, image)
        if skip_2 is not None:
            x = x + skip_2
        x = F.gelu(F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps), approximate="tanh")
        x = _quarter(second, x)
        if skip_4 is not None:
            x = x + skip_4
        x = F.gelu(x, approximate="tanh")
        classifiers = torch.cat(
            [mlp(tokens[1 + i : 2 + i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)]
        )
        h, w = self.size
        # Cell row and column, y and x in the cell, y and x in its quarter -> rows and columns.
        cells = (classifiers @ x.T).view(NUM_MASK_TOKENS, h, w, 2, 2, 2, 2)
        masks: Tensor = cells.permute(0, 1, 3, 5, 2, 4, 6).reshape(NUM_MASK_TOKENS, 4 * h, 4 * w)
        return masks


class MaskGraph(nn.Module):
    """The image side as an earlier answer's logits change it; see the module's text."""

    def __init__(self, model: SegmentAnything) -> None:
        super().__init__()
        self.prompt_encoder = model.prompt_encoder
        layer: Any = model.mask_decoder.transformer.layers[0]
        self.to_image, self.to_tokens = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token

    def forward(
        self,
        keys: Tensor,
        first_keys: Tensor,
        first_values: Tensor,
        first_queries: Tensor,
        mask_input: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Everything is linear in what the mask adds to the image, so that is projected and added."""
        encoder: Any = self.prompt_encoder
        dense = encoder.mask_downscaling(mask_input[None, None])[0].flatten(1).T
        added = dense - encoder.no_mask_embed.weight
        to_image, to_tokens = self.to_image, self.to_tokens
        more_keys = _heads(to_image, F.linear(added, to_image.k_proj.weight)).transpose(1, 2)
        more_values = _heads(to_image, F.linear(added, to_image.v_proj.weight))
        more_queries = F.linear(added, to_tokens.q_proj.weight)
        return keys + added, first_keys + more_keys, first_values + more_values, first_queries + more_queries


def _heads(attention: Any, x: Tensor) -> Tensor:
    """(n, H * d) -> (H, n, d)."""
    split: Tensor = x.unflatten(-1, (attention.num_heads, -1)).transpose(0, 1)
    return split


def _by_head(attention: Any, weight: Tensor) -> Tensor:
    """(H * d, C) -> (H, d, C)."""
    split: Tensor = weight.unflatten(0, (attention.num_heads, -1))
    return split


def _scale(attention: Any) -> float:
    return 1 / math.sqrt(attention.q_proj.out_features // attention.num_heads)


def _joined(attention: Any, out: Tensor) -> Tensor:
    """(H, T, d) -> (T, C) through the last projection."""
    projected: Tensor = attention.out_proj(out.transpose(0, 1).flatten(1))
    return projected


def _self_attend(layer: Any, placed: Tensor, tokens: Tensor) -> Tensor:
    attention = layer.self_attn
    q, k = (_heads(attention, p(placed)) for p in (attention.q_proj, attention.k_proj))
    scores = (q * _scale(attention)) @ k.transpose(1, 2)
    return _joined(attention, scores.softmax(-1) @ _heads(attention, attention.v_proj(tokens)))


def _ask_first(layer: Any, tokens: Tensor, token_pe: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Tokens to image and MLP of the first layer, whose keys and values are projected already."""
    attention = layer.cross_attn_token_to_image
    queries = _heads(attention, attention.q_proj(tokens + token_pe)) * _scale(attention)
    asked = _joined(attention, (queries @ keys).softmax(-1) @ values)
    tokens = layer.norm2(tokens + asked)
    out: Tensor = layer.norm3(tokens + layer.mlp(tokens))
    return out


def _ask(attention: Any, queries: Tensor, placed: Tensor, image: Tensor) -> Tensor:
    """As :meth:`sam.transformer.Attention.from_few`: the projections of the many go to the few."""
    split = _heads(attention, attention.q_proj(queries)) * _scale(attention)
    absorbed = (split @ _by_head(attention, attention.k_proj.weight)).flatten(0, 1)
    weights = (absorbed @ placed.T).softmax(-1)
    means = (weights @ image).unflatten(0, (attention.num_heads, -1))
    out = means @ _by_head(attention, attention.v_proj.weight).transpose(1, 2)
    return _joined(attention, out + attention.v_proj.bias.view(attention.num_heads, 1, -1))


def _tell(attention: Any, placed: Tensor, keys: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """As :meth:`sam.transformer.Attention.to_few`: (L, H * T) weights and (H * T, C) values."""
    split = _heads(attention, attention.k_proj(keys)) * _scale(attention)
    absorbed = (split @ _by_head(attention, attention.q_proj.weight)).flatten(0, 1)
    biases = (split @ attention.q_proj.bias.view(attention.num_heads, -1, 1)).flatten()
    return _weights(attention, placed @ absorbed.T + biases), _values(attention, tokens)


def _tell_first(layer: Any, keys: Tensor, tokens: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
    """The same in the first layer, whose queries (L, H * d) are projected already.

    All heads are one product: each key stands in the rows of its own head, with zeros in the others'.
    """
    attention = layer.cross_attn_image_to_token
    heads = attention.num_heads
    split = (_heads(attention, attention.k_proj(keys)) * _scale(attention)).transpose(1, 2)
    own = torch.eye(heads).view(heads, 1, heads, 1)
    apart = (split.unsqueeze(2) * own).flatten(2, 3).flatten(0, 1)
    return _weights(attention, queries @ apart), _values(attention, tokens)


def _weights(attention: Any, scores: Tensor) -> Tensor:
    weights: Tensor = scores.unflatten(1, (attention.num_heads, -1)).softmax(-1).flatten(1)
    return weights


def _values(attention: Any, tokens: Tensor) -> Tensor:
    """(H * T, C): values through the last projection, its bias included, since weights sum to 1."""
    out = attention.out_proj.weight.T.unflatten(0, (attention.num_heads, -1))
    values = _heads(attention, attention.v_proj(tokens)) @ out + attention.out_proj.bias / attention.num_heads
    joined: Tensor = values.flatten(0, 1)
    return joined


def _quarter(layer: Any, x: Tensor) -> Tensor:
    """2 x 2 transposed convolution of stride 2: (n, C) cells -> (4 n, D), a cell's four parts in turn."""
    weight = layer.weight.permute(2, 3, 1, 0).flatten(0, 2)
    parts: Tensor = F.linear(x, weight, layer.bias.repeat(4))
    return parts.view(-1, layer.out_channels)


def _nested(skip: Tensor, size: tuple[int, int], levels: int) -> Tensor:
    """(D, H, W) at ``2**levels`` times the cells' resolution -> (h w 4^levels, D), in upscaling's order."""
    halves = [2] * levels
    split = skip.unflatten(2, (size[1], *halves)).unflatten(1, (size[0], *halves))
    rows, columns = range(1, 2 + levels), range(2 + levels, 3 + 2 * levels)
    order = [axis for pair in zip(rows, columns, strict=True) for axis in pair]
    nested: Tensor = split.permute(*order, 0).flatten(0, -2)
    return nested
