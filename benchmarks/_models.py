"""Models and photos that benchmarks run: `tiny` without its skips, and ViT shapes whose clicks get blobs."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import _flops
import numpy as np
import numpy.typing as npt
import torch
from _peers import without_skips
from PIL import Image
from torch import nn
from torch.nn import functional as F

from adapters.base import Defaults, Scene
from composer.presets import load_model_config, load_preset
from composer.weights import locate
from sam.allocation import keep_freed_memory
from sam.checkpoints import load_weights
from sam.embedding import Embedding, resize_longest_side
from sam.image_encoder.vit import ImageEncoderViT, ViTConfig
from sam.mask_decoder import MaskDecoder
from sam.model import SegmentAnything
from sam.precision import choose_precision
from sam.prompt_encoder import PromptEncoder
from sam.variants import build_model

Pixels = npt.NDArray[np.uint8]
MODELS = {"vit_b": "ViT-B shape", "tiny": "tiny"}
"""What :func:`named` makes, as reports call it."""
PHOTO_SIZE = (1200, 1800)
"""(height, width) that automatic masks are measured at, pixels."""
IMAGE = 0.2
"""Size of the image embedding: that of trained models is small beside the positions."""
LOUDNESS = 2.0
"""How much of a cell is the mark of the click, against what the image looks like there."""
SHARPNESS = 1.0
"""How fast attention to a click falls with the distance from it."""
TEXTURE = 0.3
"""How much of what the image looks like is mixed into the masks."""
CUTS = (-43.0, -47.0, -43.0, -40.0)
"""For each mask token, how far its logits are lowered: none asked, then small, middling and large blobs."""


def bundled_photo() -> Path:
    """bus.jpg, which the ultralytics package brings along; it is not imported."""
    spec = importlib.util.find_spec("ultralytics")
    assert spec is not None and spec.submodule_search_locations, (
        "ultralytics brings the photo, and is not here"
    )
    return Path(next(iter(spec.submodule_search_locations)), "assets", "bus.jpg")


def photo(height: int = PHOTO_SIZE[0], width: int = PHOTO_SIZE[1]) -> Pixels:
    """(height, width, 3) uint8 RGB: the middle of :func:`bundled_photo`, as wide as asked."""
    picture = Image.open(bundled_photo()).convert("RGB")
    full = max(height, width * picture.height // picture.width)
    top = (full - height) // 2
    whole = picture.resize((width, full), Image.Resampling.LANCZOS)
    return np.array(whole.crop((0, top, width, top + height)))


def tiny() -> SegmentAnything:
    """`tiny` with its own weights, without its encoder's skips: published decoders have no room for those."""
    preset = load_preset("tiny")
    model = build_model(preset.model)
    load_weights(model, locate(preset), sha256=preset.weights.sha256, size=preset.weights.bytes)
    return ready(without_skips(model))


def ready(model: SegmentAnything) -> SegmentAnything:
    """As :class:`composer.Composer` sets a model up on a CPU: number format, and freed memory kept."""
    keep_freed_memory()
    model.compute_in(choose_precision(torch.device("cpu")).dtype)
    return model


def random_weights(name: str, seed: int = 0) -> SegmentAnything:
    """A model of ``configs/models`` as it is born; positions are not zero, as no trained model's are."""
    torch.manual_seed(seed)
    model = build_model(load_model_config(name)).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.image_encoder.named_parameters():
            if "rel_pos" in parameter_name:
                nn.init.normal_(parameter, std=0.1)
    return ready(model)


def blobs(name: str, seed: int = 0) -> SegmentAnything:
    """:func:`random_weights`, its decoder wired so that a click is answered by blobs around it.

    A random decoder answers every click of a photo alike and with noise: masks with a hundred thousand pixels
    of border, of which suppression leaves one. No trained model works so. The products and their shapes are
    those of the random decoder; what changes is the length of the borders and the number of survivors.
    """
    model = random_weights(name, seed)
    with torch.no_grad():
        model.image_encoder.neck[3].weight.mul_(IMAGE)  # type: ignore[index, operator]
        model.image_encoder.neck[3].bias.mul_(IMAGE)  # type: ignore[index, operator]
        _answer_with_blobs(model.prompt_encoder, model.mask_decoder, seed)
    return model


def encoded(model: SegmentAnything, pixels: Pixels) -> Scene:
    """The photo with an embedding that no time was spent on, for what is measured after encoding.

    Of a ViT smooth random numbers as large as the embeddings of :func:`blobs`; of others their own, which is
    soon made.
    """
    if isinstance(model.image_encoder, ImageEncoderViT):
        side, (height, width) = model.image_size // 16, pixels.shape[:2]
        noise = torch.randn(
            1,
            model.mask_decoder.iou_token.embedding_dim,
            side,
            side,
            generator=torch.Generator().manual_seed(0),
        )
        smooth = F.interpolate(F.avg_pool2d(noise, 4), (side, side), mode="bicubic")
        inside = resize_longest_side(pixels, model.image_size).shape
        embedding = Embedding(4 * IMAGE * smooth, (), None, (inside[0], inside[1]), (height, width), "")
    else:
        embedding = model.encode([pixels])[0]
    return Scene(pixels, model, lambda _: embedding, Defaults())


