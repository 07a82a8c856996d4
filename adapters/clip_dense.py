"""Where in an image a text-image model sees what: unit vectors on a grid.

Three ways, by what the image tower is:

- open_clip's vision transformer: the last block's attention compares values with values instead of queries
  with keys, and nothing is added to it or done after it. Places then keep to themselves what they show (mean
  IoU over eight sets 38, against 14 for the tokens as they are).
- a convolutional tower of timm with average pooling and a linear projection: its map before the pooling,
  since the answer for the whole picture is the mean of the places' answers.
- any other: overlapping windows of the image, one by one, a window for each cell of the grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

Pixels = npt.NDArray[np.uint8]
Prepare = Callable[..., Tensor]

ZOOM = 2
"""A side of the image is this many times the side that the tower was trained on: finer places."""
WINDOWS_PER_SIDE = 6
WINDOW_SHARE = 0.3
"""Least side of a window, as a share of the image's shorter side."""


def dense_features(model: Any, prepare: Prepare, image: Pixels, size: tuple[int, int]) -> Tensor:
    """(h, w, d) unit vectors over an image (H, W, 3).

    Args:
        model: of open_clip.
        prepare: turns a picture into the tower's input, squeezed to a size (h, w).
        image: RGB.
        size: (H, W) that the tower was trained on.
    """
    tower = model.visual
    if type(tower).__name__ == "VisionTransformer" and tower.attn_pool is None:
        places = _of_transformer(tower, prepare(image, (size[0] * ZOOM, size[1] * ZOOM))[None])
    elif _is_pooled_map(tower):
        places = _of_map(tower, prepare(image, _zoomed(image, size))[None])
    else:
        places = _of_windows(model, prepare, image)
    return F.normalize(places, dim=-1)


def _zoomed(image: Pixels, size: tuple[int, int]) -> tuple[int, int]:
    """A convolutional tower takes any shape: the image's own, its longer side zoomed, in whole strides."""
    scale = ZOOM * max(size) / max(image.shape[:2])
    height, width = (max(32, round(side * scale / 32) * 32) for side in image.shape[:2])
    return height, width


def _of_transformer(tower: Any, pixels: Tensor) -> Tensor:
    x = tower.conv1(pixels)
    height, width = x.shape[-2:]
    x = x.flatten(2).transpose(1, 2)
    token = tower.class_embedding.to(x).expand(len(x), 1, -1)
    x = torch.cat([token, x], 1) + _positions(tower.positional_embedding, height, width)
    x = tower.ln_pre(tower.patch_dropout(x))
    blocks = tower.transformer.resblocks
    batch_first = getattr(tower.transformer, "batch_first", True)
    if not batch_first:
        x = x.transpose(0, 1)
    for block in blocks[:-1]:
        x = block(x)
    if not batch_first:
        x = x.transpose(0, 1)
    last = blocks[-1]
    x = tower.ln_post(_values_with_values(last.attn, last.ln_1(x)))
    if tower.proj is not None:
        x = x @ tower.proj
    found: Tensor = x[0, 1:].reshape(height, width, -1)
    return found


def _values_with_values(attention: Any, x: Tensor) -> Tensor:
    batch, count, channels = x.shape
    heads = attention.num_heads
    weight, bias = attention.in_proj_weight[2 * channels :], attention.in_proj_bias
    values = (
        F.linear(x, weight, None if bias is None else bias[2 * channels :])
        .reshape(batch, count, heads, -1)
        .transpose(1, 2)
    )
    mixed = F.scaled_dot_product_attention(values, values, values)
    out: Tensor = attention.out_proj(mixed.transpose(1, 2).reshape(batch, count, channels))
    return out


def _positions(embedding: Tensor, height: int, width: int) -> Tensor:
    side = round((len(embedding) - 1) ** 0.5)
    grid = embedding[1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, (height, width), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([embedding[:1], grid[0].flatten(1).T])[None]


def _is_pooled_map(tower: Any) -> bool:
    """A timm tower that averages a map of places and projects it linearly."""
    trunk = getattr(tower, "trunk", None)
    after = getattr(trunk, "head", None)
    pool = getattr(getattr(after, "global_pool", None), "pool_type", None)
    names = [name for name, _ in tower.head.named_children()] if hasattr(tower, "head") else []
    return (
        pool == "avg"
        and set(names) <= {"drop", "proj"}
        and isinstance(getattr(after, "pre_logits", nn.Identity()), nn.Identity)
        and isinstance(getattr(after, "fc", None), nn.Identity | nn.Linear)
        and getattr(trunk, "output_fmt", "NCHW") == "NCHW"  # Swin's is another, of one size only
    )


def _of_map(tower: Any, pixels: Tensor) -> Tensor:
    places = tower.trunk.forward_features(pixels)  # (1, C, h, w)
    after = tower.trunk.head
    norm = getattr(after, "norm", None)  # ConvNeXt's comes after the pooling
    places = places.permute(0, 2, 3, 1)
    if norm is not None and not isinstance(norm, nn.Identity):
        places = F.layer_norm(places, places.shape[-1:], norm.weight, norm.bias, norm.eps)
    # The projection is the tower's or, as MobileCLIP's, the trunk's own classifier; the other does nothing.
    found: Tensor = tower.head(after.fc(places))[0]
    return found


def _of_windows(model: Any, prepare: Prepare, image: Pixels) -> Tensor:
    height, width = image.shape[:2]
    rows, columns = (math.ceil(WINDOWS_PER_SIDE * side / max(height, width)) for side in (height, width))
    least = round(WINDOW_SHARE * min(height, width))
    down, across = _windows(height, rows, least), _windows(width, columns, least)
    batch = [prepare(np.ascontiguousarray(image[some, others])) for some in down for others in across]
    found: Tensor = model.encode_image(torch.stack(batch), normalize=True)
    return found.reshape(rows, columns, -1)


def _windows(length: int, count: int, least: int) -> list[slice]:
    """A window for each of ``count`` equal cells along a side, around the cell's middle where that fits in.

    None is smaller than its cell, so together they cover the side.
    """
    side = min(length, max(least, math.ceil(length / count), 1))
    middles = (np.arange(count) + 0.5) * length / count
    starts = np.clip(np.round(middles - side / 2), 0, length - side).astype(int)
    return [slice(start, start + side) for start in starts]
