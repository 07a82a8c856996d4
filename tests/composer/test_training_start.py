"""What a run starts from: a file, a preset, or a file for a preset's architecture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from composer.training_config import read_training_run
from composer.training_start import new_model, read_start
from sam.checkpoints import save_weights
from sam.errors import UsageError
from sam.variants import ModelConfig, build_model

CPU = torch.device("cpu")
DECODER = {"embed_dim": 16, "num_heads": 2, "mlp_dim": 32, "iou_head_hidden_dim": 16, "mask_in_chans": 4}
ENCODER = {
    "family": "vit", "image_size": 64, "embed_dim": 16, "depth": 2, "num_heads": 2,
    "global_attn_indexes": [1], "window_size": 3, "out_chans": 16,
}  # fmt: skip
SMALL = ModelConfig.from_mapping("small", {"encoder": ENCODER, "decoder": DECODER})
WITH_TEXT = replace(SMALL, decoder=replace(SMALL.decoder, text_dim=5))
RUN = """\
phases: [{steps: 1, size: 1024, batch: 1}]
init: vit_b:mine.pth
data: {sets: {s: {shapes: 3, weight: 1}}}
"""


def read(tmp_path: Path, text: str, init: str | None = None):
    (tmp_path / "run.yaml").write_text(text)
    return read_training_run(tmp_path / "run.yaml", init)


def test_a_presets_architecture_with_a_file(tmp_path: Path) -> None:
    run = read(tmp_path, RUN)
    assert run.model.name == run.config.model == "vit_b"
    assert run.start is not None and run.start.file == tmp_path / "mine.pth"
    named = read(tmp_path, RUN.replace("init: vit_b:mine.pth", "init: vit_b\nmodel: vit_b"))
    assert named.start is not None and named.start.file is None
    given = read(tmp_path, RUN, init="vit_b:other.pth")  # from the working folder, not from the file's
    assert given.start is not None and given.start.file == Path("other.pth")
    assert given.config.init == "vit_b:other.pth"


@pytest.mark.parametrize(
    ("old", "new", "key", "reason"),
    [
        ("vit_b:mine.pth", "vit_x:mine.pth", "init", "nor a preset 'vit_x'; known: tiny"),
        ("vit_b:mine.pth", "'vit_b:'", "init", "expected a file after 'vit_b:'"),
        ("vit_b:mine.pth", "''", "init", "not an empty text"),
        ("vit_b:mine.pth", "mine.pth", "model", "or a preset in `init`"),
        ("init", "model: tiny\ninit", "init", "preset 'vit_b' is not of model 'tiny'"),
        ("size: 1024", "size: 512", "phases", "a ViT takes canvases of its own size alone, 1024, not 512"),
    ],
)
def test_what_cannot_be_started_from(tmp_path: Path, old: str, new: str, key: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, RUN.replace(old, new, 1))
    assert caught.value.field == key and reason in str(caught.value) and "run.yaml" in str(caught.value)


def test_weights_without_a_text_slot_give_all_but_that(tmp_path: Path) -> None:
    for config in (SMALL, WITH_TEXT):
        torch.manual_seed(9)
        save_weights(build_model(config), tmp_path / f"{config.decoder.text_dim}.safetensors", half=False)
    start = read_start(tmp_path / "run.yaml", "None.safetensors", tmp_path)
    model, fresh = new_model(WITH_TEXT, 0, start, CPU), new_model(WITH_TEXT, 0, None, CPU)
    given = new_model(SMALL, 0, start, CPU).state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(value, given.get(name, fresh.state_dict()[name])), name
    whole = new_model(WITH_TEXT, 0, read_start(tmp_path / "run.yaml", "5.safetensors", tmp_path), CPU)
    assert (
        whole.prompt_encoder.text_projection is not None and fresh.prompt_encoder.text_projection is not None
    )
    assert not torch.equal(
        whole.prompt_encoder.text_projection.weight, fresh.prompt_encoder.text_projection.weight
    )
    kept = new_model(SMALL, 0, read_start(tmp_path / "run.yaml", "5.safetensors", tmp_path), CPU)
    assert all(torch.equal(value, kept.state_dict()[name]) for name, value in whole.state_dict().items())
