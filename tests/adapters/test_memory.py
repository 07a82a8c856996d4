"""A thousand masks of a large photo fit in memory: they are never upsampled all at once."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

# 108 masks of 12 megapixels: 5.2 GB of logits on the plain path, or 1.3 GB as bits in bytes.
SCRIPT = """
import resource
import numpy as np, torch
from adapters.base import Defaults, Scene
from adapters.everything import Everything, EverythingAdapter
from sam.image_encoder.vit import ViTConfig
from sam.variants import DecoderConfig, ModelConfig, build_model

torch.manual_seed(0)
encoder = ViTConfig(16, 1, 2, (0,), image_size=64, patch_size=8, out_chans=32)
model = build_model(ModelConfig("tiny", encoder, DecoderConfig(embed_dim=32, num_heads=2, mlp_dim=32)))
photo = np.random.default_rng(0).integers(0, 256, (3000, 4000, 3), dtype=np.uint8)
scene = Scene(photo, model, lambda pixels: model.encode([pixels])[0], Defaults(0.0, 0.0))
scene.embedding
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
request = Everything(points_per_side=6, pred_iou_thresh=-1e9, box_nms_thresh=1.0, max_mask_area_fraction=None)
found = EverythingAdapter()(scene, request)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(len(found), (after - before) // 1024)
"""


def test_peak_memory_of_everything_on_a_large_photo() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT)], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    count, grown = (int(value) for value in done.stdout.split())
    assert count >= 100, "the measurement needs masks to mean something"
    assert grown < 700, f"{grown} MB for {count} masks"
