"""A loaded segmenter as the teacher of another: what it sees in a canvas, and what it answers to a prompt."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from sam.image_encoder import EncoderOutput
from sam.mask_decoder import NUM_MASK_TOKENS
from sam.model import SegmentAnything
from sam.training.interactive import Round
from sam.training.losses import bce_loss, dice_loss


class Seen(NamedTuple):
    """What a teacher sees in B canvases.

    Attributes:
        image_embedding: (B, C, h, w) float32.
        quadrants: of its encoder's skips: :meth:`sam.mask_decoder.MaskDecoder.in_quadrants`.
    """

    image_embedding: Tensor
    quadrants: tuple[Tensor, ...]


class Teacher:
    """A segmenter that is asked the same prompts as its student, and is not trained.

    Args:
        model: of any family, its weights loaded.
        dtype: of its large products.
    """

    def __init__(self, model: SegmentAnything, dtype: torch.dtype = torch.float32) -> None:
        self.model = model.eval().requires_grad_(False)
        self.dtype = dtype

    @torch.inference_mode()
    def look(self, pixels: Tensor) -> Seen:
        """Encode normalised, padded canvases (B, 3, S, S) of any side S, resized to the teacher's own."""
        side = self.model.image_size
        if pixels.shape[-1] != side:
            pixels = F.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
        with torch.autocast(pixels.device.type, self.dtype, enabled=self.dtype != torch.float32):
            seen: EncoderOutput = self.model.running_encoder(pixels)
        embedding = seen.image_embedding.float()
        skips = tuple(f.float() for f in seen.high_res_features)
        size = (embedding.shape[-2], embedding.shape[-1])
        return Seen(embedding, self.model.mask_decoder.in_quadrants(skips, size))

    @torch.inference_mode()
    def answer(self, seen: Seen, images: Tensor, prompt: Round, previous: Tensor | None, side: int) -> Tensor:
        """The logits of all four masks (N, 4, 4h, 4w) at the teacher's own resolution.

        Args:
            seen: of :meth:`look`.
            images: (N,) the canvas of each prompt.
            prompt: in pixels of the student's canvases.
            previous: (N, h', w') logits of the student's last answer, or None.
            side: of the student's canvases, pixels.
        """
        features = seen.image_embedding[images]
        if previous is not None:
            size = [4 * length for length in features.shape[-2:]]
            previous = F.interpolate(previous[:, None], size, mode="bilinear")[:, 0]
        quadrants = tuple(of_images[images] for of_images in seen.quadrants)
        with torch.autocast(features.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return decode_all(self.model, features, quadrants, prompt, previous, side)[0]


def decode_all(
    model: SegmentAnything,
    features: Tensor,
    quadrants: tuple[Tensor, ...],
    prompt: Round,
    previous: Tensor | None,
    side: int,
) -> tuple[Tensor, Tensor]:
    """All four masks (N, 4, 4h, 4w) and predicted IoUs (N, 4) for N prompts on N feature maps.

    Args:
        model: the segmenter.
        features: (N, C, h, w); quadrants: of its encoder's skips (:meth:`MaskDecoder.in_quadrants`), N each.
        prompt: N prompts in pixels of canvases of ``side``.
        previous: (N, 4h, 4w) logits of the last answer, or None.
        side: of the canvases, pixels.
    """
    device = features.device
    # Positions are relative to the square: rescale those on a canvas of another side.
    factor = model.image_size / side
    points = (prompt.points.to(device) + 0.5) * factor - 0.5
    sparse = model.prompt_encoder.embed_labelled(points, prompt.labels.to(device))
    if prompt.text is not None:
        text = model.prompt_encoder.sparse(None, None, None, prompt.text.to(device))
        assert text is not None
        sparse = torch.cat([text, sparse], 1)
    dense = model.prompt_encoder.dense(previous)
    attended = model.mask_decoder.attend(features, model.image_pe(features), sparse, dense, len(features))
    return model.mask_decoder.render_all_by(attended, quadrants), attended.iou_predictions


def teaching_loss(logits: Tensor, taught: Tensor, ambiguous: bool) -> Tensor:
    """How far masks are from the teacher's, token by token: soft cross-entropy and soft dice.

    Only those tokens count that the prompt is answered by: three for a single prompt, the first for more.

    Args:
        logits: (N, 4, h, w) of the student.
        taught: (N, 4, h', w') of the teacher.
        ambiguous: whether these were single prompts.

    Returns:
        A scalar, averaged over prompts and their tokens.
    """
    tokens = slice(1, NUM_MASK_TOKENS) if ambiguous else slice(0, 1)
    size = logits.shape[-2:]
    if taught.shape[-2:] != size:
        taught = F.interpolate(taught, size, mode="bilinear", antialias=True)
    target = taught[:, tokens].float().sigmoid()
    return (bce_loss(logits[:, tokens], target) + dice_loss(logits[:, tokens], target)).mean()


def embedding_loss(embedding: Tensor, taught: Tensor) -> Tensor:
    """Mean squared difference of image embeddings (B, C, h, w), the teacher's (B, C, h', w') resized."""
    if taught.shape[-2:] != embedding.shape[-2:]:
        taught = F.interpolate(taught, embedding.shape[-2:], mode="bilinear", antialias=True)
    return F.mse_loss(embedding.float(), taught)
