"""`export-onnx`: what it writes and says; the files themselves are tested where they are made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from composer.presets import load_preset
from sam.checkpoints import save_weights
from sam.variants import build_model

MODEL = {
    "encoder": {
        "family": "vit", "embed_dim": 16, "depth": 1, "num_heads": 1, "global_attn_indexes": [0],
        "image_size": 64, "out_chans": 16,
    },
    "decoder": {"embed_dim": 16, "num_heads": 2, "mlp_dim": 32},
}  # fmt: skip


@pytest.fixture
def smallest(tmp_path: Path) -> Path:
    path = tmp_path / "smallest.yaml"
    path.write_text(yaml.safe_dump({"model": MODEL, "weights": {"file": "smallest.safetensors"}}))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_weights(build_model(load_preset(path).model), tmp_path / "smallest.safetensors")
    return path


def test_it_writes_what_it_says(cli, smallest: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "net.onnx"
    ended = cli("export-onnx", "--preset", smallest, "--part", "encoder", "--out", out)
    assert (ended.code, ended.err) == (0, "")
    size = f"{out.stat().st_size:,} bytes"
    assert ended.out.startswith(f"{out}  {size}  as PyTorch, to ") and "of the largest value" in ended.out
    about = json.loads(out.with_suffix(".json").read_text())
    assert about["files"] == {"encoder": "net.onnx"} and about["image_size"] == 64


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--opset", "3"], 2, "opset 3: expected 18 to"),
        (["--part", "neck"], 2, "'neck'"),
        (["--quantize", "int4"], 2, "'int4'"),
        (["--preset", "huge"], 2, "unknown preset 'huge'"),
        (["--checkpoint", "missing.pth"], 5, "missing.pth"),
    ],
)
def test_errors(cli, tmp_path: Path, options: list[str], code: int, said: str) -> None:
    ended = cli("export-onnx", "--out", tmp_path / "a.onnx", *options)
    assert ended.code == code and said in ended.error and ended.out == ""
    assert not (tmp_path / "a.onnx").exists()
