"""What to do when memory runs out: free what can be freed, and try once more with less at a time."""

from __future__ import annotations

import gc
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch

from adapters.base import Request
from adapters.boxes import Boxes
from adapters.points import Points
from adapters.results import Instances, Result
from composer.composer import Composer, Scene
from sam.errors import Unavailable

SMALL_BATCH = 8
"""Prompts decoded at a time at the second attempt."""
RETRY_AFTER = 5
_NAMED = (MemoryError, getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError))
_SAID = ("out of memory", "can't allocate memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that host or device memory ran out, in any of torch's ways to say so."""
    return isinstance(error, _NAMED) or (
        isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _SAID)
    )


def free_memory(composer: Composer) -> None:
    """Drop cached embeddings and what torch keeps for later."""
    composer.cache.clear()
    gc.collect()
    if composer.device.type == "cuda":
        torch.cuda.empty_cache()


def exhausted() -> Unavailable:
    """The error of a second attempt that failed too, to raise."""
    return Unavailable(
        "not enough memory for this now; ask for less, or send a smaller image",
        code="out_of_memory",
        retry_after=RETRY_AFTER,
    )


def run_smaller(scene: Scene, request: Request) -> Result:
    """Answer ``request``, the same, with at most :data:`SMALL_BATCH` prompts in memory at a time.

    Boxes with ``zoom`` may share fewer windows then, which changes their masks a little.
    """
    if isinstance(request, Points | Boxes):
        return _in_parts(scene, request)
    names = {field.name for field in fields(request)}
    if "points_per_batch" in names:
        given: Any = request
        request = replace(given, points_per_batch=min(SMALL_BATCH, given.points_per_batch))
    return scene.run(request)


def _in_parts(scene: Scene, request: Points | Boxes) -> Instances:
    field = "points" if isinstance(request, Points) else "boxes"
    per_prompt = ("points", "labels", "mask_logits", "boxes")
    prompts: Any = getattr(request, field)
    parts = []
    for start in range(0, len(prompts), SMALL_BATCH):
        chosen = {
            name: value[start : start + SMALL_BATCH]
            for name in per_prompt
            if (value := getattr(request, name, None)) is not None
        }
        found = scene.run(replace(request, **chosen))
        assert isinstance(found, Instances)
        parts.append(found.replace(prompt_index=found.prompt_index + np.int64(start)))
    if len(parts) > 1:
        parts = [part.replace(low_res_logits=None) for part in parts]
    return Instances.concatenate(parts)
