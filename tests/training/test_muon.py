"""Muon: which parameters are matrices, what is done to them, and that the others are AdamW's."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from sam.model import SegmentAnything
from sam.training.muon import MATRICES, SIZE, Muon, matrices, orthogonal
from sam.training.objective import Objective
from sam.training.optimiser import build_optimiser
from tests.training.kit import ENCODERS, model_of, plain_config


@pytest.mark.parametrize("shape", [(6, 40), (40, 6), (24, 24), (3, 8, 30)])
def test_all_directions_get_about_the_same_size(shape: tuple[int, ...]) -> None:
    given = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    given[..., 0] *= 30  # one direction leads
    found = torch.linalg.svd(orthogonal(given), full_matrices=False)
    assert float(found.S.min()) > 0.4 and float(found.S.max()) < 1.3
    u, _, v = torch.linalg.svd(given, full_matrices=False)
    # Of the exact answer it keeps the directions.
    assert float(((u @ v) * (found.U @ found.Vh)).sum((-2, -1)).min()) > 0.98 * min(shape[-2:])


def test_bf16_gives_about_the_same_update() -> None:
    given = torch.randn(4, 64, 96, generator=torch.Generator().manual_seed(0))
    plain = orthogonal(given)
    found = orthogonal(given.bfloat16())
    assert found.dtype == torch.bfloat16
    assert float((found.float() - plain).norm() / plain.norm()) < 0.03


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parameters_and_momenta_stay_in_fp32(dtype: torch.dtype) -> None:
    parameter = torch.nn.Parameter(torch.randn(24, 32, generator=torch.Generator().manual_seed(0)))
    before, parameter.grad = parameter.detach().clone(), torch.ones_like(parameter).tril()
    group = {"params": [parameter], MATRICES: [(24, 32)]}
    optimiser = Muon([group], lr=0.01, weight_decay=0.0, dtype=dtype)
    expected = orthogonal(((1 - 0.95) * (1 + 0.95) * parameter.grad).to(dtype)).float()
    optimiser.step()
    assert parameter.dtype == optimiser.state[parameter]["momentum_buffer"].dtype == torch.float32
    torch.testing.assert_close(before - parameter.detach(), 0.01 * SIZE * 32**0.5 * expected)


def test_nothing_stays_nothing() -> None:
    assert not orthogonal(torch.zeros(3, 5)).any()


@pytest.mark.parametrize("family", list(ENCODERS))
def test_every_parameter_is_in_one_group(family: str) -> None:
    config = plain_config(optimiser="muon", weight_decay=0.3)
    model = model_of(family)
    objective = Objective(model, config)
    groups = build_optimiser(objective, model.image_encoder, config).param_groups
    found = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(found) == sorted(id(parameter) for parameter in objective.parameters())
    for group in groups:
        for parameter, shape in zip(group["params"], group.get(MATRICES, ()), strict=False):
            assert parameter.numel() == torch.Size(shape).numel() and group["weight_decay"] == 0.3


def test_what_is_a_matrix() -> None:
    model = model_of("compact")
    shapes = matrices(model)
    assert shapes["image_encoder.attention.0.self_attn.in_proj_weight"] == (3, 16, 16)
    assert shapes["image_encoder.neck.0.weight"] == (1, 16, 144)
    assert shapes["mask_decoder.transformer.layers.0.mlp.lin1.weight"] == (32, 16)
    assert shapes["mask_decoder.output_upscaling.0.weight"] == (16, 16)
    left = {
        "image_encoder.edge_head.weight",
        "mask_decoder.mask_tokens.weight",
        "image_encoder.project32.bias",
    }
    assert left <= {name for name, _ in model.named_parameters()} and not left & set(shapes)


def test_groups_of_a_convolution_are_matrices_of_their_own() -> None:
    layer = torch.nn.Conv2d(32, 64, 3, groups=4)
    assert matrices(torch.nn.ModuleList([layer])) == {"0.weight": (4, 16, 72)}


def stepped(model: SegmentAnything, optimiser: Any) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimiser.step()
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def test_a_step() -> None:
    """Matrices move by the size that is said, the others as AdamW moves them."""
    before, rate = model_of("vit"), 0.01
    config = plain_config(optimiser="muon", learning_rate=rate, weight_decay=0.0)
    ours = copy.deepcopy(before)
    optimiser = build_optimiser(Objective(ours, config), ours.image_encoder, config)
    assert isinstance(optimiser, Muon)
    found = stepped(ours, optimiser)
    plain = copy.deepcopy(before)
    expected = stepped(plain, torch.optim.AdamW(plain.parameters(), lr=rate, weight_decay=0.0))
    shapes = matrices(before)
    assert len(shapes) > 20
    for name, start in before.state_dict(keep_vars=False).items():
        if name not in found:
            continue  # a buffer
        if name not in shapes:
            torch.testing.assert_close(found[name], expected[name])
            continue
        moved = float((found[name] - start).pow(2).mean().sqrt())
        # Singular values of .7 to 1.2, as many as the shorter side: a mean square of one over the longer.
        assert 0.6 < moved / (rate * SIZE) < 1.3, name


def test_two_steps_of_a_layer() -> None:
    """Momentum that looks ahead, decay and rate, written out; for what is a matrix in several ways."""
    rate, decay, beta = 0.02, 0.3, 0.95
    kinds = (
        torch.nn.Linear(12, 20),
        torch.nn.Conv2d(24, 48, 3, groups=2),
        torch.nn.ConvTranspose2d(16, 9, 2),
        torch.nn.Linear(12, 20),  # of the first one's shape: stepped together
        torch.nn.Linear(12, 20),
    )
    layers = torch.nn.ModuleList(kinds)
    shapes = {"0.weight": (20, 12), "1.weight": (2, 24, 108), "2.weight": (16, 36)}
    shapes |= {"3.weight": (20, 12), "4.weight": (20, 12)}
    assert matrices(layers) == shapes
    parameters = {name: dict(layers.named_parameters())[name] for name in shapes}
    expected = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    group = {"params": list(parameters.values()), MATRICES: list(shapes.values())}
    optimiser = Muon([group], lr=rate, weight_decay=decay)
    generator = torch.Generator().manual_seed(2)
    momentum = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    for _ in range(2):
        for name, parameter in parameters.items():
            if name == "3.weight":
                continue  # a step may leave one out: it has no gradient, and stays
            gradient = torch.randn(parameter.shape, generator=generator)
            parameter.grad = gradient.clone()
            momentum[name] = beta * momentum[name] + (1 - beta) * gradient
            ahead = (1 - beta) * gradient + beta * momentum[name]
            update = orthogonal(ahead.reshape(shapes[name])).reshape(parameter.shape)
            size = SIZE * max(shapes[name][-2:]) ** 0.5
            expected[name] = (1 - rate * decay) * expected[name] - rate * size * update
        optimiser.step()
    for name, parameter in parameters.items():
        torch.testing.assert_close(parameter.detach(), expected[name])
