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
from sam.low_rank import LowRankSide, attend_shared, rank
from sam.shared_image import SharedImage, share_image
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
        image: (N, h * w, C) image side as the prompts changed it, or the same as the prompts share it.
        size: (h, w).
    """

    iou_predictions: Tensor
    mask_tokens: Tensor
    image: Tensor | LowRankSide
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
        tokens = self._tokens(sparse, count)
        keys = (image + dense).flatten(2).transpose(1, 2)
        tokens, keys = self.transformer(keys, image_pe, tokens)
        return self._attended(tokens, keys, (h, w))

    def shares(self, sparse: Tensor | None, given: int = 0) -> bool:
        """Whether prompts of (N, T, C) tokens, and ``given`` rows of a mask, are best answered together."""
        tokens = 1 + NUM_MASK_TOKENS + (0 if sparse is None else sparse.shape[1])
        return rank(self.transformer, tokens) + given <= self.iou_token.embedding_dim

    def share(self, image: Tensor, image_pe: Tensor, dense: Tensor, given: Tensor) -> SharedImage:
        """What all prompts of an image have in common.

        Args:
            image: (1, C, h, w) the embedding; image_pe: (1, h * w, C).
            dense: (1, C, 1, 1) what stands for no mask.
            given: (k, C) what a mask is made of beside it.
        """
        weight, bias = _quarter_weights(self.output_upscaling[0])
        keys = (image + dense).flatten(2).transpose(1, 2)
        return share_image(self.transformer, keys[0], image_pe[0], given, weight, bias)

    def attend_shared(
        self,
        shared: SharedImage,
        size: tuple[int, int],
        sparse: Tensor | None,
        given: Tensor | None,
        count: int,
    ) -> Attended:
        """What :meth:`attend` gives for ``count`` prompts of a shared image.

        Args:
            shared: the image; size: (h, w) of its cells.
            sparse: (N, T, C) prompt tokens, or None.
            given: (N, k, h * w) how the prompts' masks are made, or None.
            count: N.
        """
        tokens = self._tokens(sparse, count)
        tokens, side = attend_shared(self.transformer, shared, size, tokens, given, read=1 + NUM_MASK_TOKENS)
        return self._attended(tokens, side, size)

    def _tokens(self, sparse: Tensor | None, count: int) -> Tensor:
        tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight]).expand(count, -1, -1)
        return tokens if sparse is None else torch.cat([tokens, sparse], dim=1)

    def _attended(self, tokens: Tensor, image: Tensor | LowRankSide, size: tuple[int, int]) -> Attended:
        iou_predictions = self.iou_prediction_head(tokens[:, 0]).float()
        return Attended(iou_predictions, tokens[:, 1 : 1 + NUM_MASK_TOKENS], image, size)

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
        size = window or attended.size
        asked, column = tokens.unique(return_inverse=True)
        classifiers = torch.stack(
            [
                self.output_hypernetworks_mlps[token](attended.mask_tokens[rows, token])
                for token in asked.tolist()
            ],
            dim=1,
        )
        # All asked tokens of each prompt at once: that costs less than a copy of the features for each mask.
        features = self.upscale(self._first_layer(attended, rows, size), self.in_quadrants(skips, size))
        logits = _classify(classifiers, features, size)
        every = len(prompts) == logits.shape[0] * logits.shape[1]
        in_order = every and bool(
            (inverse * len(asked) + column == torch.arange(len(prompts), device=prompts.device)).all()
        )
        return logits.flatten(0, 1) if in_order else logits[inverse, column]

    def render_all(self, attended: Attended, skips: tuple[Tensor, ...]) -> Tensor:
        """Draw all four masks of all N prompts: (N, 4, 4h, 4w) float32 logits."""
        return self.render_all_by(attended, self.in_quadrants(skips, attended.size))

    def render_all_by(self, attended: Attended, quadrants: tuple[Tensor, ...]) -> Tensor:
        """:meth:`render_all` by what :meth:`in_quadrants` makes of the skips, which training does once."""
        classifiers = torch.stack(
            [mlp(attended.mask_tokens[:, i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )
        features = self.upscale(self._first_layer(attended, None, attended.size), quadrants)
        return _classify(classifiers, features, attended.size)

    def in_quadrants(self, skips: tuple[Tensor, ...], size: tuple[int, int]) -> tuple[Tensor, ...]:
        """Skips of :meth:`render`, of n images, as :meth:`upscale` adds them, of the upper left cells."""
        return tuple(_quadrants(skip, size, levels) for levels, skip in enumerate(skips, 1))

    def _first_layer(self, attended: Attended, rows: Tensor | None, size: tuple[int, int]) -> Tensor:
        """The upscaling's first layer of prompts ``rows`` (None: all), upper left cells: (n, 4 h w, C/4)."""
        if rows is not None and len(rows) == len(attended.mask_tokens):
            rows = None  # all of them
        image = attended.image
        if isinstance(image, LowRankSide):
            parts = image.upscaled(rows, size)
        else:
            cells = _cut(image if rows is None else image[rows], attended.size, size)
            parts = F.linear(cells, *_quarter_weights(self.output_upscaling[0]))
        quartered: Tensor = parts.unflatten(2, (4, -1)).flatten(1, 2)
        return quartered

    def upscale(self, x: Tensor, quadrants: tuple[Tensor, ...]) -> Tensor:
        """(n, 4 h w, C/4) -> (n, 16 h w, C/8): features of the 4 x 4 cells in each cell, by quadrants.

        A transposed convolution whose kernel is its stride sees one cell at a time, so both are plain
        products here, and channels stay last all the way: what is next to each other is normalised together.
        ``quadrants`` of the skips are added before each activation, as in SAM 2.
        """
        _, norm, gelu, second, last_gelu = self.output_upscaling
        if quadrants:
            x = x + quadrants[0]
        assert isinstance(norm, LayerNorm2d)
        x = gelu(F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps))
        x = F.linear(x, *_quarter_weights(second)).unflatten(2, (4, -1)).flatten(1, 2)
        if quadrants:
            x = x + quadrants[1]
        out: Tensor = last_gelu(x)
        return out


def _quarter_weights(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """2 x 2 transposed convolution of stride 2 as a product: (4 D, C) and (4 D,), a cell's parts in turn."""
    assert isinstance(layer, nn.ConvTranspose2d) and layer.bias is not None
    return layer.weight.permute(2, 3, 1, 0).flatten(0, 2), layer.bias.repeat(4)


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
    if not torch.is_autocast_enabled(upscaled.device.type):  # which would undo it
        classifiers, upscaled = classifiers.float(), upscaled.float()
    logits = (classifiers @ upscaled.transpose(1, 2)).float()
    shape = (*logits.shape[:2], 4 * size[0], 4 * size[1])
    if torch.compiler.is_exporting():  # to formats without complex numbers
        cells: Tensor = logits.unflatten(2, (*size, 2, 2, 2, 2))
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