def named(name: str) -> SegmentAnything:
    """`tiny`, or a ViT shape that answers with blobs, set up as :class:`composer.Composer` does."""
    model = tiny() if name == "tiny" else blobs(name)
    model.prepare()
    return model


def products(
    name: str, model: SegmentAnything, run: Callable[[], Any], prompts: int, *, encodes: bool = False
) -> dict[str, float]:
    """GFLOP of the products that ``run`` makes, and of those that the published code makes for the same.

    Args:
        name: of the model.
        model: itself.
        run: what was timed of ours; it is run once more.
        prompts: of ``run``.
        encodes: whether it encodes the photo too.
    """
    config = load_model_config(name)
    published = 2 * prompts * _flops.decoder_macs(config.decoder, (config.encoder.image_size // 16) ** 2)
    if encodes and isinstance(config.encoder, ViTConfig):
        published += 2 * _flops.vit_macs(config.encoder)
    elif encodes:  # the peers run ours
        side = model.image_size
        published += _flops.counted(lambda: model.image_encoder(torch.zeros(1, 3, side, side)))
    with in_float32(model) if encodes else nullcontext():
        found = {"gflop": _flops.counted(run), "gflop_published": published}
    return {key: float(f"{value / 1e9:.4g}") for key, value in found.items()}


@contextmanager
def in_float32(model: SegmentAnything) -> Iterator[None]:
    """For counting: torch's counter takes attention layers apart below autocast, which bf16 weights need."""
    before = model.compute_dtype, model.decode_dtype
    if before[0] is torch.float32:
        yield
        return
    try:
        model.compute_in(torch.float32)
        model.prepare()
        yield
    finally:
        model.compute_dtype, model.decode_dtype = before
        model.prepare()


def _answer_with_blobs(prompts: PromptEncoder, decoder: MaskDecoder, seed: int) -> None:
    """Wire the attention from image to tokens to bring a click's place forward, and the upscaling to show it.

    Cells whose position resembles the clicked one's attend to its token, whose value moves them along one
    direction, ``mark``; one channel of the upscaling reads it; each mask token cuts that at another height.
    """
    generator = torch.Generator().manual_seed(seed)
    dim = decoder.iou_token.embedding_dim
    mark = F.one_hot(torch.tensor(0), dim).float()
    click = prompts.point_embeddings[1]
    assert isinstance(click, nn.Embedding)
    clicked = F.normalize(click.weight[0], dim=0)
    for embedding in (prompts.not_a_point_embed, decoder.mask_tokens, decoder.iou_token):
        embedding.weight.mul_(0.3)
    click.weight.copy_(1.5 * dim**0.5 * clicked[None])
    # The first self-attention has no residual: random weights would blend all tokens.
    keep = decoder.transformer.layers[0].self_attn
    for linear, gain in ((keep.q_proj, 3.0), (keep.k_proj, 3.0), (keep.v_proj, 1.0), (keep.out_proj, 1.0)):
        linear.weight.copy_(gain * torch.eye(dim))
        linear.bias.zero_()
    for layer in decoder.transformer.layers:
        layer.norm3.weight.fill_(0.3)  # quiet the tokens, or their random part drowns where they are
        attention = layer.cross_attn_image_to_token
        inner = attention.q_proj.out_features
        places = torch.randn(inner, dim, generator=generator) / dim**0.5
        places -= (places @ clicked)[:, None] * clicked
        gain = (attention.num_heads**0.5 * SHARPNESS) ** 0.5  # a head sees a part of the places alone
        attention.q_proj.weight.copy_(gain * places)
        attention.k_proj.weight.copy_(gain * places)
        attention.v_proj.weight.copy_(clicked.expand(inner, dim))
        attention.out_proj.weight.copy_(LOUDNESS * mark[:, None].expand(dim, inner) / inner)
        for linear in (attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj):
            linear.bias.zero_()
    _read_the_mark(decoder, mark, generator)


def _read_the_mark(decoder: MaskDecoder, mark: torch.Tensor, generator: torch.Generator) -> None:
    first, second = decoder.output_upscaling[0], decoder.output_upscaling[3]
    assert isinstance(first, nn.ConvTranspose2d) and isinstance(second, nn.ConvTranspose2d)
    assert first.bias is not None and second.bias is not None
    for conv in (first, second):  # one value for all four pixels of a cell, or every mask would be a grid
        conv.weight.copy_(conv.weight.mean((2, 3), keepdim=True).expand_as(conv.weight))
    first.weight.mul_(8.0)
    first.weight[:, 0], first.bias[0] = mark[:, None, None], -3.0
    second.weight[0, 0], second.weight[1:, 0] = 3.0, 0.0
    second.weight[:, 1], second.bias[1] = 0.0, 1.0
    channels = second.out_channels
    for token, mlp in enumerate(decoder.output_hypernetworks_mlps):
        last = mlp.layers[-1]
        last.bias.copy_(TEXTURE * torch.randn(channels, generator=generator))
        last.bias[0], last.bias[1] = 6.0, CUTS[token]
    head = decoder.iou_prediction_head.layers
    head[0].weight.mul_(4.0)
    head[-1].weight.mul_(2.0)
    head[-1].bias.fill_(0.9)
