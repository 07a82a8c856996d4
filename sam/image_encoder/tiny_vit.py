"""TinyViT-5M as MobileSAM uses it (Wu et al., 2022; Zhang et al., 2023): a small distilled image encoder.

A convolutional stem and stage, then three stages of windowed attention with a depthwise convolution between
attention and MLP. The last stage keeps stride 16, so the embedding has the shape of the paper's encoder.
Parameter names are those of ``mobile_sam.pt``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from timm.layers.drop import DropPath
from torch import Tensor, nn
from torch.nn import functional as F

from sam.image_encoder import EncoderOutput
from sam.image_encoder.layers import LayerNorm2d
from sam.image_encoder.windows import join_windows, partition_windows


@dataclass(frozen=True)
class TinyViTConfig:
    """Shapes of a TinyViT encoder; the defaults are MobileSAM's.

    Attributes:
        embed_dims: width of each stage.
        depths: blocks in each stage; the first stage is convolutional.
        num_heads: attention heads of each stage (the first is unused).
        window_sizes: side in tokens of each stage's attention windows (the first is unused).
        merge_strides: stride of the merging after each stage but the last; their product is 4, which with the
            stem's 4 makes the embedding's stride 16.
        image_size: side S of the padded input square in pixels, a multiple of 16.
        mlp_ratio: hidden width of a block's MLP over its stage's width.
        expand_ratio: hidden width of the first stage's convolutional blocks over its width.
        num_classes: outputs of the classifier that distillation left in the published file; unused here.
        out_chans: channels C of the image embedding.
        drop_path: chance in [0, 1) that the last block's branches are skipped for an image in training;
            earlier blocks ramp up to it linearly from 0.
    """

    embed_dims: tuple[int, ...] = (64, 128, 160, 320)
    depths: tuple[int, ...] = (2, 2, 6, 2)
    num_heads: tuple[int, ...] = (2, 4, 5, 10)
    window_sizes: tuple[int, ...] = (7, 7, 14, 7)
    merge_strides: tuple[int, ...] = (2, 2, 1)
    image_size: int = 1024
    mlp_ratio: float = 4.0
    expand_ratio: float = 4.0
    num_classes: int = 1000
    out_chans: int = 256
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        lengths = [len(v) for v in (self.embed_dims, self.depths, self.num_heads, self.window_sizes)]
        if len({*lengths, len(self.merge_strides) + 1}) != 1:
            raise ValueError(
                "embed_dims, depths, num_heads, window_sizes need a value per stage, merge_strides one fewer"
            )
        if any(dim % heads for dim, heads in zip(self.embed_dims[1:], self.num_heads[1:], strict=True)):
            raise ValueError(f"num_heads {self.num_heads} do not divide embed_dims {self.embed_dims}")
        if math.prod(self.merge_strides) != 4:
            raise ValueError(f"merge_strides must multiply to 4, not {self.merge_strides}")
        if self.image_size % 16:
            raise ValueError(f"image_size must be a multiple of 16, not {self.image_size}")
        if not 0.0 <= self.drop_path < 1.0:
            raise ValueError(f"drop_path must lie in [0, 1), not {self.drop_path}")


class TinyViT(nn.Module):
    """Pixels (B, 3, S, S) float32, normalised, padded -> :class:`EncoderOutput` with (B, C, S/16, S/16)."""

    def __init__(self, config: TinyViTConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config.embed_dims[0])
        self.layers = nn.ModuleList(Stage(config, i) for i in range(len(config.depths)))
        # The published file carries the classifier of its distillation: kept so that its names load strictly.
        self.norm_head = nn.LayerNorm(config.embed_dims[-1])
        self.head = nn.Linear(config.embed_dims[-1], config.num_classes)
        self.neck = nn.Sequential(
            nn.Conv2d(config.embed_dims[-1], config.out_chans, kernel_size=1, bias=False),
            LayerNorm2d(config.out_chans),
            nn.Conv2d(config.out_chans, config.out_chans, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(config.out_chans),
        )

    def forward(self, pixels: Tensor) -> EncoderOutput:
        """Encode (B, 3, S, S) float32."""
        x = self.patch_embed(pixels)
        for stage in self.layers:
            x = stage(x)
        return EncoderOutput(self.neck(x))


class ConvBN(nn.Module):
    """Convolution without bias, "same" padding, then batch normalisation."""

    def __init__(
        self, in_chans: int, out_chans: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.c = nn.Conv2d(in_chans, out_chans, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out_chans)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, h, w) -> (B, out_chans, h / stride, w / stride)."""
        out: Tensor = self.bn(self.c(x))
        return out


class PatchEmbed(nn.Module):
    """Two strided convolutions: (B, 3, S, S) -> (B, D, S/4, S/4)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(
            ConvBN(3, dim // 2, kernel=3, stride=2), nn.GELU(), ConvBN(dim // 2, dim, kernel=3, stride=2)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Embed the pixels."""
        out: Tensor = self.seq(pixels)
        return out


