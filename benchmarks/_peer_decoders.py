"""One way to call every peer's prompt encoder and mask decoder: prompts in, predicted IoU and logits out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import _peers
import torch
from torch import Tensor

from sam.model import SegmentAnything
from sam.prompts import Prompts

Decode = Callable[[Prompts, bool], tuple[Tensor, Tensor]]
"""Prompts in pixels of the padded square, and whether three masks are wanted -> (N, M) predicted IoU and
(N, M, 4h, 4w) logits."""


def decoders(model: SegmentAnything, features: Tensor) -> dict[str, Decode]:
    """The decoder of every peer that is installed, on (1, C, h, w) features."""
    build = {
        "segment_anything": (_peers.segment_anything_of, published),
        "transformers": (_peers.transformers_of, of_transformers),
        "ultralytics": (_peers.ultralytics_of, published),
    }
    return {name: build[name][1](build[name][0](model), features) for name in _peers.installed()}


def published(peer: Any, features: Tensor) -> Decode:
    """segment-anything's or ultralytics' modules."""

    @torch.inference_mode()
    def decode(prompts: Prompts, multimask: bool) -> tuple[Tensor, Tensor]:
        masks = prompts.mask_logits
        sparse, dense = peer.prompt_encoder(
            points=None if prompts.points is None else (prompts.points, prompts.labels),
            boxes=prompts.boxes,
            masks=None if masks is None else masks[:, None],
        )
        logits, iou = peer.mask_decoder(
            image_embeddings=features,
            image_pe=peer.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
        )
        return iou, logits

    return decode


def of_transformers(peer: Any, features: Tensor) -> Decode:
    """transformers' model, which takes N prompts of one image, or with mask prompts N images of one each."""

    @torch.inference_mode()
    def decode(prompts: Prompts, multimask: bool) -> tuple[Tensor, Tensor]:
        masks = prompts.mask_logits
        axis, image = (0, features) if masks is None else (1, features.expand(len(prompts), -1, -1, -1))
        found = peer(
            image_embeddings=image,
            input_points=None if prompts.points is None else prompts.points.unsqueeze(axis),
            input_labels=None if prompts.labels is None else prompts.labels.unsqueeze(axis),
            input_boxes=None if prompts.boxes is None else prompts.boxes.unsqueeze(axis),
            input_masks=None if masks is None else masks[:, None],
            multimask_output=multimask,
        )
        return found.iou_scores.squeeze(axis), found.pred_masks.squeeze(axis)

    return decode
