"""The prompt encoder: points, boxes, masks and text to embeddings (paper §3 and App. A, "Prompt encoder")."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sam.errors import BadPrompt
from sam.image_encoder.layers import LayerNorm2d

BACKGROUND, FOREGROUND, TOP_LEFT, BOTTOM_RIGHT = range(4)
PADDING_LABEL = -1


class PositionEmbeddingRandom(nn.Module):
    """Random Fourier features of a position in the unit square (Tancik et al., 2020)."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, num_features))

    def forward(self, xy: Tensor) -> Tensor:
        """(…, 2) x, y in [0, 1] -> (…, 2 * num_features)."""
        # Always float32: half precision cannot tell neighbouring pixels apart.
        with torch.autocast(xy.device.type, enabled=False):
            projected = (2 * xy.float() - 1) @ self.positional_encoding_gaussian_matrix.float()
            projected = 2 * math.pi * projected
            return torch.cat([projected.sin(), projected.cos()], dim=-1)

    def grid(self, height: int, width: int) -> Tensor:
        """The encoding of every cell centre of a grid: (1, height * width, 2 * num_features), row-major."""
        device = self.positional_encoding_gaussian_matrix.device
        y = (torch.arange(height, device=device) + 0.5) / height
        x = (torch.arange(width, device=device) + 0.5) / width
        yy, xx = torch.meshgrid(y, x, indexing="ij")
        return self.forward(torch.stack([xx, yy], -1)).flatten(0, 1)[None]


class PromptEncoder(nn.Module):
    """Sparse embeddings (points, boxes, text) and dense embeddings (masks).

    Args:
        embed_dim: width C of every embedding.
        image_size: side S of the padded square in which coordinates are given, in pixels.
        mask_in_chans: width of the mask branch before its last convolution.
        text_dim: width of the text vectors that these weights were trained with; None: no text slot.
    """

    def __init__(
        self, embed_dim: int, image_size: int, mask_in_chans: int = 16, text_dim: int | None = None
    ) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.image_size = image_size
        self.pe_layer = PositionEmbeddingRandom(embed_dim // 2)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, embed_dim) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, embed_dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, mask_in_chans // 4, kernel_size=2, stride=2),
            LayerNorm2d(mask_in_chans // 4),
            nn.GELU(),
            nn.Conv2d(mask_in_chans // 4, mask_in_chans, kernel_size=2, stride=2),
            LayerNorm2d(mask_in_chans),
            nn.GELU(),
            nn.Conv2d(mask_in_chans, embed_dim, kernel_size=1),
        )
        self.no_mask_embed = nn.Embedding(1, embed_dim)
        self.text_projection = None if text_dim is None else nn.Linear(text_dim, embed_dim)

    def text_slot_for(self, weight: Tensor | None) -> nn.Linear | None:
        """Room for the text slot of foreign weights; None where they have none, or this has one already.

        Args:
            weight: (embed_dim, text_dim) of :attr:`text_projection`, if they have it.
        """
        if self.text_projection is not None or weight is None or weight.ndim != 2:
            return None
        return nn.Linear(weight.shape[1], self.embed_dim)

    def sparse(
        self, points: Tensor | None, labels: Tensor | None, boxes: Tensor | None, text: Tensor | None
    ) -> Tensor | None:
        """Token embeddings of the sparse prompts.

        Args:
            points: (N, K, 2) x, y in pixels of the padded square; labels: (N, K) 1, 0 or -1 (padding).
            boxes: (N, 4) ``x1, y1, x2, y2`` in the same frame.
            text: (N, text_dim) unit vectors.

        Returns:
            (N, T, C) in the order text, points, box corners; None without sparse prompts.

        Raises:
            BadPrompt: a text vector for weights without a text slot, or of another width.
        """
        parts = []
        if text is not None:
            parts.append(self._embed_text(text))
        if points is not None and labels is not None:
            parts.append(self._embed_points(points, labels, pad=boxes is None))
        if boxes is not None:
            parts.append(self._embed_boxes(boxes))
        return torch.cat(parts, dim=1) if parts else None

    def dense(self, mask_logits: Tensor | None) -> Tensor:
        """(N, 4h, 4w) logits -> (N, C, h, w); without masks the no-mask vector, (1, C, 1, 1)."""
        if mask_logits is None:
            return self.no_mask_embed.weight.view(1, -1, 1, 1)
        embedded: Tensor = self.mask_downscaling(mask_logits[:, None])
        return embedded

    def mask_mixture(self, mask_logits: Tensor) -> Tensor:
        """(N, 4h, 4w) logits -> (N, k, h * w): how much of each of :meth:`mask_rows` a mask is in each cell.

        What it is more than the no-mask vector, which is where a shared image starts from.
        """
        features = self.mask_downscaling[:-1](mask_logits[:, None]).flatten(2)
        return torch.cat([features, torch.ones_like(features[:, :1])], 1)

    def mask_rows(self) -> Tensor:
        """(k, C): see :meth:`mask_mixture`."""
        last = self.mask_downscaling[-1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        return torch.cat([last.weight[:, :, 0, 0].transpose(0, 1), last.bias - self.no_mask_embed.weight])

    def embed_labelled(self, xy: Tensor, labels: Tensor) -> Tensor:
        """Tokens of points of any kind.

        Args:
            xy: (N, K, 2) pixels of the padded square.
            labels: (N, K) int64: -1 padding, 0 background, 1 object, 2 and 3 a box's upper left and lower
                right corner.

        Returns:
            (N, K, C).
        """
        kinds = torch.cat([self.not_a_point_embed.weight, *(self._kind(i) for i in range(4))])
        return self._position(xy) * (labels != PADDING_LABEL).unsqueeze(-1) + kinds[labels + 1]

    def _position(self, xy: Tensor) -> Tensor:
        position: Tensor = self.pe_layer((xy + 0.5) / self.image_size)
        return position

    def _kind(self, index: int) -> Tensor:
        """(1, C) learned embedding of a kind of point."""
        embedding = self.point_embeddings[index]
        assert isinstance(embedding, nn.Embedding)
        return embedding.weight

    def _embed_points(self, points: Tensor, labels: Tensor, pad: bool) -> Tensor:
        if pad:
            # The published weights have always seen a padding point beside points without a box.
            points = torch.cat([points, points.new_zeros(len(points), 1, 2)], dim=1)
            labels = torch.cat([labels, labels.new_full((len(labels), 1), PADDING_LABEL)], dim=1)
        return self.embed_labelled(points, labels)

    def _embed_boxes(self, boxes: Tensor) -> Tensor:
        corners = self._position(boxes.reshape(-1, 2, 2))
        return corners + torch.cat([self._kind(TOP_LEFT), self._kind(BOTTOM_RIGHT)])

    def _embed_text(self, text: Tensor) -> Tensor:
        if self.text_projection is None:
            raise BadPrompt(
                "these weights have no text slot: use a preset trained with text, or another text route",
                code="text_slot_missing",
                field="text",
            )
        if text.shape[-1] != self.text_projection.in_features:
            raise BadPrompt(
                f"text vectors of width {text.shape[-1]}, "
                f"but these weights take {self.text_projection.in_features}",
                field="text",
            )
        # Brought to a variance of 1: as unit vectors they would begin as tokens a twentieth as long as a
        # point's, and hardly be heard.
        embedded: Tensor = self.text_projection(text * text.shape[-1] ** 0.5)
        return embedded[:, None]
