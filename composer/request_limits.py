"""How much one call may ask for, checked before anything is decoded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from adapters.base import Request
from adapters.decoding import PER_PROMPT
from composer.limits import Limits
from sam.errors import BadPrompt

BITS = 8


def check_counts(request: Request, limits: Limits) -> None:
    """Raises BadPrompt where ``request`` has more prompts or longer texts than ``limits`` allow."""
    for field in ("points", "boxes", "mask_logits"):
        value = getattr(request, field, None)
        if value is None:
            continue
        shape = np.shape(value)
        count = int(np.prod(shape[:-1])) if field == "points" else shape[0]
        _check_count(count, field, limits)
    side = getattr(request, "points_per_side", None)
    if isinstance(side, int):
        _check_count(side * side, "points_per_side", limits)
    for grid in getattr(request, "point_grids", None) or ():
        _check_count(len(grid), "point_grids", limits)
    for field in ("phrases", "negatives", "classes"):
        _check_texts(getattr(request, field, None) or (), field, limits)


def check_mask_budget(request: Request, size: tuple[int, int], limits: Limits) -> None:
    """Refuse prompts whose masks would not fit, each at a bit for every pixel of the image.

    Args:
        request: points or boxes; what finds its own masks holds few at a time.
        size: (height, width) of the image.
        limits: ``mask_memory_bytes`` of them.

    Raises:
        BadPrompt: ``mask_budget``.
    """
    prompts = getattr(request, "points", getattr(request, "boxes", None))
    if prompts is None:
        return
    masks = len(np.asarray(prompts)) * PER_PROMPT[getattr(request, "masks", "best")]
    most = limits.mask_memory_bytes * BITS // (size[0] * size[1])
    if masks > most:
        raise BadPrompt(
            f"{masks} masks of {size[1]} x {size[0]} px exceed the memory for masks; ask for at most {most} "
            "at a time, or send a smaller image",
            code="mask_budget",
            field=request.kind,
            allowed={"min": 1, "max": most},
        )


def _check_count(count: int, field: str, limits: Limits) -> None:
    if count > limits.max_prompts:
        raise BadPrompt(
            f"{count} prompts by {field}; at most {limits.max_prompts} are accepted in one request",
            code="too_many_prompts",
            field=field,
            allowed={"min": 1, "max": limits.max_prompts},
        )


def _check_texts(texts: Iterable[Any], field: str, limits: Limits) -> None:
    for text in texts:
        if isinstance(text, str) and len(text) > limits.max_text_length:
            raise BadPrompt(
                f"a text of {len(text)} characters; at most {limits.max_text_length} are accepted",
                field=field,
                allowed={"max_length": limits.max_text_length},
            )
