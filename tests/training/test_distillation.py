"""A teacher is asked the same prompts, is not trained, and is followed."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sam.image_encoder import EncoderOutput
from sam.training.config import DistillConfig, Phase
from sam.training.data import PackedSet
from sam.training.interactive import Round
from sam.training.losses import LossConfig
from sam.training.teacher import Teacher, decode_all, embedding_loss, teaching_loss
from sam.training.trainer import Trainer, read_log
from tests.training.kit import model_of, plain_config, trainer_of

NO_LABELS = LossConfig(focal=0, bce=0, dice=0, iou=0)


@pytest.fixture(autouse=True)
def as_before(one_thread: None) -> Iterator[None]:
    yield
    torch.set_flush_denormal(False)


def taught(shapes: PackedSet, folder: Path, teacher: Teacher, **settings: Any) -> Trainer:
    config = plain_config(losses=NO_LABELS, **settings)
    trainer = trainer_of(model_of("compact", seed=1), shapes, folder, config, teacher=teacher)
    trainer.run()
    return trainer


class AlwaysEverything(Teacher):
    """Sees what it sees, and answers every prompt alike, at another resolution than the student."""

    def answer(self, seen: EncoderOutput, images: torch.Tensor, *rest: object) -> torch.Tensor:
        return torch.full((len(images), 4, 24, 24), 6.0)


def test_a_student_comes_to_answer_as_its_teacher(shapes: PackedSet, tmp_path: Path) -> None:
    """No label says anything here: what is learned is the teacher's."""
    teacher = AlwaysEverything(
        model_of("vit", encoder={"image_size": 96, "out_chans": 32}, embed_dim=32, mlp_dim=64)
    )
    before = copy.deepcopy(teacher.model.state_dict())
    trainer = taught(
        shapes, tmp_path, teacher,
        distill=DistillConfig("x", weight=1.0, embedding=0.5), phases=(Phase(16, 64, 2),), learning_rate=1e-2,
        rounds=1,
    )  # fmt: skip
    rows = read_log(tmp_path / "log.jsonl")
    assert rows[0].keys() >= {"prompts", "teacher", "embedding"} and rows[-1]["prompts"] == 0
    for name in ("teacher", "embedding"):
        first, last = (sum(row[name] for row in part) for part in (rows[:3], rows[-3:]))
        assert last < 0.7 * first, (name, first, last)
    assert trainer.objective.projection is not None  # 16 channels to 32
    assert all(torch.equal(before[name], value) for name, value in teacher.model.state_dict().items())
    assert not [name for name, _ in trainer.objective.named_parameters() if "teacher" in name]


@pytest.mark.parametrize("family", ["vit", "compact"])  # without skips and with them
def test_a_teacher_answers_as_the_model_does_that_it_is(family: str) -> None:
    """Prompts and last answers of canvases of another side mean the same places."""
    model = model_of(family)
    teacher = Teacher(model)
    pixels = torch.rand(2, 3, 64, 64)
    seen = teacher.look(pixels)
    encoded = model.image_encoder(pixels)
    torch.testing.assert_close(seen.image_embedding, encoded.image_embedding)
    images, previous = torch.tensor([0, 1, 1, 0]), torch.randn(4, 16, 16)
    points = torch.tensor([[[10.0, 20.0]], [[3.0, 60.0]], [[40.0, 40.0]], [[5.0, 9.0]]])
    clicks = Round(torch.cat([points[:2], torch.zeros(2, 1, 2)], 1), torch.tensor([[1, -1]]).repeat(2, 1))
    corners = torch.cat([points[2:] - 4, points[2:] + 4], 1)
    prompt = clicks.beside(Round(corners, torch.tensor([[2, 3]]).repeat(2, 1)))
    answer = teacher.answer(seen, images, prompt, previous, 64)
    with torch.no_grad():
        skips = tuple(skip[images] for skip in encoded.high_res_features)
        quadrants = model.mask_decoder.in_quadrants(skips, (4, 4))
        direct, _ = decode_all(model, encoded.image_embedding[images], quadrants, prompt, previous, 64)
    assert answer.shape == (4, 4, 16, 16)
    torch.testing.assert_close(answer, direct)
    doubled = Round((prompt.points + 0.5) * 2 - 0.5, prompt.labels)
    torch.testing.assert_close(teacher.answer(seen, images, doubled, previous, 128), direct)


def test_the_projection_is_taken_up_again(shapes: PackedSet, tmp_path: Path) -> None:
    teacher = Teacher(model_of("compact", embed_dim=32, encoder={"out_chans": 32}))
    distill = DistillConfig("x", weight=0.0, embedding=1.0)
    first = taught(shapes, tmp_path, teacher, distill=distill)
    config = plain_config(losses=NO_LABELS, distill=distill)
    again = trainer_of(model_of("compact"), shapes, tmp_path, config, teacher=teacher)
    again.resume()
    assert first.objective.projection is not None and again.objective.projection is not None
    assert torch.equal(first.objective.projection.weight, again.objective.projection.weight)
    assert "teacher" not in read_log(tmp_path / "log.jsonl")[0]  # its masks have no weight


def test_teaching_loss() -> None:
    logits = torch.zeros(2, 4, 8, 8) - 9
    logits[:, 1:, :4] = 9
    right, wrong = logits.clone(), -logits
    assert teaching_loss(logits, right, ambiguous=True) < 0.02 < 1 < teaching_loss(logits, wrong, True)
    # The first token alone answers more than one prompt, and it alone is asked then.
    other = right.clone()
    other[:, 1:] *= -1
    assert teaching_loss(logits, other, ambiguous=False) == teaching_loss(logits, right, ambiguous=False)
    larger = torch.nn.functional.interpolate(right, scale_factor=2.0)
    assert teaching_loss(logits, larger, ambiguous=True) < 0.2


def test_embedding_loss() -> None:
    one = torch.rand(1, 3, 4, 4)
    assert embedding_loss(one, one) == 0
    assert embedding_loss(one, one + 2) == pytest.approx(4)
    assert embedding_loss(torch.ones(1, 3, 4, 4), torch.ones(1, 3, 8, 8)) == pytest.approx(0)
