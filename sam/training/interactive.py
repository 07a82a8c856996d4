"""The simulated annotator: prompts for a target mask, round after round (App. A, "Training algorithm")."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sam.prompt_encoder import BOTTOM_RIGHT, FOREGROUND, PADDING_LABEL, TOP_LEFT

FULL_SIZE_NOISE_LIMIT = 20.0
"""Largest box noise in pixels of a 1024-pixel input (App. A)."""
BOX_NOISE = 0.1
"""Standard deviation of the noise on each coordinate of a box, as a share of the box's side (App. A)."""


class Dice:
    """Where a step's chance comes from.

    Args:
        seed: of all of it.
        device: of the model.

    Attributes:
        host: decides what the program does next, for which it would have to wait for a GPU.
        device: draws prompts beside their masks. On a CPU both are one.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.host = torch.Generator().manual_seed(seed)
        apart = device.type != "cpu"
        self.device = torch.Generator(device).manual_seed(seed) if apart else self.host


@dataclass(frozen=True)
class Round:
    """What the annotator has given so far for N masks, as points of any kind.

    A box is its two corners, and a padding point stands beside points without a box, as at inference. So
    masks that were begun with a point and with a box have as many tokens, and are decoded together.

    Attributes:
        points: (N, K, 2) pixels of the padded square; K is 0 after a text alone.
        labels: (N, K) int64: -1 padding, 0 background, 1 object, 2 and 3 a box's corners.
        text: (N, d) unit vectors, or None where the first prompts were none.
    """

    points: Tensor
    labels: Tensor
    text: Tensor | None = None

    @property
    def ambiguous(self) -> bool:
        """A single prompt so far, which may mean a part, the object or a group."""
        return self.points.shape[1] <= (2 if self.text is None else 0)

    def beside(self, other: Round) -> Round:
        """These masks and then the ``other`` ones, begun with a point or a box and as long ago."""
        assert self.text is None and other.text is None
        return Round(torch.cat([self.points, other.points]), torch.cat([self.labels, other.labels]))


def plan_rounds(rounds: int, vary: bool, generator: torch.Generator) -> list[bool]:
    """Whether each round brings a new point; the first, which brings the first prompt, counts as one.

    The paper's 11 rounds are the first prompt, eight points, and two rounds that bring nothing but the
    earlier logits: one at a random place among the points, one at the end. With fewer than
    four rounds only the last can be such a round.

    Args:
        rounds: at most so many.
        vary: draw the number of rounds from 2 to ``rounds`` instead, with the last of four or more bringing
            nothing new: about two thirds of the time, and a short run sees more photos.
        generator: source of randomness, on the CPU.
    """
    if vary:
        rounds = int(torch.randint(min(2, rounds), rounds + 1, (), generator=generator))
    plan = [True] * rounds
    if rounds >= (4 if vary else 3):
        plan[-1] = False
    if not vary and rounds >= 4:
        plan[int(torch.randint(1, rounds - 1, (), generator=generator))] = False
    return plan


def first_point(
    target: Tensor, stride: int, generator: torch.Generator, deepest: Tensor | None = None, share: float = 0.0
) -> Round:
    """A point drawn uniformly from each mask.

    Args:
        target: (N, h, w) in {0, 1}, none empty, at ``1 / stride`` of the input.
        stride: pixels of the input per cell of ``target``.
        generator: source of randomness, on the device of ``target``.
        deepest: (N, 2) x, y of the cell of each mask that is farthest from its border, where a careful
            person clicks (App. D.1).
        share: probability of the middle of that cell instead.
    """
    points = sample_point(target > 0.5, stride, generator)
    if share:
        assert deepest is not None
        careful = torch.rand(len(target), generator=generator, device=target.device) < share
        points = torch.where(careful[:, None], deepest * stride + (stride - 1) / 2, points)
    padding = torch.zeros_like(points)
    return Round(torch.stack([points, padding], 1), _labels(target, FOREGROUND, PADDING_LABEL))


def first_box(target: Tensor, stride: int, generator: torch.Generator, noise: float = BOX_NOISE) -> Round:
    """The box of each mask (N, h, w), moved by ``noise``; see :func:`noisy_boxes`."""
    side = target.shape[-1] * stride
    boxes = noisy_boxes(mask_boxes(target, stride), side, generator, noise)
    return Round(boxes.view(-1, 2, 2), _labels(target, TOP_LEFT, BOTTOM_RIGHT))


def first_text(vectors: Tensor) -> Round:
    """The vector (N, d) of each mask's own picture, in the place of a phrase (App. D.5)."""
    return Round(torch.zeros(len(vectors), 0, 2, device=vectors.device), _labels(vectors), vectors)


def _labels(beside: Tensor, *labels: int) -> Tensor:
    """(N, K) the K labels for each of the N rows of ``beside``, where that is."""
    few = torch.tensor(labels, dtype=torch.long).to(beside.device, non_blocking=True)
    return few.repeat(len(beside), 1)


def next_round(
    previous: Round, logits: Tensor, target: Tensor, stride: int, generator: torch.Generator
) -> Round:
    """Add a point drawn uniformly from where ``logits`` (N, h, w) are wrong, positive on a miss."""
    truth = target > 0.5
    wrong = (logits > 0) != truth
    # A perfect mask has no error to click on: any point of it is a confirmation.
    region = torch.where(wrong.flatten(1).any(1)[:, None, None], wrong, truth)
    point = sample_point(region, stride, generator)
    cell = (point / stride).long()
    label = truth[torch.arange(len(truth), device=truth.device), cell[:, 1], cell[:, 0]].long()
    points, labels = [previous.points, point[:, None]], [previous.labels, label[:, None]]
    if not previous.points.shape[1]:  # the first point beside a text
        points.append(torch.zeros_like(points[1]))
        labels.append(torch.full_like(labels[1], PADDING_LABEL))
    return replace(previous, points=torch.cat(points, 1), labels=torch.cat(labels, 1))


def sample_point(region: Tensor, stride: int, generator: torch.Generator) -> Tensor:
    """One uniform point in each (N, h, w) bool region: (N, 2) x, y in input pixels."""
    count, _, width = region.shape
    index = torch.multinomial(region.flatten(1).float(), 1, generator=generator)[:, 0]
    cell = torch.stack([index % width, index // width], 1).float()
    inside = torch.rand(count, 2, generator=generator, device=region.device) * (stride - 1)
    return cell * stride + inside


def mask_boxes(masks: Tensor, stride: int) -> Tensor:
    """Bounding boxes (N, 4) ``x1, y1, x2, y2`` in input pixels of (N, h, w) masks, none empty."""
    on = masks > 0.5
    columns, rows = on.any(1).float(), on.any(2).float()
    width, height = columns.shape[1], rows.shape[1]
    x1, y1 = columns.argmax(1), rows.argmax(1)
    x2, y2 = width - columns.flip(1).argmax(1), height - rows.flip(1).argmax(1)
    return torch.stack([x1, y1, x2 - 1 / stride, y2 - 1 / stride], 1).float() * stride


def noisy_boxes(boxes: Tensor, side: int, generator: torch.Generator, share: float = BOX_NOISE) -> Tensor:
    """Move each coordinate by normal noise of ``share`` of the box's side, at most 20 px of 1024."""
    limit = FULL_SIZE_NOISE_LIMIT * side / 1024
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    noise = torch.randn(boxes.shape, generator=generator, device=boxes.device) * share * sides
    return (boxes + noise.clamp(-limit, limit)).clamp(0, side - 1)
