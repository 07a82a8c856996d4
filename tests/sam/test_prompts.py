"""Prompts are checked where they are made, and embedded as the paper says."""

from __future__ import annotations

import pytest
import torch

from sam.errors import BadPrompt
from sam.prompt_encoder import PromptEncoder
from sam.prompts import Prompts

POINTS = torch.tensor([[[3.0, 4.0]], [[5.0, 6.0]]])
ONES = torch.ones(2, 1, dtype=torch.int64)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "no prompt"),
        ({"points": POINTS}, "go together"),
        ({"labels": ONES}, "no prompt"),
        ({"points": POINTS[0], "labels": ONES}, r"\(N, K, 2\), not \(1, 2\)"),
        ({"points": POINTS, "labels": ONES[:1]}, r"labels must be \(2, 1\)"),
        ({"boxes": torch.zeros(3)}, r"boxes must be \(N, 4\)"),
        ({"mask_logits": torch.zeros(1, 1, 8, 8)}, r"mask logits must be \(N, h, w\)"),
        ({"text": torch.zeros(8)}, r"text vectors must be \(N, D\)"),
        ({"points": POINTS, "labels": ONES, "boxes": torch.zeros(3, 4)}, r"agree on N, not \[2, 3\]"),
    ],
)
def test_shapes_that_do_not_fit(fields: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(BadPrompt, match=message) as caught:
        Prompts(**fields)
    assert (caught.value.exit_code, caught.value.http_status) == (3, 422)


def test_a_slice_keeps_every_field() -> None:
    prompts = Prompts(points=POINTS, labels=ONES, boxes=torch.arange(8.0).view(2, 4))
    second = prompts[1:]
    assert len(prompts) == 2
    assert len(second) == 1
    assert second.points is not None and second.points.tolist() == [[[5.0, 6.0]]]
    assert second.boxes is not None and second.boxes.tolist() == [[4, 5, 6, 7]]
    assert second.text is None


@pytest.fixture
def encoder() -> PromptEncoder:
    torch.manual_seed(0)
    return PromptEncoder(embed_dim=16, image_size=64, mask_in_chans=8, text_dim=12)


def test_points_without_a_box_get_a_padding_point(encoder: PromptEncoder) -> None:
    alone = encoder.sparse(POINTS, ONES, None, None)
    beside = encoder.sparse(POINTS, ONES, torch.tensor([[0.0, 0, 9, 9]] * 2), None)
    assert alone is not None and beside is not None
    assert alone.shape == (2, 2, 16)
    assert torch.equal(alone[:, 1], encoder.not_a_point_embed.weight.expand(2, -1))
    assert beside.shape == (2, 3, 16)


def test_a_label_decides_the_embedding_and_padding_has_no_place(encoder: PromptEncoder) -> None:
    labels = torch.tensor([[1], [0], [-1]])
    points = torch.tensor([[[7.0, 9.0]]] * 3)
    tokens = encoder.sparse(points, labels, None, None)
    assert tokens is not None
    assert not torch.allclose(tokens[0, 0], tokens[1, 0])
    assert torch.equal(tokens[2, 0], encoder.not_a_point_embed.weight[0])


def test_a_point_and_a_box_corner_in_one_place_differ_by_kind_alone(encoder: PromptEncoder) -> None:
    corner = encoder.sparse(None, None, torch.tensor([[7.0, 9.0, 20.0, 21.0]]), None)
    point = encoder.sparse(torch.tensor([[[7.0, 9.0]]]), torch.tensor([[1]]), None, None)
    assert corner is not None and point is not None
    difference = encoder.point_embeddings[2].weight - encoder.point_embeddings[1].weight
    torch.testing.assert_close(corner[0, 0] - point[0, 0], difference[0])


def test_positions_are_pixel_centres_of_the_square(encoder: PromptEncoder) -> None:
    grid = encoder.pe_layer.grid(64, 64)
    token = encoder.sparse(torch.tensor([[[7.0, 9.0]]]), torch.tensor([[1]]), None, None)
    assert token is not None
    torch.testing.assert_close(token[0, 0] - encoder.point_embeddings[1].weight[0], grid[0, 9 * 64 + 7])


def test_text_is_the_first_token_where_the_weights_have_a_slot(encoder: PromptEncoder) -> None:
    text = torch.randn(2, 12)
    tokens = encoder.sparse(POINTS, ONES, None, text)
    assert tokens is not None and encoder.text_projection is not None
    torch.testing.assert_close(tokens[:, 0], encoder.text_projection(12**0.5 * text))
    with pytest.raises(BadPrompt, match="width 5, but these weights take 12"):
        encoder.sparse(None, None, None, torch.zeros(1, 5))


def test_a_text_begins_about_as_long_as_a_point() -> None:
    torch.manual_seed(0)
    encoder = PromptEncoder(128, 384, text_dim=256)
    unit = torch.nn.functional.normalize(torch.randn(50, 256), dim=1)
    texts, points = encoder.sparse(None, None, None, unit), encoder.sparse(POINTS, ONES, None, None)
    assert texts is not None and points is not None
    assert 0.3 < texts.norm(dim=-1).mean() / points[:, 0].norm(dim=-1).mean() < 3


def test_text_is_refused_without_a_slot() -> None:
    with pytest.raises(BadPrompt, match="no text slot") as caught:
        PromptEncoder(16, 64).sparse(None, None, None, torch.zeros(1, 12))
    assert caught.value.code == "text_slot_missing"
