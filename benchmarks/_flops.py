"""Multiply-adds of the published encoder and decoder, from their shapes; of ours, as made; their rate.

One multiply-add is 2 FLOP. Matrix products and convolutions count; norms, softmax, activations and additions
do not, which a matrix unit does not do either. Rates are measured (:func:`matmul_rate`), so that a time over
the time of its products at that rate says how far it is from what the machine can do.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from sam.image_encoder.vit import ViTConfig
from sam.variants import DecoderConfig

OUTPUT_TOKENS = 5
"""The IoU token and four mask tokens."""
CLICK_TOKENS = 2
"""A click and the padding point beside it; a box has two corners."""


def vit_macs(config: ViTConfig, *, pad_windows: bool = True) -> int:
    """Multiply-adds of one image through a ViT encoder.

    Args:
        config: its shapes.
        pad_windows: whether the padding of windows goes through the projections, as in the published code;
            its result is the bias, so that nothing requires it. Attention to it is required.
    """
    width, side = config.embed_dim, config.image_size // config.patch_size
    tokens = side * side
    total = tokens * 3 * config.patch_size**2 * width
    for block in range(config.depth):
        if block in config.global_attn_indexes:
            attended, square, across = tokens, tokens, side
        else:
            across = config.window_size
            square = across * across
            attended = (-(-side // across)) ** 2 * square
        projected = attended if pad_windows else tokens
        total += projected * 4 * width * width
        total += 2 * attended * square * width  # queries by keys, weights by values
        total += 2 * attended * across * width  # decomposed positions, along rows and columns
        total += 2 * tokens * width * int(width * config.mlp_ratio)
    neck = width * config.out_chans + 9 * config.out_chans * config.out_chans
    return total + tokens * neck


def decoder_macs(config: DecoderConfig, cells: int, *, prompt_tokens: int = CLICK_TOKENS) -> int:
    """Multiply-adds of one prompt through the published decoder, four masks drawn.

    Args:
        config: its shapes.
        cells: h * w of the image embedding.
        prompt_tokens: of the prompt.
    """
    width, inner = config.embed_dim, config.embed_dim // 2
    tokens = OUTPUT_TOKENS + prompt_tokens
    pair = 2 * tokens * cells * inner  # queries by keys, weights by values
    to_image = 2 * tokens * width * inner + 2 * cells * width * inner + pair
    to_tokens = 2 * cells * width * inner + 2 * tokens * width * inner + pair
    alone = 4 * tokens * width * width + 2 * tokens * tokens * width + 2 * tokens * width * config.mlp_dim
    return config.depth * (to_image + to_tokens + alone) + to_image + _drawn(config, cells, masks=4)


def _baddbmm(added: Any, a: Any, b: Any, *, out_val: Any, **_: Any) -> int:
    """FLOP of the products of (n, r, k) and (n, k, c)."""
    n, rows, inner = a.shape
    return int(2 * n * rows * inner * b.shape[-1])


_baddbmm._get_raw = True  # type: ignore[attr-defined]  # torch's mark for functions that want the tensors
IN_PLACE = {torch.ops.aten.baddbmm_: _baddbmm}
"""Products that torch's own counter passes over."""


def counted(run: Callable[[], Any]) -> int:
    """FLOP of the products and convolutions that ``run`` makes, as torch counts them; not timed."""
    with FlopCounterMode(display=False, custom_mapping=IN_PLACE) as counter, torch.inference_mode():
        run()
    return int(counter.get_total_flops())


def _drawn(config: DecoderConfig, cells: int, masks: int) -> int:
    """Upscaling, the classifiers of ``masks`` masks, and the IoU head."""
    width = config.embed_dim
    upscaling = cells * width * width + 4 * cells * (width // 4) * (width // 2)
    classifiers = masks * (2 * width * width + width * (width // 8)) + masks * 16 * cells * (width // 8)
    hidden = config.iou_head_hidden_dim
    return upscaling + classifiers + width * hidden + hidden * hidden + 4 * hidden


def matmul_rate(dtype: torch.dtype = torch.float32, side: int = 2048, repeats: int = 5) -> dict[str, float]:
    """Measured FLOP/s of square products: median, least and most of ``repeats``."""
    a, b = (torch.randn(side, side).to(dtype) for _ in range(2))
    rates = []
    with torch.inference_mode():
        a @ b
        for _ in range(repeats):
            started = time.perf_counter()
            a @ b
            rates.append(2 * side**3 / (time.perf_counter() - started))
    return {"median": statistics.median(rates), "low": min(rates), "high": max(rates)}
