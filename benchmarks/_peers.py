"""Other implementations of Segment Anything, built with the very weights of one of our models.

segment-anything and ultralytics keep the names of the published checkpoints, as we do; transformers has its
own, which :func:`transformers_names` translates. No file is downloaded. An encoder that is not a ViT has no
counterpart there: ours is put behind each peer's decoder then, so that all of them see the same features
(:class:`OurEncoder`), and the skips of ``compact`` are left out, for which the peers have no room.
"""

from __future__ import annotations

import re
from functools import partial
from importlib import metadata
from typing import Any

import torch
from torch import Tensor, nn

from sam.image_encoder import EncoderOutput
from sam.image_encoder.vit import LAYER_NORM_EPS, ImageEncoderViT
from sam.mask_decoder import MLP
from sam.model import PIXEL_MEAN, PIXEL_STD, SegmentAnything

PEERS = {"segment_anything": "segment-anything", "transformers": "transformers", "ultralytics": "ultralytics"}
"""Names of the peers in results, and their distributions."""
RENAMED = (
    (r"^image_encoder\.patch_embed\.proj\.", "vision_encoder.patch_embed.projection."),
    (r"^image_encoder\.blocks\.(\d+)\.norm(\d)\.", r"vision_encoder.layers.\1.layer_norm\2."),
    (r"^image_encoder\.blocks\.", "vision_encoder.layers."),
    (r"^image_encoder\.neck\.0\.", "vision_encoder.neck.conv1."),
    (r"^image_encoder\.neck\.1\.", "vision_encoder.neck.layer_norm1."),
    (r"^image_encoder\.neck\.2\.", "vision_encoder.neck.conv2."),
    (r"^image_encoder\.neck\.3\.", "vision_encoder.neck.layer_norm2."),
    (r"^image_encoder\.", "vision_encoder."),
    (r"^prompt_encoder\.point_embeddings\.", "prompt_encoder.point_embed."),
    (r"^prompt_encoder\.mask_downscaling\.0\.", "prompt_encoder.mask_embed.conv1."),
    (r"^prompt_encoder\.mask_downscaling\.1\.", "prompt_encoder.mask_embed.layer_norm1."),
    (r"^prompt_encoder\.mask_downscaling\.3\.", "prompt_encoder.mask_embed.conv2."),
    (r"^prompt_encoder\.mask_downscaling\.4\.", "prompt_encoder.mask_embed.layer_norm2."),
    (r"^prompt_encoder\.mask_downscaling\.6\.", "prompt_encoder.mask_embed.conv3."),
    (r"^mask_decoder\.output_upscaling\.0\.", "mask_decoder.upscale_conv1."),
    (r"^mask_decoder\.output_upscaling\.1\.", "mask_decoder.upscale_layer_norm."),
    (r"^mask_decoder\.output_upscaling\.3\.", "mask_decoder.upscale_conv2."),
    (r"^mask_decoder\.transformer\.norm_final_attn\.", "mask_decoder.transformer.layer_norm_final_attn."),
    (r"^(mask_decoder\.transformer\.layers\.\d+)\.norm(\d)\.", r"\1.layer_norm\2."),
    (r"^(mask_decoder\.(?:iou_prediction_head|output_hypernetworks_mlps\.\d+))\.layers\.0\.", r"\1.proj_in."),
    (
        r"^(mask_decoder\.(?:iou_prediction_head|output_hypernetworks_mlps\.\d+))\.layers\.1\.",
        r"\1.layers.0.",
    ),
    (
        r"^(mask_decoder\.(?:iou_prediction_head|output_hypernetworks_mlps\.\d+))\.layers\.2\.",
        r"\1.proj_out.",
    ),
)
"""Patterns of our names and what transformers writes; the first that fits is used."""
POSITIONS = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
POSITIONS_THERE = (
    "shared_image_embedding.positional_embedding",
    "prompt_encoder.shared_embedding.positional_embedding",
)


def installed() -> dict[str, str]:
    """Versions of the peers that are here, by their names in results."""
    found = {}
    for name, distribution in PEERS.items():
        try:
            found[name] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return found


def segment_anything_of(model: SegmentAnything) -> Any:
    """segment-anything's ``Sam`` with the weights of ``model``."""
    from segment_anything.modeling import ImageEncoderViT as Encoder
    from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    parts = _published_parts(model, Encoder, PromptEncoder, MaskDecoder, TwoWayTransformer)
    return _with_weights(Sam(*parts, list(PIXEL_MEAN), list(PIXEL_STD)), model)


