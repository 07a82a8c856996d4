"""A thousand masks of a large photo fit in memory: they are never upsampled all at once, nor all held."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

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

# 50 megapixels, ViT-B's cells: a third of the logits may be held. Noise has an outline in every tile, and a
# million runs.
DRAWING = """
import resource
import numpy as np, torch
from adapters import contest as contests
from adapters.drawing import MaskDrawer

torch.manual_seed(0)
contests.HELD_LOGITS_BUDGET = 10 << 20
y, x = torch.meshgrid(torch.arange(172.0), torch.arange(256.0), indexing="ij")

def logits(number):
    if number % 133 == 66:
        return torch.randn(172, 256)
    return 4 + number % 9 - torch.hypot(x - number * 7 % 256, y - number * 5 % 172)

def again(rows):
    for row in rows:
        yield row[None], logits(int(row[0]))[None]

drawer = MaskDrawer((256, 256), 1024, (683, 1024), (5774, 8660))
contest = contests.Contest(drawer, again, lambda boxes: np.ones(len(boxes), bool), nms_thresh=0.7)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for number in range(160):
    contest.add(torch.tensor([[number, 0]]), torch.tensor([number / 160]), logits(number)[None])
found = contest.winners()
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(len(found.drawn), (after - before) // 1024)
"""


@pytest.mark.parametrize(
    ("script", "most"),
    [pytest.param(SCRIPT, 700, id="everything"), pytest.param(DRAWING, 400, id="50-megapixels")],
)
def test_peak_memory_on_a_large_photo(script: str, most: int) -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    count, grown = (int(value) for value in done.stdout.split())
    print(f"{grown} MB for {count} masks")
    assert count >= 100, "the measurement needs masks to mean something"
    assert grown < most, f"{grown} MB for {count} masks"
