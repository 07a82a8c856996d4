"""The simulated annotator keeps to the paper's rules (App. A)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from composer.evaluation.clicks import first_click
from sam.embedding import Embedding
from sam.model import SegmentAnything
from sam.prompts import Prompts
from sam.training.batch import Batch
from sam.training.canvas import CanvasSampler, Sample, SamplingConfig
from sam.training.data import PackedSet
from sam.training.interactive import (
    Round,
    first_box,
    first_point,
    first_text,
    mask_boxes,
    next_round,
    noisy_boxes,
    plan_rounds,
    sample_point,
)
from sam.training.objective import BOX, POINT, Objective
from sam.training.teacher import decode_all
from tests.training.kit import model_of, plain_config

STRIDE = 4


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_masks(count: int = 40, side: int = 16) -> torch.Tensor:
    masks = (torch.rand(count, side, side, generator=generator(7)) > 0.8).float()
    masks[:, 3, 5] = 1  # none empty
    return masks


def batch_of(masks: torch.Tensor) -> Batch:
    """One canvas with these (K, h, w) targets."""
    side = STRIDE * masks.shape[-1]
    targets = masks.numpy().astype(np.uint8)
    return Batch.of([Sample(np.zeros((side, side, 3), np.uint8), np.zeros((side, side), np.uint8), targets)])


def cells(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return (points[..., 1] / STRIDE).long(), (points[..., 0] / STRIDE).long()


def test_points_lie_in_their_region() -> None:
    masks = random_masks()
    for seed in range(20):
        y, x = cells(sample_point(masks > 0.5, STRIDE, generator(seed)))
        assert (masks[torch.arange(len(masks)), y, x] == 1).all()


def test_points_reach_every_cell_alike() -> None:
    region = torch.zeros(3000, 8, 8, dtype=torch.bool)
    region[:, 2, 1:4] = True
    _, x = cells(sample_point(region, STRIDE, generator()))
    counts = torch.bincount(x, minlength=8)
    assert counts[1:4].sum() == 3000
    assert counts[1:4].min() > 900  # 1000 expected, standard deviation 26


def test_points_stay_on_the_pixels_of_their_cell() -> None:
    region = torch.zeros(500, 4, 4, dtype=torch.bool)
    region[:, 1, 2] = True
    points = sample_point(region, STRIDE, generator())
    assert points[:, 0].min() >= 8 and points[:, 0].max() <= 11
    assert points[:, 1].min() >= 4 and points[:, 1].max() <= 7


def test_a_careful_first_point_is_where_the_protocol_clicks() -> None:
    masks = (torch.rand(30, 12, 12, generator=generator(3)) > 0.4).float()
    masks[:, 5:8, 4:9] = 1
    deepest = batch_of(masks).deepest[0]
    begun = first_point(masks, STRIDE, generator(), deepest, 1.0)
    y, x = cells(begun.points[:, 0])
    for mask, row, column in zip(masks, y.tolist(), x.tolist(), strict=True):
        click = first_click(mask.bool().numpy())
        assert (column, row) == (click.x, click.y)
    # The middle of the cell, and only as often as asked.
    assert (begun.points[:, 0] % STRIDE == (STRIDE - 1) / 2).all()
    half = first_point(masks.repeat(20, 1, 1), STRIDE, generator(), deepest.repeat(20, 1), 0.5).points[:, 0]
    same = (half == begun.points[:, 0].repeat(20, 1)).all(1).float().mean()
    assert 0.4 < same < 0.6
    # The paper's clicks draw nothing more than they always did: a seed goes on meaning the same.
    plain = sample_point(masks > 0.5, STRIDE, generator())
    assert torch.equal(first_point(masks, STRIDE, generator()).points[:, 0], plain)


def test_the_first_point_is_positive_and_ambiguous() -> None:
    begun = first_point(random_masks(), STRIDE, generator())
    assert begun.points.shape == (40, 2, 2)
    assert (begun.labels == torch.tensor([1, -1])).all()  # and a padding point, as at inference
    assert begun.ambiguous


def test_boxes_by_hand() -> None:
    mask = torch.zeros(1, 8, 8)
    mask[0, 2:5, 1:7] = 1
    # Columns 1 to 6 and rows 2 to 4 are pixels 4 to 27 and 8 to 19.
    assert mask_boxes(mask, STRIDE).tolist() == [[4, 8, 27, 19]]


def test_box_noise_is_a_tenth_of_the_side_and_at_most_twenty_pixels_of_1024() -> None:
    wide = torch.tensor([[100.0, 400.0, 900.0, 440.0]]).repeat(4000, 1)
    moved = noisy_boxes(wide, 1024, generator()) - wide
    assert moved.abs().max() <= 20
    assert (moved[:, [0, 2]].abs() == 20).float().mean() > 0.5  # sigma is 80 there: mostly cut off
    assert 3.5 < moved[:, [1, 3]].std() < 4.5  # sigma is 4
    assert abs(moved[:, [1, 3]].mean()) < 0.3


def test_box_noise_scales_with_the_canvas_and_stays_on_it() -> None:
    box = torch.tensor([[0.0, 0.0, 255.0, 255.0]]).repeat(1000, 1)
    moved = noisy_boxes(box, 256, generator())
    assert (moved - box).abs().max() <= 5
    assert moved.min() >= 0 and moved.max() <= 255


def test_a_run_says_where_first_clicks_are_and_how_far_boxes_are_moved() -> None:
    masks, batch = random_masks(), batch_of(random_masks())
    model = model_of("compact")
    plain = Objective(model, plain_config())
    told = Objective(model, plain_config(deepest_share=1.0, box_noise=0.0))

    def begun(objective: Objective, kind: int) -> Round:
        return objective._begin(kind, batch, torch.arange(len(masks)), generator())

    assert torch.equal(begun(plain, POINT).points, first_point(masks, STRIDE, generator()).points)
    assert torch.equal(
        begun(told, POINT).points, first_point(masks, STRIDE, generator(), batch.deepest[0], 1.0).points
    )
    assert not torch.equal(begun(told, POINT).points, begun(plain, POINT).points)
    boxes, moved = begun(told, BOX).points, begun(plain, BOX).points
    assert torch.equal(boxes.flatten(1), mask_boxes(masks, STRIDE))
    assert not torch.equal(moved, boxes)


def test_boxes_may_be_moved_less_or_not_at_all() -> None:
    masks = random_masks()
    boxes = mask_boxes(masks, STRIDE)

    def moved(noise: float) -> torch.Tensor:
        return first_box(masks, STRIDE, generator(), noise).points.flatten(1)

    assert torch.equal(moved(0.0), boxes)
    little, more = ((moved(noise) - boxes).abs().sum() for noise in (0.02, 0.1))
    assert 0 < little < more


def test_a_box_is_one_prompt_of_two_corners() -> None:
    begun = first_box(random_masks(), STRIDE, generator())
    assert begun.points.shape == (40, 2, 2)
    assert (begun.labels == torch.tensor([2, 3])).all()
    assert begun.ambiguous


@pytest.mark.parametrize("clicks_more", [0, 2])
def test_prompts_are_answered_as_at_inference(clicks_more: int) -> None:
    """Points and boxes together, and texts, have the masks that the model's own ``decode`` gives."""
    model = model_of("compact", text_dim=3)
    masks = random_masks(3)
    begun = first_point(masks, STRIDE, generator()).beside(first_box(masks, STRIDE, generator()))
    for number, told in enumerate((begun, first_text(torch.rand(3, 3, generator=generator())))):
        truth = masks.repeat(2 - number, 1, 1)
        previous = torch.randn(truth.shape, generator=generator(2)) if clicks_more else None
        for _ in range(clicks_more):
            assert previous is not None
            told = next_round(told, previous, truth, STRIDE, generator())
        answered, predicted = answers(model, told, previous)
        for rows, prompts in asked_for(told):
            given = None if previous is None else previous[rows]
            found = model.decode(embedding_of(model), replace(prompts, mask_logits=given), multimask=True)
            torch.testing.assert_close(predicted[rows, 1:], found.iou_predictions)
            torch.testing.assert_close(answered[rows, 1:].flatten(0, 1), found.low_res_logits())
            single = model.decode(embedding_of(model), replace(prompts, mask_logits=given), multimask=False)
            torch.testing.assert_close(answered[rows, 0], single.low_res_logits())


