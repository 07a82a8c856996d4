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

LAYER_NORM_EPS = 1e-6
BIAS_BUDGET = 1 << 25
"""Most elements of attention bias alive at once: 4096 x 4096 for all 12 to 16 heads would take a gigabyte."""


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
                windowed=i not in config.global_attn_indexes,
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
        attention_side: side in tokens of the square that one attention covers.
        windowed: whether that square is a window of the map rather than the map itself.
        drop_path: chance of skipping each branch for an image in training.
    """

    def __init__(
        self, dim: int, num_heads: int, mlp_dim: int, attention_side: int, windowed: bool, drop_path: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.attn = Attention(dim, num_heads, attention_side)
        self.norm2 = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.mlp = MLPBlock(dim, mlp_dim)
        self.drop_path = DropPath(drop_path)
        self.window_size = attention_side if windowed else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, D) -> the same shape."""
        x = x + self.drop_path(self._attend(self.norm1(x)))
        out: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return out

    def _attend(self, x: Tensor) -> Tensor:
        if self.window_size is None:
            whole: Tensor = self.attn(x)
            return whole
        # The map is padded after the norm: padding is zero there, so its keys and values are the projection's
        # bias, and real tokens attend to them. The published weights were trained with that.
        windows = partition_windows(x, self.window_size)
        return join_windows(self.attn(windows), self.window_size, (x.shape[1], x.shape[2]))


class Attention(nn.Module):
    """Multi-head self-attention over a square of tokens with decomposed relative positions.

    The score of query (i, j) and key (k, l) is ``q·K / sqrt(d) + q·rel_pos_h[i - k] + q·rel_pos_w[j - l]``.
    """

    def __init__(self, dim: int, num_heads: int, side: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, dim // num_heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, dim // num_heads))

    def forward(self, x: Tensor) -> Tensor:
        """(B, side, side, D) -> the same shape."""
        b, side, _, dim = x.shape
        qkv = self.qkv(x).view(b, side * side, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.flatten(1, 2).unbind(0)  # each (B * heads, side * side, d)
        step = max(1, BIAS_BUDGET // side**4)
        parts = [
            # The leading axis of one: only four-dimensional input takes torch's fused path.
            F.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=self._bias(q, side)[None])[0]
            for q, k, v in zip(q.split(step), k.split(step), v.split(step), strict=True)
        ]
        out = torch.cat(parts).view(b, self.num_heads, side, side, -1).permute(0, 2, 3, 1, 4)
        projected: Tensor = self.proj(out.reshape(b, side, side, dim))
        return projected

    def _bias(self, q: Tensor, side: int) -> Tensor:
        """Relative position bias (n, side * side, side * side) of queries (n, side * side, d)."""
        steps = torch.arange(side, device=q.device)
        offsets = steps[:, None] - steps[None, :] + side - 1
        grid = q.view(len(q), side, side, -1)
        # Contiguous while they are small: the sum inherits their layout, and would be copied to be reshaped.
        along_h = torch.einsum("nijd,ikd->nijk", grid, self.rel_pos_h[offsets]).contiguous()
        along_w = torch.einsum("nijd,jld->nijl", grid, self.rel_pos_w[offsets]).contiguous()
        bias = along_h[..., :, None] + along_w[..., None, :]
        return bias.view(len(q), side**2, side**2)


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


def partition_windows(x: Tensor, size: int) -> Tensor:
    """Cut a (B, h, w, D) map into windows, zero-padded right and bottom: (B * n, size, size, D)."""
    b, h, w, d = x.shape
    x = F.pad(x, (0, 0, 0, -w % size, 0, -h % size))
    rows, cols = x.shape[1] // size, x.shape[2] // size
    return x.view(b, rows, size, cols, size, d).transpose(2, 3).reshape(-1, size, size, d)


def join_windows(windows: Tensor, size: int, shape: tuple[int, int]) -> Tensor:
    """Undo :func:`partition_windows`: (B * n, size, size, D) -> (B, h, w, D), where ``shape`` is (h, w)."""
    h, w = shape
    rows, cols = -(-h // size), -(-w // size)
    x = windows.view(-1, rows, cols, size, size, windows.shape[-1]).transpose(2, 3)
    return x.reshape(-1, rows * size, cols * size, windows.shape[-1])[:, :h, :w]
