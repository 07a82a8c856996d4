"""A segmenter small enough to be built in a test, as a preset on disk, and a photo to ask it about."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import yaml
from hypothesis import settings

from sam.checkpoints import save_weights
from sam.variants import ModelConfig, build_model

# No deadline: what a busy machine takes for one example says nothing about the code.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

SMALL_MODEL = {
    "encoder": {
        "family": "compact", "backbone": "regnetx_002", "image_size": 128, "out_chans": 32, "neck_chans": 16,
        "attention_layers": 1, "attention_heads": 2,
    },
    "decoder": {
        "embed_dim": 32, "num_heads": 2, "mlp_dim": 64, "iou_head_hidden_dim": 32, "mask_in_chans": 8,
    },
}  # fmt: skip


CLIP_TEXT = {"context_length": 32, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
CLIP_CONFIGS: dict[str, dict[str, Any]] = {
    "softmax": {
        "embed_dim": 64,
        "custom_text": True,
        "vision_cfg": {
            "timm_model_name": "regnetx_002", "timm_model_pretrained": False, "timm_pool": "avg",
            "timm_proj": "linear", "image_size": 64,
        },
        "text_cfg": CLIP_TEXT,
    },
    "transformer": {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": CLIP_TEXT,
    },
}  # fmt: skip
CLIP_CONFIGS["sigmoid"] = CLIP_CONFIGS["softmax"] | {"init_logit_bias": -10.0}


@pytest.fixture(scope="session")
def clip_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small text-image models with random weights, in open_clip's folder form, by what sort they are."""
    import open_clip

    root = tmp_path_factory.mktemp("clip")
    preprocessing = {"mean": [0.5, 0.4, 0.3], "std": [0.25, 0.2, 0.15]}
    for name, config in CLIP_CONFIGS.items():
        folder = root / name
        folder.mkdir()
        about = {"model_cfg": config, "preprocess_cfg": preprocessing}
        (folder / "open_clip_config.json").write_text(json.dumps(about))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
        save_weights(model, folder / "open_clip_model.safetensors", half=False)
    return {name: root / name for name in CLIP_CONFIGS}


@pytest.fixture(autouse=True, scope="session")
def two_threads() -> None:
    """As many as the machines that tests run on have cores, together; more would only wait for each other."""
    torch.set_num_threads(max(1, 2 // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))))


@pytest.fixture(scope="session")
def small_preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A YAML preset with seeded random weights beside it: it loads in a moment and its masks are blobs."""
    folder = tmp_path_factory.mktemp("preset")
    torch.manual_seed(0)
    model = build_model(ModelConfig.from_mapping("small", SMALL_MODEL))
    save_weights(model, folder / "small.safetensors")
    values = {
        "description": "Random weights, for tests.",
        "model": SMALL_MODEL,
        "weights": {"file": "small.safetensors"},
        "everything": {"pred_iou_thresh": -10.0, "stability_score_thresh": 0.0},
    }
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture(scope="session")
def photo() -> npt.NDArray[np.uint8]:
    """(90, 140, 3): a red disc and a green bar on grey noise."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(90, 130, (90, 140, 3), dtype=np.uint8)
    y, x = np.mgrid[:90, :140]
    pixels[(x - 40) ** 2 + (y - 45) ** 2 < 25**2] = (210, 30, 40)
    pixels[20:70, 95:115] = (30, 180, 60)
    return pixels


@pytest.fixture(scope="session")
def onnx_of_tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both parts of `tiny` as ONNX files, made once: tracing takes its seconds."""
    from composer import Composer
    from composer.onnx_export import export_onnx

    folder = tmp_path_factory.mktemp("onnx")
    composer = Composer.load("tiny", device="cpu", precision="fp32")
    files = export_onnx(composer, folder)
    assert all(file.difference is not None and file.difference < 1e-4 for file in files)
    return folder
