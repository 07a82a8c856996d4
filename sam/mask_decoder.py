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
        image: (N, C, h, w) image side as the prompts changed it.
    """

    iou_predictions: Tensor
    mask_tokens: Tensor
    image: Tensor


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
        changed = keys.transpose(1, 2).unflatten(2, (h, w))
        return Attended(iou_predictions, tokens[:, 1 : 1 + NUM_MASK_TOKENS], changed)

    def render(
        self, attended: Attended, skips: tuple[Tensor, ...], prompts: Tensor, tokens: Tensor
    ) -> Tensor:
        """Draw chosen masks.

        Args:
            attended: of N prompts.
            skips: high-resolution features of the encoder, (1, C/4, 2h, 2w) and (1, C/8, 4h, 4w), or empty.
            prompts: (n,) int64 row of each mask wanted; tokens: (n,) int64 its mask token, 0 to 3.

        Returns:
            (n, 4h, 4w) float32 logits.
        """
        rows, inverse = prompts.unique(return_inverse=True)
        upscaled = self.upscale(attended.image[rows], skips)
        asked, column = tokens.unique(return_inverse=True)
        classifiers = torch.stack(
            [
                self.output_hypernetworks_mlps[token](attended.mask_tokens[rows, token])
                for token in asked.tolist()
            ],
            dim=1,
        )
        # All asked tokens of each prompt at once: that costs less than a copy of the features for each mask.
        logits = (classifiers.float() @ upscaled.flatten(2).float()).reshape(
            len(rows), len(asked), *upscaled.shape[-2:]
        )
        every = len(prompts) == logits.shape[0] * logits.shape[1]
        in_order = every and bool(
            (inverse * len(asked) + column == torch.arange(len(prompts), device=prompts.device)).all()
        )
        return logits.flatten(0, 1) if in_order else logits[inverse, column]

    def render_all(self, attended: Attended, skips: tuple[Tensor, ...]) -> Tensor:
        """Draw all four masks of all N prompts, as training does: (N, 4, 4h, 4w) float32 logits."""
        upscaled = self.upscale(attended.image, skips)
        classifiers = torch.stack(
            [mlp(attended.mask_tokens[:, i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )
        logits = classifiers.float() @ upscaled.flatten(2).float()
        return logits.reshape(*logits.shape[:2], *upscaled.shape[-2:])

    def upscale(self, image: Tensor, skips: tuple[Tensor, ...]) -> Tensor:
        """(n, C, h, w) -> (n, C/8, 4h, 4w); ``skips`` are added before each activation, as in SAM 2."""
        first, norm, gelu, second, last_gelu = self.output_upscaling
        skip8, skip4 = skips if skips else (0.0, 0.0)
        x = gelu(norm(first(image) + skip8))
        out: Tensor = last_gelu(second(x) + skip4)
        return out
