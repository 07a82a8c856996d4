"""Checks of request fields, shared by the requests: one clear line for each way to be wrong."""

from __future__ import annotations

import math
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from adapters.decoding import Masks
from adapters.results import FloatArray, Instances
from sam.errors import BadPrompt

MAX_PROMPTS = 10_000
"""Most prompts that one request may hold."""


def number_array(value: npt.ArrayLike, field: str, expected: str) -> FloatArray:
    """``value`` as finite float32 numbers of any shape.

    Raises:
        BadPrompt: ragged lists, text, NaN or infinity; ``expected`` says what was wanted.
    """
    try:
        array = np.array(value, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        wanted = f", {expected}" if expected else ""
        raise BadPrompt(f"{field} must be numbers{wanted}", field=field) from error
    array[np.abs(array) > np.finfo(np.float32).max] = np.inf  # as float32 would have it
    if not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise BadPrompt(f"{field}{list(where)} is {array[where]}: {field} must be finite", field=field)
    return array.astype(np.float32)


def whole_number(value: Any, field: str, low: int, high: int) -> None:
    """Raises BadPrompt unless ``value`` is an int in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
        raise BadPrompt(
            f"{field} must be a whole number from {low} to {high}, not {value!r}",
            field=field,
            allowed={"min": low, "max": high},
        )


def real_number(value: Any, field: str, low: float, high: float) -> None:
    """Raises BadPrompt unless ``value`` is a finite number in [low, high]."""
    if not _is_finite(value) or not low <= value <= high:
        span = f"from {low:g} to {high:g}" if math.isfinite(high - low) else "that is finite"
        raise BadPrompt(
            f"{field} must be a number {span}, not {value!r}",
            field=field,
            allowed={"min": low, "max": high} if math.isfinite(high - low) else None,
        )


def _is_finite(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an int beyond all floats
        return False


def which_masks(value: Any) -> None:
    """Raises BadPrompt unless ``value`` is one of the ways to choose masks."""
    if value not in get_args(Masks):
        raise BadPrompt(
            f'masks must be "best" or "all", not {value!r}', field="masks", allowed=list(get_args(Masks))
        )


def prompt_count(count: int, what: str) -> None:
    """Raises BadPrompt for no prompts and for more than :data:`MAX_PROMPTS`."""
    if count == 0:
        raise BadPrompt(f"no {what}: give at least one", field=what, allowed={"min": 1, "max": MAX_PROMPTS})
    if count > MAX_PROMPTS:
        raise BadPrompt(
            f"{count} {what} in one request: give at most {MAX_PROMPTS}",
            field=what,
            allowed={"min": 1, "max": MAX_PROMPTS},
        )


def earlier_instances(value: Any, field: str) -> None:
    """Raises BadPrompt unless ``value`` is :class:`adapters.results.Instances`."""
    if not isinstance(value, Instances):
        raise BadPrompt(
            f"{field} must be Instances, such as another request's answer, not {type(value).__name__}",
            field=field,
        )


def of_this_image(instances: Instances, size: tuple[int, int], field: str) -> None:
    """Raises BadPrompt unless ``instances`` are of an image of ``size`` (H, W)."""
    (rows, columns), (height, width) = instances.image_size, size
    if (rows, columns) != (height, width):
        raise BadPrompt(
            f"{field} are of an image of {columns} x {rows} px, and this one has {width} x {height}",
            field=field,
        )