def ultralytics_of(model: SegmentAnything) -> Any:
    """ultralytics' ``SAMModel`` with the weights of ``model``."""
    from ultralytics.models.sam.modules.decoders import MaskDecoder
    from ultralytics.models.sam.modules.encoders import ImageEncoderViT as Encoder
    from ultralytics.models.sam.modules.encoders import PromptEncoder
    from ultralytics.models.sam.modules.sam import SAMModel
    from ultralytics.models.sam.modules.transformer import TwoWayTransformer

    parts = _published_parts(model, Encoder, PromptEncoder, MaskDecoder, TwoWayTransformer)
    peer = _with_weights(SAMModel(*parts), model)
    peer.set_imgsz((model.image_size, model.image_size))
    return peer


def ultralytics_mobile_of(model: SegmentAnything) -> Any:
    """ultralytics' MobileSAM with the weights of ``model``, whose encoder is the published TinyViT."""
    from ultralytics.models.sam.build import build_mobile_sam

    peer = build_mobile_sam()
    peer.load_state_dict(model.state_dict(), strict=True)
    return peer.train().eval()  # it keeps biases of its own making when the mode changes


def ultralytics_predictor(model: SegmentAnything) -> Any:
    """ultralytics' SAM predictor around :func:`ultralytics_of`, keeping what it finds whatever its score."""
    from ultralytics.models.sam.predict import Predictor

    predictor = Predictor(overrides={"imgsz": model.image_size, "save": False, "verbose": False, "conf": 0.0})
    predictor.setup_model(ultralytics_of(model), verbose=False)
    predictor.args.conf = -1e9  # its check of settings allows no less than 0, and drops what scores below
    return predictor


