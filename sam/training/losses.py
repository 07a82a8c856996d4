"""Losses of mask prediction (paper App. A, "Losses"; training.md for the alternative mask loss)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sam.mask_decoder import NUM_MASK_TOKENS


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses. The paper's: focal 20, dice 1, iou 1, bce 0, starved 0.

    A small model trained briefly does better with bce 1.5, dice 1 and focal 0: focal loss with alpha .25
    biases a weak model towards small masks.

    Attributes:
        focal, bce, dice: weights of the mask losses, each averaged over pixels.
        iou: weight of the squared error of the predicted IoU.
        starved: share of the loss that the two masks that were not the best receive; above 0 no mask token
            starves early in training.
        single: weight of the single-mask token's loss on an ambiguous prompt. Detector boxes are answered by
            that token, and weights trained briefly need the practice.
        edge: weight of the edge head's loss.
        affinity: weight of the pixel-affinity loss (an auxiliary head that is not kept).
    """

    focal: float = 20.0
    bce: float = 0.0
    dice: float = 1.0
    iou: float = 1.0
    starved: float = 0.0
    single: float = 0.0
    edge: float = 0.0
    affinity: float = 0.0


def focal_loss(logits: Tensor, target: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Sigmoid focal loss (Lin et al., 2017), averaged over pixels: (…, H, W) -> (…)."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    probability_of_truth = torch.exp(-cross_entropy)
    weight = alpha * target + (1 - alpha) * (1 - target)
    return (weight * (1 - probability_of_truth).pow(gamma) * cross_entropy).mean((-2, -1))


def bce_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy averaged over pixels: (…, H, W) -> (…)."""
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((-2, -1))


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """One minus the soft Dice overlap (Milletari et al., 2016), smoothed by one pixel: (…, H, W) -> (…)."""
    probability = logits.sigmoid()
    overlap = (probability * target).sum((-2, -1))
    total = probability.sum((-2, -1)) + target.sum((-2, -1))
    return 1 - (2 * overlap + 1) / (total + 1)


def mask_iou(logits: Tensor, target: Tensor) -> Tensor:
    """IoU of the thresholded logits with a binary target: (…, H, W) -> (…) in [0, 1]."""
    predicted = logits > 0
    truth = target > 0.5
    intersection = (predicted & truth).sum((-2, -1)).float()
    union = (predicted | truth).sum((-2, -1)).float()
    return intersection / union.clamp(min=1)


def mask_loss(logits: Tensor, target: Tensor, config: LossConfig) -> Tensor:
    """Weighted sum of the configured mask losses: (…, H, W) -> (…)."""
    loss = config.dice * dice_loss(logits, target)
    if config.focal:
        loss = loss + config.focal * focal_loss(logits, target)
    if config.bce:
        loss = loss + config.bce * bce_loss(logits, target)
    return loss


def prompt_loss(
    logits: Tensor, iou_predictions: Tensor, target: Tensor, ambiguous: bool, config: LossConfig
) -> Tensor:
    """The loss of one round of N prompts.

    An ambiguous prompt (a single one) teaches the best of its three masks; more prompts teach the fourth
    token alone (App. A, "Making the model ambiguity-aware"). The IoU head learns from every mask.

    Args:
        logits: (N, 4, h, w); column 0 is the single-mask token.
        iou_predictions: (N, 4).
        target: (N, h, w) in {0, 1}.
        ambiguous: whether these were single prompts.
        config: weights.

    Returns:
        A scalar, averaged over prompts.
    """
    losses = mask_loss(logits, target[:, None].expand(-1, NUM_MASK_TOKENS, -1, -1), config)
    masks = losses[:, 0]
    if ambiguous:
        three = losses[:, 1:]
        best_of_three = (1 - config.starved) * three.min(1).values + config.starved * three.mean(1)
        masks = best_of_three + config.single * masks
    with torch.no_grad():
        true_iou = mask_iou(logits, target[:, None])
    quality = (iou_predictions - true_iou).pow(2).mean(1)
    return (masks + config.iou * quality).mean()


def edge_loss(edge_logits: Tensor, ids: Tensor) -> Tensor:
    """Class-balanced cross-entropy of the edge head where a label says something.

    Args:
        edge_logits: (B, 1, h, w).
        ids: (B, h, w) segment ids at the same resolution; 0 is unlabelled. Away from any labelled segment
            nothing is known, so nothing is learned there.
    """
    right = F.pad(ids[:, :, 1:] != ids[:, :, :-1], (0, 1))
    below = F.pad(ids[:, 1:] != ids[:, :-1], (0, 0, 0, 1))
    edges = (right | below).float()
    known = F.max_pool2d((ids > 0).float()[:, None], 5, 1, 2)[:, 0]
    cross_entropy = F.binary_cross_entropy_with_logits(edge_logits[:, 0], edges, reduction="none")
    weight = known * (1 + 4 * edges)
    return (weight * cross_entropy).sum() / weight.sum().clamp(min=1)


AFFINITY_OFFSETS = ((0, 1), (1, 0), (0, 3), (3, 0), (2, 2), (2, -2))


def affinity_loss(logits: Tensor, ids: Tensor) -> Tensor:
    """Do two nearby pixels belong to one segment? A dense lesson for the encoder, beside the few prompts.

    Args:
        logits: (B, len(AFFINITY_OFFSETS), h, w).
        ids: (B, h, w) segment ids, 0 unlabelled; pairs of two unlabelled pixels are ignored.
    """
    height, width = ids.shape[-2:]
    total = logits.new_zeros(())
    for channel, (dy, dx) in enumerate(AFFINITY_OFFSETS):
        rows = slice(0, height - dy)
        columns = slice(max(0, -dx), width - max(0, dx))
        here = ids[:, rows, columns]
        there = ids[:, dy:, max(0, dx) : width + min(0, dx)]
        known = ((here > 0) | (there > 0)).float()
        same = (here == there).float()
        cross_entropy = F.binary_cross_entropy_with_logits(
            logits[:, channel, rows, columns], same, reduction="none"
        )
        weight = known * (1 + 2 * (1 - same))
        total = total + (weight * cross_entropy).sum() / weight.sum().clamp(min=1)
    return total / len(AFFINITY_OFFSETS)
