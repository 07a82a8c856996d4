"""The paper's image encoder: a plain ViT with windowed and global attention (App. A, "Image encoder").

The architecture is ViTDet's (Li et al., 2022): most blocks attend inside 14 x 14 windows, a few attend
globally, every attention adds a decomposed relative position bias (MViTv2, Li et al., 2021), and a light
neck brings the stride-16 map to 256 channels. Parameter names are those of the public checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from timm.layers.drop import DropPath
from torch import Tensor, nn
from torch.nn import functional as F

from sam.image_encoder import EncoderOutput
from sam.image_encoder.layers import LayerNorm2d
from sam.image_encoder.relative_attention import RelativeAttention

LAYER_NORM_EPS = 1e-6


@dataclass(frozen=True)
class ViTConfig:
    """Shapes of a ViT image encoder.

    Attributes:
        embed_dim: width of the blocks (768, 1024, 1280 for ViT-B, L, H).
        depth: number of blocks (12, 24, 32).
        num_heads: attention heads (12, 16, 16); must divide ``embed_dim``.
        global_attn_indexes: blocks that attend to the whole image; the others attend inside windows.
        image_size: side S of the padded input square in pixels, a multiple of ``patch_size``.
        patch_size: side of one token in pixels.
        window_size: side of an attention window in tokens.
        mlp_ratio: hidden width of a block's MLP over ``embed_dim``.
        out_chans: channels C of the image embedding.
        drop_path: chance in [0, 1) that the last block's branches are skipped for an image in training;
            earlier blocks ramp up to it linearly from 0.
    """

    embed_dim: int
    depth: int
    num_heads: int
    global_attn_indexes: tuple[int, ...]
    image_size: int = 1024
    patch_size: int = 16
    window_size: int = 14
    mlp_ratio: float = 4.0
    out_chans: int = 256
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        if self.embed_dim % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} does not divide embed_dim {self.embed_dim}")
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}"
            )
        outside = [i for i in self.global_attn_indexes if not 0 <= i < self.depth]
        if outside:
            raise ValueError(f"global_attn_indexes {outside} lie outside the {self.depth} blocks")
        if not 0.0 <= self.drop_path < 1.0:
            raise ValueError(f"drop_path must lie in [0, 1), not {self.drop_path}")


class ImageEncoderViT(nn.Module):
    """Pixels (B, 3, S, S) float32, normalised, padded -> :class:`EncoderOutput` with (B, C, S/16, S/16)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        side = config.image_size // config.patch_size
        self.patch_embed = PatchEmbed(config.patch_size, config.embed_dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, side, side, config.embed_dim))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.blocks = nn.ModuleList(
            Block(
                config.embed_dim,
                config.num_heads,
                int(config.embed_dim * config.mlp_ratio),
                attention_side=side if i in config.global_attn_indexes else config.window_size,
                drop_path=config.drop_path * i / max(1, config.depth - 1),
            )
            for i in range(config.depth)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(config.embed_dim, config.out_chans, kernel_size=1, bias=False),
            LayerNorm2d(config.out_chans),
            nn.Conv2d(config.out_chans, config.out_chans, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(config.out_chans),
        )

    def forward(self, pixels: Tensor) -> EncoderOutput:
        """Encode (B, 3, S, S) float32."""
        x = self.patch_embed(pixels) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return EncoderOutput(self.neck(x.permute(0, 3, 1, 2)))


class PatchEmbed(nn.Module):
    """Non-overlapping patches to tokens."""

    def __init__(self, patch_size: int, embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, embed_dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, h, w, D)."""
        patches: Tensor = self.proj(pixels)
        return patches.permute(0, 2, 3, 1)


class Block(nn.Module):
    """Pre-norm transformer block on a (B, h, w, D) map, attending in windows or globally.

    Args:
        dim: width D.
        num_heads: attention heads.
        mlp_dim: hidden width of the MLP.
        attention_side: side in tokens of the square that one attention covers: a window, or the whole map.
        drop_path: chance of skipping each branch for an image in training.
    """

    def __init__(self, dim: int, num_heads: int, mlp_dim: int, attention_side: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.attn = RelativeAttention(dim, num_heads, attention_side)
        self.norm2 = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.mlp = MLPBlock(dim, mlp_dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, D) -> the same shape."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        out: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return out


class MLPBlock(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, hidden_dim)
        self.lin2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(…, D) -> (…, D)."""
        out: Tensor = self.lin2(F.gelu(self.lin1(x)))
        return out
