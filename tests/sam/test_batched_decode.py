"""Prompts on several images in one pass: the answers of one image after another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from sam.batched_decode import decode_many
from sam.embedding import Embedding
from sam.errors import BadPrompt
from sam.model import SegmentAnything
from sam.prompts import Prompts
from sam.variants import ModelConfig, build_model

SIZES = ((40, 64), (128, 90), (77, 300))


@pytest.fixture(scope="module")
def model(small_preset: Path) -> SegmentAnything:
    torch.manual_seed(1)
    return build_model(ModelConfig.from_mapping("small", yaml.safe_load(small_preset.read_text())["model"]))


@pytest.fixture(scope="module")
def embeddings(model: SegmentAnything) -> list[Embedding]:
    rng = np.random.default_rng(0)
    return model.encode([rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES])


def clicks(count: int, each: int, seed: int) -> Prompts:
    rng = np.random.default_rng(seed)
    points = torch.from_numpy(rng.uniform(0, 40, (count, each, 2)).astype(np.float32))
    return Prompts(points=points, labels=torch.from_numpy(rng.integers(0, 2, (count, each))))


def with_masks(model: SegmentAnything, embedding: Embedding, prompts: Prompts) -> Prompts:
    logits = model.decode(embedding, prompts, multimask=False).low_res_logits()
    return Prompts(points=prompts.points, labels=prompts.labels, mask_logits=logits)


def check(
    model: SegmentAnything, embeddings: Sequence[Embedding], prompts: Sequence[Prompts], multimask: bool
) -> None:
    together = decode_many(model, embeddings, prompts, multimask=multimask)
    assert len(together) == len(prompts)
    for one, embedding, asked in zip(together, embeddings, prompts, strict=True):
        alone = model.decode(embedding, asked, multimask=multimask)
        torch.testing.assert_close(one.iou_predictions, alone.iou_predictions, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(one.low_res_logits(), alone.low_res_logits(), rtol=1e-5, atol=1e-5)
        some = torch.tensor([[len(asked) - 1, 0]])
        torch.testing.assert_close(one.low_res_logits(some), alone.low_res_logits(some), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("multimask", [True, False])
def test_one_click_each(model: SegmentAnything, embeddings: list[Embedding], multimask: bool) -> None:
    check(model, embeddings, [clicks(1, 1, seed) for seed in range(3)], multimask)


def test_several_prompts_of_several_forms(model: SegmentAnything, embeddings: list[Embedding]) -> None:
    """Two, one and three objects; one, two and one click each: two passes."""
    check(model, embeddings, [clicks(2, 1, 0), clicks(1, 2, 1), clicks(3, 1, 2)], True)


def test_boxes_and_earlier_logits(model: SegmentAnything, embeddings: list[Embedding]) -> None:
    boxes = [Prompts(boxes=torch.tensor([[3.0, 4.0, 30.0, 35.0 + i]])) for i in range(3)]
    check(model, embeddings, boxes, False)
    again = [with_masks(model, e, clicks(2, 1, i)) for i, e in enumerate(embeddings)]
    check(model, embeddings, again, False)


def test_in_the_format_of_prompts(model: SegmentAnything, embeddings: list[Embedding]) -> None:
    asked = [clicks(1, 1, seed) for seed in range(3)]
    expected = [one.low_res_logits() for one in decode_many(model, embeddings, asked, multimask=True)]
    try:
        model.compute_in(torch.bfloat16)  # the encoder; a CPU decodes in float32
        found = [one.low_res_logits() for one in decode_many(model, embeddings, asked, multimask=True)]
        model.decode_dtype = None
        reduced = [one.low_res_logits() for one in decode_many(model, embeddings, asked, multimask=True)]
    finally:
        model.compute_in(torch.float32)
    assert all(map(torch.equal, found, expected))
    assert not any(map(torch.equal, reduced, expected))


def test_the_images_are_not_mixed_up(model: SegmentAnything, embeddings: list[Embedding]) -> None:
    """The guard of the comparison: another image gives other logits."""
    same = [clicks(1, 1, 0)] * 3
    one, two, _ = decode_many(model, embeddings, same, multimask=True)
    assert float((one.low_res_logits() - two.low_res_logits()).abs().max()) > 1e-3


def test_none_and_too_few(model: SegmentAnything, embeddings: list[Embedding]) -> None:
    assert decode_many(model, [], [], multimask=True) == []
    with pytest.raises(BadPrompt, match="1 batches of prompts for 3 images"):
        decode_many(model, embeddings, [clicks(1, 1, 0)], multimask=True)
