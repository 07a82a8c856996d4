"""An encoded image, and the way of its pixels into the model's square and back."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as PILImage
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Embedding:
    """One encoded image.

    Attributes:
        features: (1, C, h, w) image embedding.
        high_res_features: skips of the encoder, or empty (see :class:`sam.image_encoder.EncoderOutput`).
        edge_logits: (1, 1, 4h, 4w) or None.
        input_size: (height, width) of the resized image inside the padded square, pixels.
        original_size: (height, width) of the image as given, pixels.
        model_digest: SHA-256 of the weights that made it; empty for random weights.
    """

    features: Tensor
    high_res_features: tuple[Tensor, ...]
    edge_logits: Tensor | None
    input_size: tuple[int, int]
    original_size: tuple[int, int]
    model_digest: str

    @property
    def nbytes(self) -> int:
        """Bytes that the tensors hold."""
        tensors = [self.features, *self.high_res_features]
        if self.edge_logits is not None:
            tensors.append(self.edge_logits)
        return sum(t.nbytes for t in tensors)

    def scale(self, device: torch.device) -> Tensor:
        """(2,) pixels of the resized image for one of the original, x and y."""
        height, width = self.original_size
        return torch.tensor([self.input_size[1] / width, self.input_size[0] / height], device=device)

    def to(self, device: torch.device) -> Embedding:
        """The same embedding on ``device``."""
        return replace(
            self,
            features=self.features.to(device),
            high_res_features=tuple(t.to(device) for t in self.high_res_features),
            edge_logits=None if self.edge_logits is None else self.edge_logits.to(device),
        )


def resize_longest_side(image: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """Resize (H, W, 3) so that the longest side is ``side``, the other rounded to nearest (bilinear)."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    new_size = (max(1, int(width * scale + 0.5)), max(1, int(height * scale + 0.5)))
    # A copy, because what Pillow hands out is read-only and torch warns of that.
    return np.array(PILImage.fromarray(image).resize(new_size, PILImage.Resampling.BILINEAR))


def upsample_logits(
    low_res: Tensor, image_size: int, input_size: tuple[int, int], original_size: tuple[int, int]
) -> Tensor:
    """Bilinear to the padded square, crop the padding, bilinear to the original size, as published.

    Args:
        low_res: (n, h, w) float32 logits over the padded square.
        image_size: side of the padded square.
        input_size: (height, width) of the image inside it.
        original_size: (height, width) wanted.

    Returns:
        (n, H, W) float32.
    """
    square = F.interpolate(low_res[:, None], (image_size, image_size), mode="bilinear", align_corners=False)
    inside = square[..., : input_size[0], : input_size[1]]
    return F.interpolate(inside, original_size, mode="bilinear", align_corners=False)[:, 0]