def transformers_of(model: SegmentAnything) -> Any:
    """transformers' ``SamModel`` with the weights of ``model``."""
    from transformers import SamConfig, SamModel

    decoder, side = model.mask_decoder, model.image_size
    channels = decoder.iou_token.embedding_dim
    block = decoder.transformer.layers[0]
    vision: dict[str, Any] = {"image_size": side, "output_channels": channels, "num_pos_feats": channels // 2}
    if isinstance(model.image_encoder, ImageEncoderViT):
        shape = model.image_encoder.config
        vision |= {
            "hidden_size": shape.embed_dim,
            "num_hidden_layers": shape.depth,
            "num_attention_heads": shape.num_heads,
            "patch_size": shape.patch_size,
            "window_size": shape.window_size,
            "global_attn_indexes": list(shape.global_attn_indexes),
            "mlp_dim": int(shape.embed_dim * shape.mlp_ratio),
        }
    else:  # built, and put aside for ours
        vision |= {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "mlp_dim": 8}
    config = SamConfig(
        vision_config=vision,
        prompt_encoder_config={
            "hidden_size": channels,
            "image_size": side,
            "mask_input_channels": _mask_in_chans(model),
        },
        mask_decoder_config={
            "hidden_size": channels,
            "mlp_dim": block.mlp.lin1.out_features,
            "num_hidden_layers": len(decoder.transformer.layers),
            "num_attention_heads": block.self_attn.num_heads,
            "iou_head_hidden_dim": _hidden(decoder.iou_prediction_head),
            "layer_norm_eps": decoder.transformer.norm_final_attn.eps,  # 1e-5 as published, 1e-6 by default
        },
    )
    peer = SamModel(config)
    if not isinstance(model.image_encoder, ImageEncoderViT):
        peer.vision_encoder = OurVisionEncoder(model.image_encoder)
    # It works on the tensors of its own file's names; ours under `vision_encoder.` are shared already.
    peer.load_state_dict(transformers_names(model), strict=True)
    return peer.eval()


def transformers_pipeline(model: SegmentAnything) -> Any:
    """transformers' mask-generation pipeline around :func:`transformers_of`."""
    from transformers import MaskGenerationPipeline

    return MaskGenerationPipeline(
        model=transformers_of(model), image_processor=transformers_processor(model), device="cpu"
    )


def transformers_processor(model: SegmentAnything) -> Any:
    """Its image processor for the input side of ``model``."""
    from transformers import SamImageProcessor

    side = model.image_size
    return SamImageProcessor(size={"longest_edge": side}, pad_size={"height": side, "width": side})


def transformers_names(model: SegmentAnything) -> dict[str, Tensor]:
    """The state dict of ``model`` under transformers' names."""
    found: dict[str, Tensor] = {}
    vit = isinstance(model.image_encoder, ImageEncoderViT)
    for name, value in model.state_dict().items():
        if name == POSITIONS:
            found |= dict.fromkeys(POSITIONS_THERE, value)
        elif name.startswith("image_encoder.") and not vit:
            found["vision_encoder.encoder." + name.removeprefix("image_encoder.")] = value
        else:
            found[_translated(name)] = value
    return found


class OurEncoder(nn.Module):
    """An encoder of ours in the place of a peer's: it gives the embedding alone, without skips.

    Args:
        encoder: of our model, shared and not copied.
        side: of its input square, pixels.
    """

    def __init__(self, encoder: nn.Module, side: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.img_size = side

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) float32 -> (B, C, h, w)."""
        out: EncoderOutput = self.encoder(pixels)
        return out.image_embedding


class OurVisionEncoder(nn.Module):
    """The same for transformers, which wants the embedding in a record."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, pixel_values: Tensor, **_: Any) -> Any:
        """(B, 3, S, S) float32 -> a record whose ``last_hidden_state`` is (B, C, h, w)."""
        from transformers.models.sam.modeling_sam import SamVisionEncoderOutput

        return SamVisionEncoderOutput(last_hidden_state=self.encoder(pixel_values).image_embedding)


def _published_parts(
    model: SegmentAnything, encoder: Any, prompt_encoder: Any, mask_decoder: Any, transformer: Any
) -> tuple[Any, Any, Any]:
    """Encoder, prompt encoder and mask decoder of classes that keep segment-anything's arguments."""
    decoder, side = model.mask_decoder, model.image_size
    channels, cells = decoder.iou_token.embedding_dim, side // 16
    block = decoder.transformer.layers[0]
    if isinstance(model.image_encoder, ImageEncoderViT):
        shape = model.image_encoder.config
        image_encoder = encoder(
            img_size=side,
            patch_size=shape.patch_size,
            embed_dim=shape.embed_dim,
            depth=shape.depth,
            num_heads=shape.num_heads,
            mlp_ratio=shape.mlp_ratio,
            out_chans=shape.out_chans,
            qkv_bias=True,
            norm_layer=partial(nn.LayerNorm, eps=LAYER_NORM_EPS),
            use_rel_pos=True,
            window_size=shape.window_size,
            global_attn_indexes=shape.global_attn_indexes,
        )
    else:
        image_encoder = OurEncoder(model.image_encoder, side)
    prompts = prompt_encoder(
        embed_dim=channels,
        image_embedding_size=(cells, cells),
        input_image_size=(side, side),
        mask_in_chans=_mask_in_chans(model),
    )
    masks = mask_decoder(
        transformer_dim=channels,
        transformer=transformer(
            depth=len(decoder.transformer.layers),
            embedding_dim=channels,
            num_heads=block.self_attn.num_heads,
            mlp_dim=block.mlp.lin1.out_features,
        ),
        num_multimask_outputs=3,
        iou_head_depth=3,
        iou_head_hidden_dim=_hidden(decoder.iou_prediction_head),
    )
    return image_encoder, prompts, masks


def _with_weights(peer: Any, model: SegmentAnything) -> Any:
    """``peer`` after loading the state dict of ``model``, strictly, in evaluation mode."""
    weights = model.state_dict()
    if isinstance(peer.image_encoder, OurEncoder):
        inside = "image_encoder.encoder."
        weights = {re.sub(r"^image_encoder\.", inside, name): value for name, value in weights.items()}
    peer.load_state_dict(weights, strict=True)
    return peer.eval()


def _translated(name: str) -> str:
    for pattern, there in RENAMED:
        renamed, count = re.subn(pattern, there, name)
        if count:
            return renamed
    return name


def _mask_in_chans(model: SegmentAnything) -> int:
    last = model.prompt_encoder.mask_downscaling[6]
    assert isinstance(last, nn.Conv2d)
    return last.in_channels


def _hidden(head: nn.Module) -> int:
    assert isinstance(head, MLP)
    first = head.layers[0]
    assert isinstance(first, nn.Linear)
    return first.out_features


def without_skips(model: SegmentAnything) -> SegmentAnything:
    """``model`` with its encoder behind :class:`PlainEncoder`, so that it sees what the peers see."""
    if isinstance(model.image_encoder, ImageEncoderViT):
        return model
    plain = SegmentAnything(PlainEncoder(model.image_encoder), model.prompt_encoder, model.mask_decoder)
    return plain.eval()


class PlainEncoder(nn.Module):
    """An encoder of ours without its skips and edges."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, pixels: Tensor) -> EncoderOutput:
        """(B, 3, S, S) float32 -> the embedding alone."""
        out: EncoderOutput = self.encoder(pixels)
        return EncoderOutput(out.image_embedding)


def embedding_of(peer_name: str, peer: Any, pixels: Tensor) -> Tensor:
    """(1, C, h, w) of a peer's encoder for (1, 3, S, S) normalised and padded pixels."""
    with torch.inference_mode():
        if peer_name == "transformers":
            found: Tensor = peer.get_image_embeddings(pixels)
        else:
            found = peer.image_encoder(pixels)
    return found
