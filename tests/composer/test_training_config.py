"""A mistake in a training file is answered with file, line and key, before any work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from composer.clip_training.config import is_clip_run
from composer.configs import configs_folder
from composer.detector_training import is_detector_run
from composer.presets import load_model_config
from composer.training_config import TrainingRun, read_training_run
from sam.errors import UsageError
from sam.training.config import Phase

TEXT = """\
model: smoke
phases:
  - {steps: 6, size: 64, batch: 2}
learning_rate: 1.0e-3
warmup_steps: 2
rounds: 2
sampling:
  masks: 3
losses: {focal: 0, bce: 1}
validation: {panoptic: photos, limit_images: 5}
data:
  long_side: 96
  sets:
    scenes: {panoptic: photos, weight: 2, skip: 5}
    borders: {bsds: berkeley, weight: 1, splits: [train]}
"""
Read = Callable[..., TrainingRun]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Reads ``TEXT`` with one piece of it replaced."""

    def call(old: str = "", new: str = "") -> TrainingRun:
        assert old in TEXT
        path = tmp_path / "run.yaml"
        path.write_text(TEXT.replace(old, new, 1) if old else TEXT)
        return read_training_run(path)

    return call


SEGMENTERS = [
    path
    for path in sorted(configs_folder().glob("training/*.yaml"))
    if not (is_detector_run(path) or is_clip_run(path))
]


@pytest.mark.parametrize("path", SEGMENTERS, ids=lambda path: path.stem)
def test_the_files_that_come_with_the_program(path: Path) -> None:
    run = read_training_run(path)
    assert run.config.total_steps > 0 and run.model.encoder is not None
    assert set(run.config.sampling.weights) == {one.name for one in run.sets}
    assert run.validation is not None
    if path.stem == "tiny":
        assert run.config.total_steps == sum(phase.steps for phase in run.config.phases)
        assert all(one.licence for one in run.sets)  # the model card names it


def test_what_is_told_and_what_is_left_out(read: Read) -> None:
    run = read()
    assert run.config.phases == (Phase(6, 64, 2),)
    assert (run.config.learning_rate, run.config.warmup_steps, run.config.rounds) == (1e-3, 2, 2)
    assert run.config.ema_decay == 0.999 and run.config.init is None
    assert run.config.sampling.weights == {"scenes": 2.0, "borders": 1.0}
    assert run.config.sampling.masks == 3 and run.config.sampling.mosaic == 0.5
    assert (run.config.losses.focal, run.config.losses.bce, run.config.losses.dice) == (0, 1, 1)
    assert run.long_side == 96
    scenes, borders = run.sets
    assert (scenes.format, scenes.source, scenes.skip) == ("panoptic", "photos", 5)
    assert (borders.format, borders.splits) == ("bsds", ("train",))
    assert run.validation is not None
    assert (run.validation.format, run.validation.source) == ("panoptic", "photos")
    assert run.validation.limit_images == 5
    assert (run.validation.which.min_area, run.validation.which.max_per_image) == (100, 8)


