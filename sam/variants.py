"""Model variants: a frozen description of a segmenter, and the function that builds it (random weights).

The descriptions themselves are data, in ``configs/models/*.yaml``; reading files is the composer's job.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from torch import nn

from sam.errors import UsageError
from sam.image_encoder.compact import CompactConfig, CompactEncoder
from sam.image_encoder.tiny_vit import TinyViT, TinyViTConfig
from sam.image_encoder.vit import ImageEncoderViT, ViTConfig
from sam.mask_decoder import MaskDecoder
from sam.model import SegmentAnything
from sam.prompt_encoder import PromptEncoder

EncoderConfig = ViTConfig | TinyViTConfig | CompactConfig
ENCODER_FAMILIES: dict[str, type[EncoderConfig]] = {
    "vit": ViTConfig,
    "tiny_vit": TinyViTConfig,
    "compact": CompactConfig,
}


@dataclass(frozen=True)
class DecoderConfig:
    """Prompt encoder and mask decoder; the defaults are the paper's (App. A)."""

    embed_dim: int = 256
    depth: int = 2
    num_heads: int = 8
    mlp_dim: int = 2048
    iou_head_hidden_dim: int = 256
    mask_in_chans: int = 16
    text_dim: int | None = None


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides a segmenter's shapes."""

    name: str
    encoder: EncoderConfig
    decoder: DecoderConfig = field(default_factory=DecoderConfig)

    @classmethod
    def from_mapping(cls, name: str, values: Mapping[str, Any]) -> ModelConfig:
        """Check and convert ``{"encoder": {"family": …, …}, "decoder": {…}}`` as read from YAML.

        Raises:
            UsageError: an unknown family or key, naming what is known.
        """
        unknown = set(values) - {"encoder", "decoder", "description"}
        if unknown:
            raise UsageError(
                f"model {name}: unknown key {sorted(unknown)[0]!r}; known: encoder, decoder, description"
            )
        options = dict(values.get("encoder") or {})
        family = options.pop("family", None)
        if family not in ENCODER_FAMILIES:
            raise UsageError(f"model {name}: encoder family {family!r}; known: {', '.join(ENCODER_FAMILIES)}")
        encoder = _from_options(ENCODER_FAMILIES[family], options, f"model {name}, encoder")
        decoder = _from_options(DecoderConfig, dict(values.get("decoder") or {}), f"model {name}, decoder")
        if encoder.out_chans != decoder.embed_dim:
            raise UsageError(
                f"model {name}: the encoder gives {encoder.out_chans} channels (out_chans), and the "
                f"decoder takes {decoder.embed_dim} (embed_dim)"
            )
        if decoder.embed_dim // 2 % decoder.num_heads:
            raise UsageError(
                f"model {name}, decoder: half of embed_dim, {decoder.embed_dim // 2}, is not divided by "
                f"num_heads, {decoder.num_heads}"
            )
        return cls(name, encoder, decoder)


def build_model(config: ModelConfig) -> SegmentAnything:
    """A segmenter with random weights, in evaluation mode."""
    model = SegmentAnything(
        _build_encoder(config.encoder),
        PromptEncoder(
            config.decoder.embed_dim,
            config.encoder.image_size,
            config.decoder.mask_in_chans,
            config.decoder.text_dim,
        ),
        MaskDecoder(
            config.decoder.embed_dim,
            config.decoder.depth,
            config.decoder.num_heads,
            config.decoder.mlp_dim,
            config.decoder.iou_head_hidden_dim,
        ),
    )
    return model.eval()


def _build_encoder(config: EncoderConfig) -> nn.Module:
    if isinstance(config, ViTConfig):
        return ImageEncoderViT(config)
    if isinstance(config, TinyViTConfig):
        return TinyViT(config)
    return CompactEncoder(config)


def _from_options(cls: type[Any], options: dict[str, Any], where: str) -> Any:
    known = {f.name for f in fields(cls)}
    unknown = set(options) - known
    if unknown:
        raise UsageError(f"{where}: unknown key {sorted(unknown)[0]!r}; known: {', '.join(sorted(known))}")
    converted = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    try:
        return cls(**converted)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where}: {error}") from error
