"""Every encoder family is trained; what is frozen stays; stochastic depth is only in training."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sam.errors import UsageError
from sam.training.config import Phase
from sam.training.data import PackedSet
from sam.training.losses import LossConfig
from sam.training.ranks import Ranks
from sam.training.trainer import CanvasStream, Trainer
from tests.training.kit import ENCODERS, model_of, plain_config, trainer_of


@pytest.fixture(autouse=True)
def as_before(one_thread: None) -> Iterator[None]:
    yield
    torch.set_flush_denormal(False)


def moved(before: dict[str, torch.Tensor], trainer: Trainer) -> set[str]:
    return {k for k, v in trainer.model.state_dict().items() if not torch.equal(before[k], v)}


@pytest.mark.parametrize("family", ENCODERS)
def test_each_family_learns_and_goes_on_where_it_was(family: str, shapes: PackedSet, tmp_path: Path) -> None:
    config = plain_config(drop_path=None, layer_decay=1.0 if family == "compact" else 0.8)
    encoder = {} if family == "compact" else {"drop_path": 0.4}
    model = model_of(family, encoder=encoder)
    before = copy.deepcopy(model.state_dict())
    whole = trainer_of(copy.deepcopy(model), shapes, tmp_path / "whole", config)
    whole.run()
    names = moved(before, whole)
    for part in ("image_encoder.", "mask_decoder.transformer.", "prompt_encoder.point_embeddings."):
        assert any(name.startswith(part) for name in names), part
    first = trainer_of(copy.deepcopy(model), shapes, tmp_path / "parts", config)
    first.run(should_stop=lambda: first.step == 1)
    second = trainer_of(copy.deepcopy(model), shapes, tmp_path / "parts", config)
    second.run()
    assert second.step == 3 and moved(whole.model.state_dict(), second) == set()


@pytest.mark.parametrize("family", ENCODERS)
def test_a_frozen_encoder_stays_as_it_is(family: str, shapes: PackedSet, tmp_path: Path) -> None:
    encoder = {} if family == "compact" else {"drop_path": 0.4}
    model = model_of(family, encoder=encoder)
    before = copy.deepcopy(model.state_dict())
    trainer = trainer_of(model, shapes, tmp_path, plain_config(freeze_encoder=True))
    trainer.run()
    names = moved(before, trainer)
    assert names and not [name for name in names if name.startswith("image_encoder.")]
    assert not trainer.model.image_encoder.training and trainer.model.mask_decoder.training


@pytest.mark.parametrize("family", ["vit", "tiny_vit"])
def test_stochastic_depth_leaves_names_and_answers_alone(family: str) -> None:
    plain, dropping = model_of(family), model_of(family, encoder={"drop_path": 0.9})
    assert plain.state_dict().keys() == dropping.state_dict().keys()
    dropping.load_state_dict(plain.state_dict(), strict=True)
    pixels = torch.rand(1, 3, 64, 64)
    answer = plain.image_encoder(pixels).image_embedding
    assert torch.equal(answer, dropping.image_encoder(pixels).image_embedding)
    if family == "vit":  # TinyViT has batch normalisation, which alone changes the answer
        torch.manual_seed(0)
        assert not torch.equal(answer, dropping.train().image_encoder(pixels).image_embedding)


@pytest.mark.parametrize(
    ("family", "settings", "key"),
    [
        ("vit", {"phases": (Phase(3, 96, 2),)}, "phases"),
        ("vit", {"losses": LossConfig(edge=1)}, "losses.edge"),
        ("tiny_vit", {"losses": LossConfig(affinity=1)}, "losses.affinity"),
        ("compact", {"losses": LossConfig(edge=1), "freeze_encoder": True}, "losses.edge"),
        ("compact", {"layer_decay": 0.8}, "layer_decay"),
        ("compact", {"drop_path": 0.4}, "drop_path"),
        ("compact", {"accumulate": 4}, "accumulate"),
    ],
)
def test_what_an_encoder_cannot_do(
    shapes: PackedSet, tmp_path: Path, family: str, settings: dict[str, object], key: str
) -> None:
    with pytest.raises(UsageError) as caught:
        trainer_of(model_of(family), shapes, tmp_path / "run", plain_config(**settings))
    assert caught.value.field == key and str(caught.value).startswith(f"{key}: ")
    assert not (tmp_path / "run").exists()


def test_parts_of_a_batch_have_its_samples_between_them() -> None:
    """Part p of P has the samples p, p + P, …, whichever process computes it."""

    class Numbers:
        def __call__(self, number: int, side: int) -> int:
            return number

    def batches(ranks: Ranks, accumulate: int) -> list[list[int]]:
        config = plain_config(phases=(Phase(2, 64, 4),), accumulate=accumulate)
        return list(CanvasStream(Numbers(), config, 0, ranks))  # type: ignore[arg-type]

    assert batches(Ranks(), 1) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert batches(Ranks(), 2) == [[0, 2, 1, 3], [4, 6, 5, 7]]
    assert batches(Ranks(0, 2), 1) == [[0, 2], [4, 6]] and batches(Ranks(1, 2), 1) == [[1, 3], [5, 7]]
    assert batches(Ranks(1, 2), 2) == [[1, 3], [5, 7]]
