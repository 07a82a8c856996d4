"""A pair learns, can be stopped and goes on as if it had not been, and is kept in open_clip's form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from adapters.clip import TextImageModel
from apps.cli import run as command
from composer.clip_training.config import is_clip_run, read_clip_run
from composer.clip_training.pack import pack_all
from composer.clip_training.pictures import contrastive_loss
from composer.clip_training.run import Watch, train
from composer.clip_training.words import distillation_loss
from sam.checkpoints import load_training_state, read_weights, save_training_state
from sam.errors import CheckpointError, EnvironmentProblem, UsageError
from sam.training.trainer import read_log

pytestmark = pytest.mark.usefixtures("teacher")


def test_a_stopped_run_ends_as_an_unstopped_one(data: Path) -> None:
    run = read_clip_run(data / "clip.yaml")
    whole = train(run, data / "whole", data=data, packed=data / "packed")
    assert whole is not None
    for stop_after in (3, 6, 4, 99):  # in the first part, at its end, in the second
        count = 0

        def should_stop(most: int = stop_after) -> bool:
            nonlocal count
            count += 1
            return count == most

        parts = train(
            run, data / "parts", data=data, packed=data / "packed", watch=Watch(should_stop=should_stop)
        )
    assert parts is not None
    one, other = (read_weights(folder / "open_clip_model.safetensors").tensors for folder in (whole, parts))
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=0, atol=2e-3, msg=name)
    log = [json.loads(line) for line in (data / "whole/log.jsonl").read_text().splitlines()]
    assert [entry["part"] for entry in log] == ["words", "pictures", "pictures"]
    assert set(log[-1]["held_out"]) == {"pictures (2 words)", "unseen words (1 words)", "regions (1 words)"}
    model = TextImageModel.load(whole)
    assert model.encode_phrases(["red", "a thing never heard of"]).shape == (2, 16)
    assert model.bias is not None


@pytest.mark.parametrize("what", ["damaged", "foreign", "of another model"])
def test_a_state_that_does_not_fit_is_refused(data: Path, what: str) -> None:
    run, folder = read_clip_run(data / "clip.yaml"), data / "run"
    train(run, folder, data=data, packed=data / "packed", watch=Watch(should_stop=lambda: True))
    state = load_training_state(folder / "state.pt")
    if what == "damaged":
        (folder / "state.pt").write_bytes((folder / "state.pt").read_bytes()[:500])
    else:
        state = {"step": 1} if what == "foreign" else state | {"model": {"x": torch.zeros(1)}}
        save_training_state(folder / "state.pt", state)
    with pytest.raises(CheckpointError, match=r"state\.pt: (damaged|the state of another model)"):
        train(run, folder, data=data, packed=data / "packed")


def test_what_is_done_again_is_logged_once(data: Path) -> None:
    run, folder = read_clip_run(data / "clip.yaml"), data / "run"
    train(run, folder, data=data, packed=data / "packed", watch=Watch(should_stop=lambda: True))
    with (folder / "log.jsonl").open("a") as log:  # of steps after the saved state, the last line cut short
        log.write('{"part": "words", "step": 2, "loss": 9}\n{"part": "pictures", "step": 1}\n{"part": "wo')
    assert train(run, folder, data=data, packed=data / "packed") is not None
    steps = [(row["part"], row["step"], "held_out" in row) for row in read_log(folder / "log.jsonl")]
    assert steps == [("words", 6, False), ("pictures", 6, False), ("pictures", 6, True)]


def test_a_pack_of_something_else_is_packed_anew(data: Path) -> None:
    def counts() -> dict[str, int]:
        found, held = pack_all(read_clip_run(config), data, data / "packed")
        return {name: len(packed) for name, packed in {**found, "held-out": held}.items()}

    config = data / "clip.yaml"
    first, at = counts(), (data / "packed/pictures/about.json").stat().st_mtime_ns
    config.write_text(
        config.read_text().replace("limit_images: 3", "limit_images: 5").replace("skip: 3", "skip: 5")
    )
    second = counts()
    assert second["shapes"] < first["shapes"] and second["held-out"] > first["held-out"]
    assert second["pictures"] == first["pictures"]
    assert (data / "packed/pictures/about.json").stat().st_mtime_ns == at  # nothing about it has changed


def test_a_pack_without_a_record_of_its_source_is_taken(data: Path) -> None:
    run = read_clip_run(data / "clip.yaml")
    pack_all(run, data, data / "packed")
    for path in (data / "packed").glob("*/about.json"):
        about = json.loads(path.read_text())
        assert about.pop("made_of")["path"].startswith(str(data))
        path.write_text(json.dumps(about))
        path.with_name("windows.npy").touch()
    before = {path: path.stat().st_mtime_ns for path in (data / "packed").glob("*/*")}
    pack_all(run, data, data / "packed")
    assert {path: path.stat().st_mtime_ns for path in (data / "packed").glob("*/*")} == before


def test_losses_are_least_where_all_is_right() -> None:
    right = torch.eye(4, dtype=torch.bool)
    vectors, scale, bias = torch.eye(4, 8), torch.tensor(20.0), torch.tensor(-10.0)
    good = contrastive_loss(vectors, vectors, right, scale, bias)
    bad = contrastive_loss(vectors, vectors.roll(1, 0), right, scale, bias)
    assert good < 0.01 < 5 < bad
    same, cosine = distillation_loss(vectors * 3, vectors)
    assert same < 1e-3 and cosine == pytest.approx(1)


def test_the_command_trains(data: Path) -> None:
    assert is_clip_run(data / "clip.yaml")
    paths = {"--config": data / "clip.yaml", "--data": data, "--out": data / "run"}
    assert command(["train", *(str(part) for pair in paths.items() for part in pair)]) == 0
    assert (data / "run/model/open_clip_config.json").is_file()


def test_a_missing_teacher_says_how_to_get_it(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from composer.clip_training import teacher

    monkeypatch.setattr("composer.clip_training.run.teacher_vectors", teacher.teacher_vectors)
    with pytest.raises(EnvironmentProblem, match="pip install no-such-teacher"):
        train(read_clip_run(data / "clip.yaml"), data / "run", data=data, packed=data / "packed")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("steps: 6", "steps: none", "steps: expected a whole number"),
        ("held_out:", "held:", "held"),
        ("learning_rate: 0.003", "", ":4: words.learning_rate: expected a number above 0, and it is missing"),
        ("learning_rate: 0.002", "learning_rate: fast", ":6: pictures.learning_rate: .* not 'fast'"),
        ("text_learning_rate: 0.001", "", "pictures.text_learning_rate: .* missing"),
        ("teacher: no_such_teacher, ", "", "words.teacher: expected the name of a package"),
        ("nouns: {tar: pictures, file: nouns.txt}", "nouns: x", "words.nouns: expected a mapping with `tar`"),
        ("{tar: pictures, file: nouns.txt}", "{tar: pictures}", "words.nouns.file: .* missing"),
        ("embed_dim: 16, ", "", ":1: clip.embed_dim: expected a whole number from 1, and it is missing"),
        ("image_size: 32", "image_size: true", "clip.image_size: .* not True"),
        ("backbone: regnetx_002", "backbone: regnet", "clip.backbone: .* not 'regnet'"),
        (
            "text: {context_length: 16, width: 16, heads: 1, layers: 1}",
            "text: 3",
            "clip.text: expected a map",
        ),
        ("layers: 1", "layer: 1", "clip.text.layer: unknown key"),
        ("heads: 1", "heads: 3", "clip.text.width: expected a multiple of heads, 3"),
        ("validation:", "seed: x\nvalidation:", ":3: seed: expected a whole number, not 'x'"),
        ("{weight: 1}", "3", "data.folders.pictures: expected a mapping with `weight`, not 3"),
        ("{weight: 1}", "{weight: -1}", "data.folders.pictures.weight: expected a number from 0, not -1"),
        ("pictures: {weight", "held-out: {weight", "data.folders.held-out: .* not held-out"),
        ("sets: {shapes:", "sets: {pictures:", "data.sets.pictures: this name is taken"),
        ("[teapot]", "teapot", "vocabulary.held_out: expected a list of words, not 'teapot'"),
        ("crimson: [red]", "crimson: red", ":11: vocabulary.same.crimson: expected a list of words"),
        ("crimson: [red]", "no: [red]", "vocabulary.same.False: expected a word: put it in quotes"),
        ("limit_images: 3", "limit_images: 5", "skip"),
    ],
)
def test_mistakes_in_the_file_are_named(data: Path, old: str, new: str, message: str) -> None:
    path = data / "clip.yaml"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(UsageError, match=message):
        read_clip_run(path)