class Stage(nn.Module):
    """The blocks of stage ``index`` and the merging into the next stage: (B, D, h, w) -> (B, D', h', w')."""

    def __init__(self, config: TinyViTConfig, index: int) -> None:
        super().__init__()
        dim, total, before = config.embed_dims[index], sum(config.depths), sum(config.depths[:index])
        rates = [config.drop_path * (before + i) / max(1, total - 1) for i in range(config.depths[index])]
        self.blocks = nn.ModuleList()
        for rate in rates:
            if index == 0:
                self.blocks.append(MBConv(dim, int(dim * config.expand_ratio), rate))
            else:
                heads, window = config.num_heads[index], config.window_sizes[index]
                self.blocks.append(TinyViTBlock(dim, heads, window, int(dim * config.mlp_ratio), rate))
        self.downsample = None
        if index < len(config.merge_strides):
            self.downsample = PatchMerging(dim, config.embed_dims[index + 1], config.merge_strides[index])

    def forward(self, x: Tensor) -> Tensor:
        """Run the blocks, then merge."""
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class MBConv(nn.Module):
    """Inverted bottleneck with a residual, activated after the sum."""

    def __init__(self, dim: int, hidden_dim: int, drop_path: float) -> None:
        super().__init__()
        self.conv1 = ConvBN(dim, hidden_dim)
        self.conv2 = ConvBN(hidden_dim, hidden_dim, kernel=3, groups=hidden_dim)
        self.conv3 = ConvBN(hidden_dim, dim)
        # Each branch starts at zero, so that a fresh network begins as its stem.
        nn.init.zeros_(self.conv3.bn.weight)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, h, w) -> the same shape."""
        branch = self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))
        return F.gelu(x + self.drop_path(branch))


class PatchMerging(nn.Module):
    """Change width, and halve the resolution where ``stride`` is 2."""

    def __init__(self, dim: int, out_dim: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvBN(dim, out_dim)
        self.conv2 = ConvBN(out_dim, out_dim, kernel=3, stride=stride, groups=out_dim)
        self.conv3 = ConvBN(out_dim, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, D', h / stride, w / stride)."""
        out: Tensor = self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))
        return out


class TinyViTBlock(nn.Module):
    """Windowed attention, depthwise convolution, MLP; the convolution alone has no residual."""

    def __init__(self, dim: int, num_heads: int, window_size: int, mlp_dim: int, drop_path: float) -> None:
        super().__init__()
        self.attn = Attention(dim, num_heads, window_size)
        self.mlp = MLP(dim, mlp_dim)
        self.local_conv = ConvBN(dim, dim, kernel=3, groups=dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, h, w) -> the same shape."""
        tokens = x.permute(0, 2, 3, 1)
        tokens = tokens + self.drop_path(self.attn(tokens))
        mixed: Tensor = self.local_conv(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        out: Tensor = mixed + self.drop_path(self.mlp(mixed))
        return out.permute(0, 3, 1, 2)


class Attention(nn.Module):
    """Pre-norm multi-head attention in windows, with a learned bias for each head and absolute offset."""

    attention_bias_idxs: Tensor

    def __init__(self, dim: int, num_heads: int, side: int) -> None:
        super().__init__()
        self.num_heads, self.side = num_heads, side
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.attention_biases = nn.Parameter(torch.zeros(num_heads, side * side))
        self.register_buffer("attention_bias_idxs", offset_index(side), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, D) -> the same shape."""
        shape, side = (x.shape[1], x.shape[2]), self.side
        # Unlike the ViT's map, this one is padded before the norm, which makes its bias of the zeros.
        padding = F.linear(self.norm.bias, self.qkv.weight, self.qkv.bias)
        windows = partition_windows(self.qkv(self.norm(x)), side, padding)
        # This projection is interleaved, too: query, key and value of one head lie together.
        qkv = windows.flatten(1, 2).unflatten(2, (self.num_heads, 3, -1)).permute(3, 0, 2, 1, 4)
        q, k, v = qkv.unbind(0)
        # Four dimensions: with three, torch falls back to a kernel that holds all scores.
        bias = self.attention_biases[None, :, self.attention_bias_idxs].to(q.dtype)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        joined = join_windows(out.transpose(1, 2).flatten(2).unflatten(1, (side, side)), side, shape)
        projected: Tensor = self.proj(joined)
        return projected


class MLP(nn.Module):
    """LayerNorm, linear, GELU, linear."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(…, D) -> (…, D)."""
        out: Tensor = self.fc2(F.gelu(self.fc1(self.norm(x))))
        return out


def offset_index(side: int) -> Tensor:
    """Which bias serves each pair of a window's positions: (side * side, side * side) int64.

    Offsets (|dy|, |dx|) are numbered row-major: the order in which the published code first meets them.
    """
    steps = torch.arange(side)
    apart = (steps[:, None] - steps[None, :]).abs()
    index = apart[:, None, :, None] * side + apart[None, :, None, :]
    return index.reshape(side * side, side * side)
