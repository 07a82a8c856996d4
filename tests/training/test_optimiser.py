"""Learning rates: of layers, and of steps."""

from __future__ import annotations

import pytest

from sam.training.config import Phase
from sam.training.objective import Objective
from sam.training.optimiser import build_optimiser, layers_above, learning_rate
from tests.training.kit import model_of, plain_config


@pytest.mark.parametrize(
    ("family", "name", "above"),
    [
        ("vit", "model.image_encoder.pos_embed", 4),
        ("vit", "model.image_encoder.patch_embed.proj.weight", 4),
        ("vit", "model.image_encoder.blocks.0.attn.qkv.weight", 3),
        ("vit", "model.image_encoder.blocks.2.mlp.lin1.bias", 1),
        ("vit", "model.image_encoder.neck.0.weight", 0),
        ("vit", "model.mask_decoder.iou_token.weight", 0),
        ("tiny_vit", "model.image_encoder.patch_embed.seq.0.c.weight", 6),
        ("tiny_vit", "model.image_encoder.layers.0.blocks.0.conv1.c.weight", 5),
        ("tiny_vit", "model.image_encoder.layers.0.downsample.conv1.c.weight", 5),
        ("tiny_vit", "model.image_encoder.layers.2.blocks.1.mlp.fc1.weight", 2),
        ("tiny_vit", "model.image_encoder.layers.3.blocks.0.attn.qkv.weight", 1),
        ("tiny_vit", "model.image_encoder.neck.3.weight", 0),
    ],
)
def test_layers_above(family: str, name: str, above: int) -> None:
    """Of 3 blocks, and of 1 + 1 + 2 + 1; the neck and what follows is the layer above them."""
    model = model_of(family)
    known = {f"model.{key}" for key, _ in model.named_parameters()}
    assert name in known and layers_above(name, model.image_encoder) == above


def test_each_layer_learns_slower_than_the_next() -> None:
    model = model_of("vit")
    config = plain_config(layer_decay=0.5, weight_decay=0.3)
    objective = Objective(model, config)
    groups = build_optimiser(objective, model.image_encoder, config).param_groups
    found = {id(p): (g["scale"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert len(found) == len(list(model.parameters()))
    named = {name: found[id(p)] for name, p in model.named_parameters()}
    assert named["image_encoder.blocks.0.attn.qkv.weight"] == (0.125, 0.3)
    assert named["image_encoder.blocks.2.norm1.weight"] == (0.5, 0.0)
    assert named["image_encoder.pos_embed"] == (0.0625, 0.0)
    assert named["mask_decoder.iou_token.weight"] == (1.0, 0.3)


def test_the_steps_of_the_paper() -> None:
    config = plain_config(
        schedule="steps", learning_rate=1.0, warmup_steps=250, phases=(Phase(90_000, 64, 2),),
        decay_at=(60_000 / 90_000, 86_666 / 90_000),
    )  # fmt: skip
    rates = {0: 1 / 250, 124: 0.5, 250: 1, 59_999: 1, 60_000: 0.1, 86_665: 0.1, 86_666: 0.01, 89_999: 0.01}
    for step, rate in rates.items():
        assert learning_rate(config, step) == pytest.approx(rate)
    with pytest.raises(ValueError, match="cosine, steps"):
        plain_config(schedule="stairs")
