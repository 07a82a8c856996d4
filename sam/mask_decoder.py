"""The mask decoder: image and prompt embeddings to masks and their predicted quality (paper §3, App. A).

Decoding is in two halves so that a caller can drop what it does not want before paying for it:
:meth:`MaskDecoder.attend` runs the transformer and the IoU head, which read tokens only;
:meth:`MaskDecoder.render` upscales the image side and draws the masks that were asked for.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam.image_encoder.layers import LayerNorm2d
from sam.transformer import TwoWayTransformer

NUM_MULTIMASK_OUTPUTS = 3
NUM_MASK_TOKENS = NUM_MULTIMASK_OUTPUTS + 1


class MLP(nn.Module):
    """``num_layers`` linear layers with ReLU between them."""

    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int, num_layers: int) -> None:
        super().__init__()
        widths = [input_dim] + [hidden_dim] * (num_layers - 1) + [output_dim]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """(…, input_dim) -> (…, output_dim)."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        out: Tensor = self.layers[-1](x)
        return out


class Attended(NamedTuple):
    """The decoder's state after the transformer, for N prompts.

    Attributes:
        iou_predictions: (N, 4) float32, one for each mask token; unbounded, can exceed 1.
        mask_tokens: (N, 4, C).
        image: (N, h * w, C) image side as the prompts changed it.
        size: (h, w).
    """

    iou_predictions: Tensor
    mask_tokens: Tensor
    image: Tensor
    size: tuple[int, int]


