"""The ``compact`` encoder of this project: a timm backbone, a little attention, a light feature-pyramid neck.

It is small enough to be trained from scratch on two CPU cores and to answer in tens of milliseconds. Beside
the stride-16 embedding it hands the mask decoder two finer maps, because a decoder that sees stride 16 alone
draws blocky borders, and it has an edge head at stride 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam.image_encoder import EncoderOutput
from sam.image_encoder.layers import LayerNorm2d


@dataclass(frozen=True)
class CompactConfig:
    """Shapes of the compact encoder.

    Attributes:
        backbone: name of a timm model with feature maps at strides 4, 8, 16 and 32.
        image_size: side of the padded input square, a multiple of 32.
        out_chans: width C of the embedding; skips have C/4 (stride 8) and C/8 (stride 4) channels.
        neck_chans: width of the pyramid at strides 4 and 8.
        attention_layers: transformer layers at stride 32, where one token sees the whole photo cheaply.
        attention_heads: heads of those layers.
    """

    backbone: str = "regnetx_004"
    image_size: int = 512
    out_chans: int = 128
    neck_chans: int = 64
    attention_layers: int = 2
    attention_heads: int = 4

    def __post_init__(self) -> None:
        if self.image_size % 32:
            raise ValueError(f"image_size must be a multiple of 32, not {self.image_size}")
        if self.out_chans % 8:
            raise ValueError(f"out_chans must be a multiple of 8, not {self.out_chans}")


class CompactEncoder(nn.Module):
    """Pixels (B, 3, S, S) -> :class:`EncoderOutput` with skips and edge logits."""

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = timm.create_model(
            config.backbone, pretrained=False, features_only=True, out_indices=(-4, -3, -2, -1)
        )
        info: Any = self.backbone.feature_info
        if list(info.reduction()) != [4, 8, 16, 32]:
            raise ValueError(f"{config.backbone} has strides {info.reduction()}, expected 4, 8, 16 and 32")
        c4, c8, c16, c32 = info.channels()
        width, neck = config.out_chans, config.neck_chans
        self.project32 = nn.Conv2d(c32, width, 1)
        self.attention = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width,
                config.attention_heads,
                4 * width,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(config.attention_layers)
        )
        self.lateral16 = nn.Conv2d(c16, width, 1)
        self.neck = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), LayerNorm2d(width))
        self.lateral8 = nn.Conv2d(c8, neck, 1)
        self.down16to8 = nn.Conv2d(width, neck, 1)
        self.smooth8 = nn.Sequential(
            nn.Conv2d(neck, neck, 3, padding=1, bias=False), nn.BatchNorm2d(neck), nn.ReLU()
        )
        self.lateral4 = nn.Conv2d(c4, neck // 2, 1)
        self.down8to4 = nn.Conv2d(neck, neck // 2, 1)
        self.smooth4 = nn.Sequential(
            nn.Conv2d(neck // 2, neck // 2, 3, padding=1, bias=False), nn.BatchNorm2d(neck // 2), nn.ReLU()
        )
        self.skip8 = nn.Conv2d(neck, width // 4, 1)
        self.skip4 = nn.Conv2d(neck // 2, width // 8, 1)
        self.edge_head = nn.Conv2d(neck // 2, 1, 1)

    def forward(self, pixels: Tensor) -> EncoderOutput:
        """Encode (B, 3, S, S) normalised pixels."""
        out, _, _ = self.pyramid(pixels)
        return out

    def pyramid(self, pixels: Tensor) -> tuple[EncoderOutput, Tensor, Tensor]:
        """As ``forward``, with the pyramid's stride-8 and stride-4 maps for auxiliary training heads."""
        f4, f8, f16, f32 = self.backbone(pixels.contiguous(memory_format=torch.channels_last))
        top = self._attend(self.project32(f32))
        x16 = self.lateral16(f16) + F.interpolate(top, scale_factor=2.0, mode="nearest")
        embedding = self.neck(x16)
        x8 = self.lateral8(f8) + F.interpolate(self.down16to8(embedding), scale_factor=2.0, mode="nearest")
        x8 = self.smooth8(x8)
        x4 = self.lateral4(f4) + F.interpolate(self.down8to4(x8), scale_factor=2.0, mode="nearest")
        x4 = self.smooth4(x4)
        out = EncoderOutput(embedding, (self.skip8(x8), self.skip4(x4)), self.edge_head(x4))
        return out, x8, x4

    def _attend(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        tokens: Tensor = x.flatten(2).transpose(1, 2)
        tokens = tokens + sinusoidal_positions(h, w, x.shape[1], x.device)
        for layer in self.attention:
            tokens = layer(tokens)
        return tokens.transpose(1, 2).reshape(x.shape)


def sinusoidal_positions(height: int, width: int, channels: int, device: torch.device) -> Tensor:
    """(1, height * width, channels) sines and cosines of y and x, frequencies octaves apart.

    Relative to the square and not to the pixel, so that another input size means the same places.
    """
    quarter = channels // 4
    frequency = torch.pi * 2.0 ** torch.linspace(0, 5, quarter, device=device)
    y = (torch.arange(height, device=device) + 0.5) / height
    x = (torch.arange(width, device=device) + 0.5) / width
    fy, fx = y[:, None] * frequency, x[:, None] * frequency
    rows = torch.cat([fy.sin(), fy.cos()], 1)[:, None].expand(-1, width, -1)
    columns = torch.cat([fx.sin(), fx.cos()], 1)[None].expand(height, -1, -1)
    return torch.cat([rows, columns], -1).reshape(1, height * width, -1)