def test_a_tar_file_may_be_named_as_such(read: Read) -> None:
    assert read("bsds: berkeley", "bsds: berkeley.tar").sets[1].source == "berkeley"
    assert read("bsds: berkeley", "bsds: ./sets//berkeley.tar").sets[1].source == "sets/berkeley"


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "reason"),
    [
        ("warmup_steps", "warm_up_steps", 5, "warm_up_steps", "did you mean 'warmup_steps'?"),
        ("masks: 3", "mask: 3", 8, "sampling.mask", "did you mean 'masks'?"),
        ("masks: 3", "weights: {scenes: 1}", 8, "sampling.weights", "unknown key"),
        ("bce: 1", "cbe: 1", 9, "losses.cbe", "did you mean 'bce'?"),
        ("long_side: 96", "longside: 96", 12, "data.longside", "did you mean 'long_side'?"),
        ("skip: 5", "skipp: 5", 14, "data.sets.scenes.skipp", "did you mean 'skip'?"),
        ("limit_images: 5", "limit: 5", 10, "validation.limit", "unknown key"),
        ("model: smoke", "model: 3", 1, "model", "name of a model"),
        ("1.0e-3", "fast", 4, "learning_rate", "expected float, not 'fast'"),
        ("1.0e-3", "true", 4, "learning_rate", "expected float, not True"),
        ("warmup_steps: 2", "warmup_steps: 2.5", 5, "warmup_steps", "expected int, not 2.5"),
        ("warmup_steps: 2", "warmup_steps: .inf", 5, "warmup_steps", "expected int, not inf"),
        ("warmup_steps: 2", "warmup_steps: .nan", 5, "warmup_steps", "expected int, not nan"),
        ("warmup_steps: 2", "vary_rounds: 1", 5, "vary_rounds", "expected bool, not 1"),
        ("warmup_steps: 2", "init: 7", 5, "init", "not 7"),
        ("masks: 3", "scale: [1]", 8, "sampling.scale", "not [1]"),
        ("masks: 3", "scale: [1, x]", 8, "sampling.scale", "not 'x'"),
        ("{focal: 0, bce: 1}", "[1]", 9, "losses", "expected a mapping"),
        ("long_side: 96", "long_side: 9", 12, "data.long_side", "from 64 to 4096, not 9"),
        ("splits: [train]", "splits: train", 15, "data.sets.borders.splits", "not 'train'"),
        ("limit_images: 5", "limit_images: 0", 10, "validation.limit_images", "whole number, not 0"),
        # Values that would only fail hours later, or never.
        ("1.0e-3", ".nan", 4, "learning_rate", "expected float, not nan"),
        ("1.0e-3", "-1.0", 4, "learning_rate", "above 0"),
        ("warmup_steps: 2", "warmup_steps: -2", 5, "warmup_steps", "from 0"),
        ("warmup_steps: 2", "log_every: 0", 5, "log_every", "from 1"),
        ("warmup_steps: 2", "validate_every: 0", 5, "validate_every", "from 1"),
        ("warmup_steps: 2", "checkpoint_every: 0", 5, "checkpoint_every", "from 1"),
        ("warmup_steps: 2", "workers: -1", 5, "workers", "from 0"),
        ("warmup_steps: 2", "seed: -1", 5, "seed", "from 0"),
        ("warmup_steps: 2", "ema_decay: 1.5", 5, "ema_decay", "from 0 to 1"),
        ("rounds: 2", "rounds: 0", 6, "rounds", "from 1"),
        ("masks: 3", "masks: 0", 8, "sampling.masks", "from 1"),
        ("masks: 3", "mosaic: 2", 8, "sampling.mosaic", "from 0 to 1"),
        ("masks: 3", "photos: 0", 8, "sampling.photos", "above 0, up to 1"),
        ("masks: 3", "photos: 1.5", 8, "sampling.photos", "above 0, up to 1"),
        ("warmup_steps: 2", "box_noise: 0.5", 5, "box_noise", "from 0 to 0.25"),
        ("warmup_steps: 2", "deepest_share: 2", 5, "deepest_share", "from 0 to 1"),
        ("masks: 3", "scale: [0, 1]", 8, "sampling.scale", "above 0"),
        ("masks: 3", "scale: [2, 1]", 8, "sampling.scale", "the smaller one first"),
        ("warmup_steps: 2", "optimiser: sgd", 5, "optimiser", "expected adamw or muon, not 'sgd'"),
        ("warmup_steps: 2", "schedule: linear", 5, "schedule", "expected cosine or steps, not 'linear'"),
        ("warmup_steps: 2", "decay_at: [0.9, 0.5]", 5, "decay_at", "the smaller one first"),
        ("warmup_steps: 2", "decay_at: [0.9, 1]", 5, "decay_at", "between 0 and 1"),
        ("warmup_steps: 2", "layer_decay: 1.2", 5, "layer_decay", "from 0 to 1"),
        ("warmup_steps: 2", "layer_decay: 0.8", 5, "layer_decay", "is for ViTs"),
        ("warmup_steps: 2", "drop_path: 1", 5, "drop_path", "from 0 and below 1"),
        ("warmup_steps: 2", "drop_path: 0.4", 5, "drop_path", "is for ViTs"),
        ("warmup_steps: 2", "freeze_encoder: maybe", 5, "freeze_encoder", "expected bool"),
        ("warmup_steps: 2", "accumulate: 3", 5, "accumulate", "must divide the batch"),
        ("warmup_steps: 2", "accumulate: 0", 5, "accumulate", "from 1"),
        ("warmup_steps: 2", "patience: -1", 5, "patience", "from 0"),
        ("warmup_steps: 2", "best_by: [boxes]", 5, "best_by", "unknown figure 'boxes'; known: miou@1"),
        ("warmup_steps: 2", "distill: {checkpoint: x}", 5, "distill", "`preset` is missing"),
        ("warmup_steps: 2", "distill: {preset: tiny, wait: 1}", 5, "distill.wait", "did you mean 'weight'?"),
        ("warmup_steps: 2", "distill: {preset: tiny, weight: 0}", 5, "distill.weight", "above 0"),
        ("warmup_steps: 2", "distill: {preset: tiny, embedding: -1}", 5, "distill.embedding", "from 0"),
        ("warmup_steps: 2", "text: {share: 1}", 5, "text", "`clip` is missing"),
        ("warmup_steps: 2", "text: {clip: tiny, share: 2}", 5, "text.share", "from 0 to 1"),
        ("warmup_steps: 2", "text: {clip: tiny, enlarge: 0.5}", 5, "text.enlarge", "from 1"),
        ("bce: 1", "edge: 1, bce: 1}\nfreeze_encoder: true #", 9, "losses.edge", "nothing to learn"),
        ("limit_images: 5", "limit_images: 5, floor: {bix: 1}", 10, "validation.floor.bix", "mean 'box'"),
        ("limit_images: 5", "limit_images: 5, floor: {box: 2}", 10, "validation.floor.box", "from 0 to 1"),
    ],
)
def test_a_wrong_key_or_value(read: Read, old: str, new: str, line: int, key: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(old, new)
    message = str(caught.value)
    assert f"run.yaml:{line}: {key}: " in message and reason in message
    assert caught.value.code == "config_invalid" and caught.value.field == key


@pytest.mark.parametrize(
    ("phases", "reason"),
    [
        ("[]", "expected a list"),
        ("{steps: 6, size: 64, batch: 2}", "expected a list"),
        ("[{steps: 6, size: 64}]", "each phase is {steps, size, batch}"),
        ("[{steps: 6, size: 64, batch: 2, lr: 1}]", "each phase is {steps, size, batch}"),
        ("[{steps: 0, size: 64, batch: 2}]", "steps and batch from 1"),
        ("[{steps: 6, size: 64, batch: 0}]", "steps and batch from 1"),
        ("[{steps: 6, size: 48, batch: 2}]", "size a multiple of 32 from 64"),
        ("[{steps: 6, size: 32, batch: 2}]", "size a multiple of 32 from 64"),
        ("[{steps: many, size: 64, batch: 2}]", "expected int, not 'many'"),
    ],
)
def test_phases(read: Read, phases: str, reason: str) -> None:
    with pytest.raises(UsageError, match=r"run\.yaml:2: phases") as caught:
        read("phases:\n  - {steps: 6, size: 64, batch: 2}", f"phases: {phases}")
    assert reason in str(caught.value) and caught.value.code == "config_invalid"


def test_without_phases_or_sets(read: Read) -> None:
    with pytest.raises(UsageError, match=r"run\.yaml: phases: expected a list"):
        read("phases:\n  - {steps: 6, size: 64, batch: 2}\n", "")
    with pytest.raises(UsageError, match="at least one set with a weight above 0"):
        read(TEXT[TEXT.index("  sets:") :], "")
    with pytest.raises(UsageError, match="at least one set with a weight above 0"):
        read(
            "weight: 2, skip: 5}\n    borders: {bsds: berkeley, weight: 1, splits: [train]}",
            "weight: 0, skip: 5}",
        )


@pytest.mark.parametrize(
    ("new", "line", "key", "reason"),
    [
        ("borders: {bsds: /data/berkeley, weight: 1}", 15, "data.sets.borders.bsds", "under the data root"),
        ("borders: {bsds: ../berkeley, weight: 1}", 15, "data.sets.borders.bsds", "under the data root"),
        ("borders: {bsds: '', weight: 1}", 15, "data.sets.borders.bsds", "under the data root"),
        ("borders: {shapes: 0, weight: 1}", 15, "data.sets.borders.shapes", "how many photos"),
        ("borders: {shapes: true, weight: 1}", 15, "data.sets.borders.shapes", "how many photos"),
        ("borders: {bsds: a, shapes: 3, weight: 1}", 15, "data.sets.borders", "one of"),
        ("borders: {weight: 1}", 15, "data.sets.borders", "one of"),
        ("borders: berkeley", 15, "data.sets.borders", "expected a mapping"),
        ("borders: {sa1b: a, splits: [x], weight: 1}", 15, "data.sets.borders.splits", "unknown key"),
        ("borders: {masks: a, images: x, weight: 1}", 15, "data.sets.borders.images", "unknown key"),
        (
            "borders: {coco: a, annotations: ../x, weight: 1}",
            15,
            "data.sets.borders.annotations",
            "under the",
        ),
        ("borders: {bsds: berkeley}", 15, "data.sets.borders", "`weight` is missing"),
        ("borders: {bsds: berkeley, weight: -1}", 15, "data.sets.borders.weight", "from 0"),
        ("borders: {bsds: berkeley, weight: .nan}", 15, "data.sets.borders.weight", "not nan"),
        ("borders: {bsds: berkeley, weight: 1, skip: -1}", 15, "data.sets.borders.skip", "from 0"),
        ("'../borders': {bsds: berkeley, weight: 1}", 15, "data.sets.../borders", "letters, digits"),
        ("'a b': {bsds: berkeley, weight: 1}", 15, "data.sets.a b", "letters, digits"),
        ("'.': {bsds: berkeley, weight: 1}", 15, "data.sets..", "letters, digits"),
    ],
)
def test_sets(read: Read, new: str, line: int, key: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        read("borders: {bsds: berkeley, weight: 1, splits: [train]}", new)
    message = str(caught.value)
    assert f"run.yaml:{line}: {key}: " in message and reason in message


@pytest.mark.parametrize("source", ["photos", "photos.tar", "./photos", "photos/"])
def test_validation_on_photos_that_are_trained_on(read: Read, source: str) -> None:
    with pytest.raises(
        UsageError, match=r"run\.yaml:14: data\.sets\.scenes: skip holds out 4 photos"
    ) as caught:
        read("panoptic: photos, weight: 2, skip: 5", f"panoptic: {source}, weight: 2, skip: 4")
    assert "first 5: set skip to at least that" in str(caught.value)


def test_validation_on_held_out_photos_of_a_set_that_is_not_drawn(read: Read) -> None:
    run = read("weight: 2, skip: 5", "weight: 0")
    assert run.config.sampling.weights["scenes"] == 0


def test_made_photos_cannot_be_held_out_from_themselves(read: Read) -> None:
    with pytest.raises(UsageError, match="validation"):
        read(
            TEXT[TEXT.index("validation") :],
            "validation: {shapes: 9}\ndata: {sets: {s: {shapes: 9, weight: 1}}}",
        )
    run = read(
        TEXT[TEXT.index("validation") :], "validation: {shapes: 8}\ndata: {sets: {s: {shapes: 9, weight: 1}}}"
    )
    assert run.validation is not None and run.validation.source == "8"


def test_validation_of_a_format_it_does_not_have(read: Read) -> None:
    with pytest.raises(
        UsageError, match=r"run\.yaml:10: validation: expected a mapping with one of `panoptic`"
    ):
        read("{panoptic: photos, limit_images: 5}", "{bsds: berkeley}")


def test_an_unknown_model_and_a_missing_file(read: Read, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown model 'smook': known: .*smoke") as caught:
        read("model: smoke", "model: smook")
    assert caught.value.code == "model_unknown"
    with pytest.raises(UsageError, match=r"none\.yaml: no such file"):
        read_training_run(tmp_path / "none.yaml")


def test_drop_path_and_freezing_reach_the_model(read: Read) -> None:
    new = "model: vit_b\nphases:\n  - {steps: 6, size: 1024, batch: 2}\ndrop_path: 0.3\nfreeze_encoder: true"
    run = read("model: smoke\nphases:\n  - {steps: 6, size: 64, batch: 2}", new)
    assert run.model.encoder.drop_path == 0.3  # type: ignore[union-attr]
    assert run.config.freeze_encoder and run.config.schedule == "cosine"
    assert load_model_config("vit_b").encoder.drop_path == 0  # type: ignore[union-attr]


def test_coco_sets_name_their_files(read: Read) -> None:
    run = read(
        "borders: {bsds: berkeley, weight: 1, splits: [train]}",
        "b: {coco: own, weight: 1, images: a}\n    c: {sa1b: sa, weight: 1}\n    d: {masks: m, weight: 1}",
    )
    _, coco, sa1b, masks = run.sets
    assert (coco.format, coco.images, coco.annotations) == ("coco", "a", "annotations.json")
    assert (sa1b.format, masks.format) == ("sa1b", "masks")
    assert "images" in coco.told() and "images" not in sa1b.told()


def test_patience_without_a_validation(read: Read) -> None:
    with pytest.raises(UsageError, match=r"patience: needs a `validation`"):
        read("validation: {panoptic: photos, limit_images: 5}", "patience: 3")
