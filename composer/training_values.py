"""Values of a training file as the types of a dataclass, with errors that name file, line and key."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from composer.configs import check_keys, config_error
from sam.training.losses import LossConfig

_FROM_0 = (
    "seed", "workers", "warmup_steps", "weight_decay", "weight", "skip", "patience", "embedding",
    *(f.name for f in fields(LossConfig)),
)  # fmt: skip
_FROM_1 = (
    "rounds", "checkpoint_every", "log_every", "validate_every", "masks", "accumulate", "variants",
    "min_side", "enlarge",
)  # fmt: skip
_ABOVE_0 = ("learning_rate", "clip_norm", "minutes")
_MOST_BOX_NOISE = 0.25
"""Beyond it the corners of many a small box change places."""
_FROM_0_TO_1 = (
    "box_share", "ema_decay", "mosaic", "paste", "surroundings", "component", "group", "min_area", "max_area",
    "layer_decay", "share", "deepest_share",
)  # fmt: skip


def options(
    path: Path, cls: type[Any], values: Mapping[str, Any], section: str, exclude: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The mapping under ``section`` as the types of ``cls``; raises :class:`UsageError` for a bad one."""
    found = mapping(path, values, section)
    check_keys(found, [f.name for f in fields(cls) if f.name not in exclude], path, section)
    return checked(path, cls, found, section)


def checked(path: Path, cls: type[Any], values: Mapping[str, Any], *parents: str) -> dict[str, Any]:
    """``values`` as the types of the dataclass ``cls`` have them; raises :class:`UsageError`."""
    hints = get_type_hints(cls)
    found = {key: _converted(path, hints[key], value, (*parents, key)) for key, value in values.items()}
    for key, value in found.items():
        if value is not None and (expected := _out_of_range(key, value)):
            raise config_error(path, (*parents, key), f"expected {expected}, not {values[key]!r}")
    return found


def mapping(path: Path, values: Mapping[str, Any], key: str, *parents: str) -> Mapping[str, Any]:
    """The mapping under ``key``, empty where it is left out; raises :class:`UsageError`."""
    found = values.get(key)
    if found is None:
        found = {}
    if not isinstance(found, Mapping):
        raise config_error(path, (*parents, key), f"expected a mapping, not {found!r}")
    return found


def _out_of_range(key: str, value: Any) -> str:
    """What the setting ``key`` should have been; empty where ``value`` will do."""
    if key in _FROM_0 and value < 0:
        return "a number from 0"
    if key in _FROM_1 and value < 1:
        return "a number from 1"
    if key in _ABOVE_0 and value <= 0:
        return "a number above 0"
    if key in _FROM_0_TO_1 and not 0 <= value <= 1:
        return "a number from 0 to 1"
    if key == "photos" and not 0 < value <= 1:
        return "a number above 0, up to 1"
    if key == "box_noise" and not 0 <= value <= _MOST_BOX_NOISE:
        return f"a number from 0 to {_MOST_BOX_NOISE}"
    if key == "drop_path" and not 0 <= value < 1:
        return "a number from 0 and below 1"
    if key == "decay_at" and not 0 < value[0] < value[1] < 1:
        return "two numbers between 0 and 1, the smaller one first"
    if key == "scale" and not 0 < value[0] <= value[1]:
        return "two numbers above 0, the smaller one first"
    return ""


def _converted(path: Path, kind: Any, value: Any, keys: tuple[str, ...]) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int and number and value == int(value):
        return int(value)
    if kind in (float, float | None) and number:
        return float(value)
    if kind in (str, str | None) and isinstance(value, str):
        return value
    if value is None and kind in (str | None, float | None):
        return None
    if kind == tuple[float, float] and isinstance(value, list) and len(value) == 2:
        return tuple(_converted(path, float, part, keys) for part in value)
    if kind == tuple[str, ...] and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return tuple(value)
    raise config_error(path, keys, f"expected {getattr(kind, '__name__', kind)}, not {value!r}")
