"""A small Segment Anything, built of segment-anything's own classes, that answers with blobs around a click.

Random weights answer every click of a photo with the same mask, so that suppression leaves one and a parity
test of automatic masks has nothing to match. Here the weights are random where that does no harm, and wired
by hand where a mask has to follow its click.
"""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np
import numpy.typing as npt
import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import nn
from torch.nn import functional as F

SIDE = 256
DIM = 64
CELLS = SIDE // 16
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
CUTS = (-5.0, -12.0, -6.0, -2.0)
"""For each mask token, how far its logits are lowered: small, middling and large blobs."""
IOU_BIASES = (0.7, 1.1, -0.2, 1.5)
"""For each mask token, what brings its predicted IoU near 0.9 with these weights."""


def smooth_photo(height: int, width: int, seed: int, cells: int = 5) -> npt.NDArray[np.uint8]:
    """(height, width, 3) uint8: soft patches of colour."""
    colours = np.random.default_rng(seed).integers(0, 256, (cells, cells + 2, 3), dtype=np.uint8)
    return cv2.resize(colours, (width, height), interpolation=cv2.INTER_CUBIC)


def build_small_sam(seed: int = 0) -> Sam:
    """The model, in evaluation mode."""
    torch.manual_seed(seed)
    encoder = ImageEncoderViT(
        img_size=SIDE,
        patch_size=16,
        embed_dim=32,
        depth=2,
        num_heads=2,
        mlp_ratio=4,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        qkv_bias=True,
        use_rel_pos=True,
        global_attn_indexes=(1,),
        window_size=7,
        out_chans=DIM,
    )
    prompts = PromptEncoder(DIM, (CELLS, CELLS), (SIDE, SIDE), mask_in_chans=16)
    transformer = TwoWayTransformer(depth=2, embedding_dim=DIM, mlp_dim=256, num_heads=1)
    decoder = MaskDecoder(
        transformer_dim=DIM,
        transformer=transformer,
        num_multimask_outputs=3,
        iou_head_depth=3,
        iou_head_hidden_dim=64,
    )
    sam = Sam(encoder, prompts, decoder, MEAN, STD).eval()
    for name, parameter in sam.image_encoder.named_parameters():
        if "rel_pos" in name or name == "pos_embed":  # zero at birth: then a parity test would not see them
            nn.init.normal_(parameter, std=0.1)
    answer_with_blobs(sam)
    return sam


@torch.no_grad()
def answer_with_blobs(sam: Sam, seed: int = 0) -> None:
    """Rewire the random decoder so that every click is answered by blobs around it.

    Cells whose position resembles the clicked one attend to its token, whose value moves them along one
    direction; the upscaling reads that direction, and each mask token cuts it at another height and mixes in
    what the image looks like there.
    """
    generator = torch.Generator().manual_seed(seed)
    decoder, prompts = sam.mask_decoder, sam.prompt_encoder
    mark = F.normalize(torch.randn(DIM, generator=generator), dim=0)
    for embedding in (prompts.point_embeddings[1], prompts.not_a_point_embed):
        embedding.weight.mul_(0.3)
    decoder.mask_tokens.weight.mul_(0.3)
    decoder.iou_token.weight.mul_(0.3)
    clicked = F.normalize(prompts.point_embeddings[1].weight[0], dim=0)
    prompts.point_embeddings[1].weight.copy_(12 * clicked[None])
    # The first self-attention has no residual: random weights would blend all tokens.
    keep = decoder.transformer.layers[0].self_attn
    for linear, gain in ((keep.q_proj, 3.0), (keep.k_proj, 3.0), (keep.v_proj, 1.0), (keep.out_proj, 1.0)):
        linear.weight.copy_(gain * torch.eye(DIM))
        linear.bias.zero_()
    for layer in decoder.transformer.layers:
        # Quiet the tokens, or their random part drowns where they are.
        layer.norm3.weight.fill_(0.3)
        attention = layer.cross_attn_image_to_token
        places = torch.randn(DIM // 2, DIM, generator=generator) / DIM**0.5
        places -= (places @ clicked)[:, None] * clicked
        attention.q_proj.weight.copy_(places)
        attention.k_proj.weight.copy_(places)
        attention.v_proj.weight.copy_(clicked.expand(DIM // 2, DIM))
        attention.out_proj.weight.copy_(4 * mark[:, None].expand(DIM, DIM // 2) / (DIM // 2))
        for linear in (attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj):
            linear.bias.zero_()
    first, _, _, second, _ = decoder.output_upscaling
    for conv in (first, second):  # one value for all four pixels of a cell, or every mask would be a grid
        conv.weight.copy_(conv.weight.mean((2, 3), keepdim=True).expand_as(conv.weight))
    first.weight.mul_(8.0)
    first.weight[:, 0], first.bias[0] = mark[:, None, None], -3.0
    second.weight[0, 0], second.weight[1:, 0] = 3.0, 0.0
    second.weight[:, 1], second.bias[1] = 0.0, 1.0
    for token, mlp in enumerate(decoder.output_hypernetworks_mlps):
        last = mlp.layers[-1]
        last.weight.mul_(4.0)
        last.bias.copy_(4 * torch.randn(DIM // 8, generator=generator))
        last.bias[0], last.bias[1] = 6.0, CUTS[token]
    head = decoder.iou_prediction_head.layers
    head[0].weight.mul_(4.0)
    head[-1].weight.mul_(4.0)
    head[-1].bias.copy_(torch.tensor(IOU_BIASES))