class MaskDecoder(nn.Module):
    """Two-way transformer, IoU head, upscaling and one dynamic linear classifier per mask token.

    Mask token 0 is the single-mask output; tokens 1 to 3 answer an ambiguous prompt.
    """

    def __init__(
        self,
        embed_dim: int,
        depth: int = 2,
        num_heads: int = 8,
        mlp_dim: int = 2048,
        iou_head_hidden_dim: int = 256,
    ) -> None:
        super().__init__()
        self.transformer = TwoWayTransformer(depth, embed_dim, num_heads, mlp_dim)
        self.iou_token = nn.Embedding(1, embed_dim)
        self.mask_tokens = nn.Embedding(NUM_MASK_TOKENS, embed_dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(embed_dim, embed_dim // 4, kernel_size=2, stride=2),
            LayerNorm2d(embed_dim // 4),
            nn.GELU(),
            nn.ConvTranspose2d(embed_dim // 4, embed_dim // 8, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            MLP(embed_dim, embed_dim, embed_dim // 8, 3) for _ in range(NUM_MASK_TOKENS)
        )
        self.iou_prediction_head = MLP(embed_dim, iou_head_hidden_dim, NUM_MASK_TOKENS, 3)

    def attend(
        self, image: Tensor, image_pe: Tensor, sparse: Tensor | None, dense: Tensor, count: int
    ) -> Attended:
        """Run the transformer and predict each mask's IoU, without drawing a mask.

        Args:
            image: (1, C, h, w) image embedding shared by all prompts, or one for each, (N, C, h, w).
            image_pe: (1, h * w, C) positions of the embedding's cells.
            sparse: (N, T, C) prompt tokens, or None when the prompt is a mask alone.
            dense: (N or 1, C, h or 1, w or 1) mask embeddings.
            count: N.
        """
        h, w = image.shape[-2:]
        tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight]).expand(count, -1, -1)
        if sparse is not None:
            tokens = torch.cat([tokens, sparse], dim=1)
        keys = (image + dense).flatten(2).transpose(1, 2)
        tokens, keys = self.transformer(keys, image_pe, tokens)
        iou_predictions = self.iou_prediction_head(tokens[:, 0]).float()
        return Attended(iou_predictions, tokens[:, 1 : 1 + NUM_MASK_TOKENS], keys, (h, w))

    def render(
        self,
        attended: Attended,
        skips: tuple[Tensor, ...],
        prompts: Tensor,
        tokens: Tensor,
        window: tuple[int, int] | None = None,
    ) -> Tensor:
        """Draw chosen masks.

        Args:
            attended: of N prompts.
            skips: high-resolution features of the encoder, (1, C/4, 2h, 2w) and (1, C/8, 4h, 4w), or empty.
            prompts: (n,) int64 row of each mask wanted; tokens: (n,) int64 its mask token, 0 to 3.
            window: draw the upper left (rows, columns) of the (h, w) cells alone; beyond may be padding.

        Returns:
            (n, 4h, 4w) float32 logits, or those of the window.
        """
        rows, inverse = prompts.unique(return_inverse=True)
        image = attended.image if len(rows) == len(attended.image) else attended.image[rows]
        size = window or attended.size
        upscaled = self.upscale(_cut(image, attended.size, size), size, skips)
        asked, column = tokens.unique(return_inverse=True)
        classifiers = torch.stack(
            [
                self.output_hypernetworks_mlps[token](attended.mask_tokens[rows, token])
                for token in asked.tolist()
            ],
            dim=1,
        )
        # All asked tokens of each prompt at once: that costs less than a copy of the features for each mask.
        logits = _classify(classifiers, upscaled, size)
        every = len(prompts) == logits.shape[0] * logits.shape[1]
        in_order = every and bool(
            (inverse * len(asked) + column == torch.arange(len(prompts), device=prompts.device)).all()
        )
        return logits.flatten(0, 1) if in_order else logits[inverse, column]

    def render_all(self, attended: Attended, skips: tuple[Tensor, ...]) -> Tensor:
        """Draw all four masks of all N prompts, as training does: (N, 4, 4h, 4w) float32 logits."""
        classifiers = torch.stack(
            [mlp(attended.mask_tokens[:, i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )
        return _classify(classifiers, self.upscale(attended.image, attended.size, skips), attended.size)

    def upscale(self, image: Tensor, size: tuple[int, int], skips: tuple[Tensor, ...]) -> Tensor:
        """(n, h * w, C) -> (n, 16 h w, C/8): features of the 4 x 4 cells in each cell, quadrant by quadrant.

        A transposed convolution whose kernel is its stride sees one cell at a time, so both are plain
        products here, and channels stay last all the way: what is next to each other is normalised together.
        ``skips`` are added before each activation, as in SAM 2.
        """
        first, norm, gelu, second, last_gelu = self.output_upscaling
        x = _quarter(first, image)
        if skips:
            x = x + _quadrants(skips[0], size, 1)
        assert isinstance(norm, LayerNorm2d)
        x = gelu(F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps))
        x = _quarter(second, x)
        if skips:
            x = x + _quadrants(skips[1], size, 2)
        out: Tensor = last_gelu(x)
        return out


def _quarter(layer: nn.Module, x: Tensor) -> Tensor:
    """2 x 2 transposed convolution of stride 2: (n, L, C) -> (n, 4 L, D), a cell's four parts in turn."""
    assert isinstance(layer, nn.ConvTranspose2d) and layer.bias is not None
    weight = layer.weight.permute(2, 3, 1, 0).flatten(0, 2)
    parts: Tensor = F.linear(x, weight, layer.bias.repeat(4)).unflatten(2, (4, -1))
    return parts.flatten(1, 2)


def _quadrants(features: Tensor, size: tuple[int, int], levels: int) -> Tensor:
    """(n, D, H, W) -> (n, h w 4^levels, D) in the order of :meth:`MaskDecoder.upscale`.

    Args:
        features: at ``2**levels`` times the resolution of the cells.
        size: (h, w) cells wanted, from the upper left.
        levels: how many times each cell has been quartered, 1 or 2.
    """
    (h, w), factor = size, 2**levels
    halves = [2] * levels
    split: Tensor = (
        features[..., : factor * h, : factor * w].unflatten(3, (w, *halves)).unflatten(2, (h, *halves))
    )
    # (n, D, h, y1, …, w, x1, …) to (n, h, w, y1, x1, …, D)
    rows, columns = range(2, 3 + levels), range(3 + levels, 4 + 2 * levels)
    order = [axis for pair in zip(rows, columns, strict=True) for axis in pair]
    nested: Tensor = split.permute(0, *order, 1)
    return nested.flatten(1, -2)


def _classify(classifiers: Tensor, upscaled: Tensor, size: tuple[int, int]) -> Tensor:
    """(n, m, D) classifiers and (n, 16 h w, D) features -> (n, m, 4h, 4w) float32 logits, rows in order."""
    logits = classifiers.float() @ upscaled.transpose(1, 2).float()
    shape = (*logits.shape[:2], 4 * size[0], 4 * size[1])
    if torch.compiler.is_exporting():  # to formats without complex numbers
        cells = logits.unflatten(2, (*size, 2, 2, 2, 2))
        return cells.permute(0, 1, 2, 4, 6, 3, 5, 7).reshape(shape)
    # Cell row and column, then y, x in the cell, then y, x in its quarter. The last two numbers are moved
    # together, as one complex number: that takes a tenth of the time.
    pairs = torch.view_as_complex(logits.unflatten(2, (*size, 2, 2, 2, 2)))
    rows = pairs.permute(0, 1, 2, 4, 6, 3, 5).contiguous()
    return torch.view_as_real(rows).reshape(shape)


def _cut(image: Tensor, size: tuple[int, int], window: tuple[int, int]) -> Tensor:
    """(n, h * w, C) -> the upper left (rows, columns) of its cells."""
    if window == size:
        return image
    cells: Tensor = image.unflatten(1, size)
    return cells[:, : window[0], : window[1]].flatten(1, 2)
