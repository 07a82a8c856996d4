"""Losses against values worked out by hand and against their published definitions."""

from __future__ import annotations

import math

import pytest
import torch

from sam.training.losses import (
    LossConfig,
    affinity_loss,
    bce_loss,
    dice_loss,
    edge_loss,
    focal_loss,
    mask_iou,
    prompt_loss,
)

PAPER = LossConfig()


def test_the_defaults_are_the_papers() -> None:
    assert (PAPER.focal, PAPER.dice, PAPER.iou) == (20.0, 1.0, 1.0)
    assert (PAPER.bce, PAPER.starved, PAPER.single, PAPER.edge, PAPER.affinity) == (0, 0, 0, 0, 0)


def test_focal_loss_by_hand() -> None:
    # Probabilities 3/4 on a pixel of the mask, 1/5 on one outside.
    logits = torch.tensor([[math.log(3.0), math.log(1 / 4)]])
    target = torch.tensor([[1.0, 0.0]])
    on_mask = 0.25 * (1 / 4) ** 2 * -math.log(3 / 4)
    outside = 0.75 * (1 / 5) ** 2 * -math.log(4 / 5)
    assert focal_loss(logits, target).item() == pytest.approx((on_mask + outside) / 2, rel=1e-5)


def test_focal_loss_is_torchvisions() -> None:
    from torchvision.ops import sigmoid_focal_loss

    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 5, generator=generator) * 3
    target = (torch.rand(3, 4, 5, generator=generator) > 0.5).float()
    expected = sigmoid_focal_loss(logits, target, alpha=0.25, gamma=2.0).mean((-2, -1))
    torch.testing.assert_close(focal_loss(logits, target), expected)


def test_bce_of_no_opinion_is_log_two() -> None:
    assert bce_loss(torch.zeros(1, 2, 2), torch.ones(1, 2, 2)).item() == pytest.approx(math.log(2))


def test_dice_loss_by_hand() -> None:
    # Probability 1/2 on four pixels, two of them in the mask: overlap 1, sum 2 + 2.
    target = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    assert dice_loss(torch.zeros(2, 2), target).item() == pytest.approx(1 - (2 * 1 + 1) / (4 + 1))


def test_dice_loss_of_a_perfect_mask_is_zero() -> None:
    target = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert dice_loss((target - 0.5) * 200, target).item() == pytest.approx(0, abs=1e-6)


def test_mask_iou_by_hand() -> None:
    logits = torch.tensor([[1.0, 1.0, -1.0, -1.0]])
    target = torch.tensor([[1.0, 0.0, 1.0, 0.0]])
    assert mask_iou(logits, target).item() == pytest.approx(1 / 3)
    assert mask_iou(-torch.ones(1, 4), torch.zeros(1, 4)).item() == 0


def four_masks() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (1, 4, 2, 2) of which column 2 is right, and the target."""
    target = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
    right = (target - 0.5) * 8
    logits = torch.cat([-right, -right, right, torch.zeros_like(right)])[None]
    return logits.clone().requires_grad_(), target


def test_an_ambiguous_prompt_teaches_the_best_of_three_alone() -> None:
    logits, target = four_masks()
    prompt_loss(logits, torch.zeros(1, 4), target, ambiguous=True, config=PAPER).backward()
    assert logits.grad is not None
    taught = logits.grad.abs().sum((2, 3))[0] > 0
    assert taught.tolist() == [False, False, True, False]


def test_more_prompts_teach_the_single_mask_token_alone() -> None:
    logits, target = four_masks()
    prompt_loss(logits, torch.zeros(1, 4), target, ambiguous=False, config=PAPER).backward()
    assert logits.grad is not None
    assert (logits.grad.abs().sum((2, 3))[0] > 0).tolist() == [True, False, False, False]


def test_starved_masks_and_the_single_token_learn_where_configured() -> None:
    logits, target = four_masks()
    config = LossConfig(starved=0.1, single=0.5)
    prompt_loss(logits, torch.zeros(1, 4), target, ambiguous=True, config=config).backward()
    assert logits.grad is not None
    assert (logits.grad.abs().sum((2, 3))[0] > 0).all()


def test_the_iou_head_learns_the_true_iou_of_every_mask() -> None:
    logits, target = four_masks()
    no_masks = LossConfig(focal=0, dice=0, iou=1)
    # The true IoUs are 0, 0, 1 and (logits of exactly 0 are background) 0.
    said = torch.tensor([[0.5, 0.0, 1.0, 0.0]])
    loss = prompt_loss(logits, said, target, ambiguous=True, config=no_masks)
    assert loss.item() == pytest.approx(0.5**2 / 4)


def test_edges_lie_between_segments_and_nothing_is_known_far_from_labels() -> None:
    ids = torch.zeros(1, 9, 20, dtype=torch.long)
    ids[:, :, :3], ids[:, :, 3:6] = 1, 2
    edges = torch.zeros(1, 1, 9, 20)
    edges[..., 2] = edges[..., 5] = 1
    right = (edges - 0.5) * 40
    assert edge_loss(right, ids).item() == pytest.approx(0, abs=1e-6)
    far = right.clone()
    far[..., 12:] *= -1
    assert edge_loss(far, ids).item() == pytest.approx(0, abs=1e-6)
    wrong = right.clone()
    wrong[..., 2] *= -1
    assert edge_loss(wrong, ids).item() > 1


def test_affinity_of_the_truth_costs_nothing() -> None:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 4, (2, 12, 14), generator=generator)
    logits = torch.zeros(2, 6, 12, 14)
    for channel, (dy, dx) in enumerate(((0, 1), (1, 0), (0, 3), (3, 0), (2, 2), (2, -2))):
        for y in range(12 - dy):
            for x in range(max(0, -dx), 14 - max(0, dx)):
                same = ids[:, y, x] == ids[:, y + dy, x + dx]
                logits[:, channel, y, x] = torch.where(same, 50.0, -50.0)
    assert affinity_loss(logits, ids).item() == pytest.approx(0, abs=1e-6)
    assert affinity_loss(-logits, ids).item() > 10


@pytest.mark.parametrize("ambiguous", [True, False])
def test_paper_loss_is_twenty_focal_plus_dice_plus_squared_error(ambiguous: bool) -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(5, 4, 6, 6, generator=generator)
    target = (torch.rand(5, 6, 6, generator=generator) > 0.6).float()
    iou = torch.rand(5, 4, generator=generator)
    each = torch.stack(
        [20 * focal_loss(logits[:, m], target) + dice_loss(logits[:, m], target) for m in range(4)], 1
    )
    masks = each[:, 1:].min(1).values if ambiguous else each[:, 0]
    error = torch.stack([(iou[:, m] - mask_iou(logits[:, m], target)) ** 2 for m in range(4)], 1).mean(1)
    torch.testing.assert_close(prompt_loss(logits, iou, target, ambiguous, PAPER), (masks + error).mean())