def answers(
    model: SegmentAnything, told: Round, previous: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The training's."""
    embedding = embedding_of(model)
    count = len(told.points)
    features = embedding.features.expand(count, -1, -1, -1)
    quadrants = model.mask_decoder.in_quadrants(embedding.high_res_features, (4, 4))
    with torch.no_grad():
        return decode_all(model, features, quadrants, told, previous, 64)


def asked_for(told: Round) -> list[tuple[slice, Prompts]]:
    """What a user of the model would ask for the same: without padding points, and boxes as boxes."""
    points, labels = told.points, told.labels
    if told.text is not None:
        kept = [0, *range(2, points.shape[1])] if points.shape[1] else []
        clicks = (points[:, kept], labels[:, kept]) if kept else (None, None)
        return [(slice(0, 3), Prompts(*clicks, text=told.text))]
    kept, later = [0, *range(2, points.shape[1])], slice(2, None)
    more = (points[3:, later], labels[3:, later]) if points.shape[1] > 2 else (None, None)
    return [
        (slice(0, 3), Prompts(points[:3, kept], labels[:3, kept])),
        (slice(3, 6), Prompts(*more, boxes=points[3:, :2].flatten(1))),
    ]


def embedding_of(model: SegmentAnything) -> Embedding:
    """Of some photo as large as the model's canvas."""
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    [embedding] = model.eval().encode([pixels])
    return embedding


def test_the_next_point_is_in_the_error_and_labelled_by_what_is_wrong() -> None:
    truth = torch.zeros(400, 8, 8)
    truth[:, 2:6, 2:6] = 1
    logits = torch.full((400, 8, 8), -1.0)
    logits[:, 4:7, 2:6] = 1  # rows 2, 3 missed; row 6 is too much
    begun = first_point(truth, STRIDE, generator())
    after = next_round(begun, logits, truth, STRIDE, generator(1))
    y, x = cells(after.points[:, 2])
    missed, excess = (y == 2) | (y == 3), y == 6
    assert (missed | excess).all() and (x >= 2).all() and (x < 6).all()
    assert torch.equal(after.labels[:, 2], missed.long())
    assert 0.55 < missed.float().mean() < 0.78  # eight of twelve cells
    assert torch.equal(after.points[:, :2], begun.points)
    assert not after.ambiguous


def test_a_perfect_mask_is_confirmed() -> None:
    truth = random_masks()
    begun = first_box(truth, STRIDE, generator())
    after = next_round(begun, (truth - 0.5) * 4, truth, STRIDE, generator(1))
    assert (after.labels == torch.tensor([2, 3, 1])).all()
    y, x = cells(after.points[:, 2])
    assert (truth[torch.arange(len(truth)), y, x] == 1).all()
    assert torch.equal(after.points[:, :2], begun.points) and not after.ambiguous


def test_the_papers_plan_has_eight_points_and_two_rounds_without_one() -> None:
    places = set()
    for seed in range(200):
        plan = plan_rounds(11, False, generator(seed))
        assert len(plan) == 11
        assert plan[0] and not plan[-1]
        assert sum(plan[1:]) == 8
        places.add(plan.index(False))
    assert places == set(range(1, 10))


def test_long_varied_plans_end_without_a_new_point() -> None:
    plans = {tuple(plan_rounds(4, True, generator(seed))) for seed in range(50)}
    assert plans == {(True, True), (True, True, True), (True, True, True, False)}


def test_short_plans() -> None:
    assert plan_rounds(1, False, generator()) == [True]
    assert plan_rounds(1, True, generator()) == [True]
    assert plan_rounds(2, False, generator()) == [True, True]


def test_each_prompt_stays_with_its_mask_and_its_canvas(
    shapes: PackedSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masks begun with clicks come first, then those with boxes."""
    objective = Objective(model_of("compact"), plain_config(box_share=0.4, box_noise=0.0))
    sampler = CanvasSampler([shapes], SamplingConfig({"shapes": 1.0}, masks=3), 0)
    batch = Batch.of([sampler(i, 64) for i in range(5)])
    seen: list[tuple[torch.Tensor, torch.Tensor, Round]] = []

    def interact(
        _: object, __: object, images: torch.Tensor, targets: torch.Tensor, told: Round, ___: object
    ):  # type: ignore[no-untyped-def]
        seen.append((images, targets, told))
        return {"prompts": torch.ones(())}

    monkeypatch.setattr(objective, "_interact", interact)
    assert objective(batch, 0)["prompts"] == pytest.approx(1)  # the shares add up
    [(images, targets, told)] = seen
    clicked = told.labels[:, 0] == 1
    assert clicked.tolist() == [True] * 9 + [False] * 6
    y, x = cells(told.points[clicked, 0])
    assert (targets[clicked][torch.arange(9), y, x] == 1).all()
    torch.testing.assert_close(told.points[~clicked].flatten(1), mask_boxes(targets[~clicked], STRIDE))
    for image, target in zip(images.tolist(), targets, strict=True):
        assert (batch.targets[image] == target).flatten(1).all(1).any()


def test_every_step_has_the_same_number_of_boxes(shapes: PackedSet) -> None:
    """Up to what is left of a whole number, which is drawn."""
    objective = Objective(model_of("compact"), plain_config(box_share=0.3))
    sampler = CanvasSampler([shapes], SamplingConfig({"shapes": 1.0}, masks=3), 0)
    batch = Batch.of([sampler(i, 64) for i in range(5)])
    begun = [objective._beginnings(batch, generator(seed)) for seed in range(400)]
    counts = torch.tensor([int((kinds == BOX).sum()) for kinds in begun])
    assert set(counts.tolist()) == {4, 5}  # 4.5 of 15
    assert 4.4 < counts.double().mean() < 4.6
    share = torch.stack(begun).double().mean(0)  # of each mask alike
    assert share.min() > 0.2 and share.max() < 0.4
