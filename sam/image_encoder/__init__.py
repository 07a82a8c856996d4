"""Image encoders: pixels to the image embedding that every prompt shares (paper §3, "Image encoder").

One file per family: ``vit`` (ViT-B, L, H of the paper), ``tiny_vit`` (MobileSAM) and ``compact`` (a small
convolutional network trained by this project).
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class EncoderOutput(NamedTuple):
    """What an image encoder returns for a batch of B padded, normalised images of side S.

    Attributes:
        image_embedding: (B, C, h, w); h = w = S / 16 for every family here.
        high_res_features: skips for the mask decoder's upscaling, finest last: (B, C/4, 2h, 2w) and
            (B, C/8, 4h, 4w) for ``compact``; empty for the published families.
        edge_logits: (B, 1, 4h, 4w) of ``compact``'s edge head, else None.
    """

    image_embedding: Tensor
    high_res_features: tuple[Tensor, ...] = ()
    edge_logits: Tensor | None = None
