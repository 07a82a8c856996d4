"""A training run as its YAML file tells it: what to train, on which photos, and how it is watched."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

from composer.configs import check_keys, config_error, load_yaml
from composer.evaluation.scoring import MaskFilter
from composer.presets import load_model_config
from composer.training_data import DataSet
from sam.training.canvas import SamplingConfig
from sam.training.config import Phase, TrainingConfig
from sam.training.losses import LossConfig
from sam.variants import ModelConfig

FORMATS = ("panoptic", "bsds", "shapes")
_SCALARS = [f.name for f in fields(TrainingConfig) if f.name not in ("phases", "sampling", "losses", "model")]
_SECTIONS = ("model", "phases", "sampling", "losses", "data", "validation", "description")
_FROM_0 = (
    "seed", "workers", "warmup_steps", "weight_decay", "weight", "skip",
    *(f.name for f in fields(LossConfig)),
)  # fmt: skip
_FROM_1 = ("rounds", "checkpoint_every", "log_every", "validate_every", "masks")
_ABOVE_0 = ("learning_rate", "clip_norm")
_FROM_0_TO_1 = (
    "box_share", "ema_decay", "mosaic", "paste", "surroundings", "component", "group", "min_area", "max_area",
)  # fmt: skip


@dataclass(frozen=True)
class Validation:
    """Held-out photos that are evaluated now and then.

    Attributes:
        format, source: as of a :class:`composer.training_data.DataSet`; ``panoptic`` or ``shapes``.
        limit_images: its first so many photos; these must be held out of training.
        which: masks of each photo.
    """

    format: str
    source: str
    limit_images: int
    which: MaskFilter


@dataclass(frozen=True)
class TrainingRun:
    """What a file of ``configs/training`` says.

    Attributes:
        config: of the trainer.
        model: shapes of what is trained.
        sets: its photos.
        long_side: larger photos are shrunk to this when they are packed.
        root: folder that holds the sets, unless the caller names another.
        validation: or None.
    """

    config: TrainingConfig
    model: ModelConfig
    sets: tuple[DataSet, ...]
    long_side: int
    root: Path
    validation: Validation | None


def read_training_run(path: Path) -> TrainingRun:
    """Read and check a training file.

    Raises:
        UsageError: an unknown key or a bad value, with its line.
    """
    values = load_yaml(path)
    check_keys(values, (*_SECTIONS, *_SCALARS), path)
    if not isinstance(values.get("model"), str):
        raise config_error(path, ("model",), "expected the name of a model of configs/models")
    sets, long_side, root = read_data(path, values)
    sampling = _options(path, SamplingConfig, values, "sampling", exclude=("weights",))
    sampling["weights"] = {one.name: one.weight for one in sets}
    scalars = _checked(path, TrainingConfig, {k: values[k] for k in _SCALARS if k in values})
    try:
        config = TrainingConfig(
            model=values["model"],
            phases=_phases(path, values.get("phases")),
            sampling=SamplingConfig(**sampling),
            losses=LossConfig(**_options(path, LossConfig, values, "losses")),
            **scalars,
        )
    except ValueError as error:
        raise config_error(path, ("phases",), str(error).removeprefix("phases: ")) from error
    run = TrainingRun(
        config,
        load_model_config(values["model"], path.parent),
        sets,
        long_side,
        root,
        read_validation(path, values.get("validation")),
    )
    check_held_out(path, run.sets, run.validation)
    return run


def read_data(path: Path, values: Mapping[str, Any]) -> tuple[tuple[DataSet, ...], int, Path]:
    """The section ``data`` of a training file: its sets, the most pixels of a side, and the sets' folder.

    Raises:
        UsageError: an unknown key or a bad value, with its line.
    """
    section = _mapping(path, values, "data")
    check_keys(section, ("root", "sets", "long_side"), path, "data")
    named = _mapping(path, section, "sets", "data")
    sets = tuple(_data_set(path, name, named[name]) for name in named)
    if not any(one.weight > 0 for one in sets):
        raise config_error(path, ("data", "sets"), "expected at least one set with a weight above 0")
    long_side = section.get("long_side", 512)
    if isinstance(long_side, bool) or not isinstance(long_side, int) or not 64 <= long_side <= 4096:
        raise config_error(path, ("data", "long_side"), f"expected pixels from 64 to 4096, not {long_side!r}")
    return sets, long_side, _root(path, section)


def _root(path: Path, section: Mapping[str, Any]) -> Path:
    root = section.get("root", "data")
    if not isinstance(root, str) or not root:
        raise config_error(path, ("data", "root"), f"expected a folder, from this file's own, not {root!r}")
    return path.parent / root


def _data_set(path: Path, name: Any, values: Any) -> DataSet:
    keys = ("data", "sets", str(name))
    if not isinstance(values, Mapping) or sum(key in values for key in FORMATS) != 1:
        raise config_error(
            path, keys, "expected a mapping with one of `panoptic`, `bsds` and `shapes`, and `weight`"
        )
    if not str(name).replace("-", "").replace("_", "").isalnum():
        raise config_error(path, keys, "a set's name is letters, digits, - and _")
    check_keys(values, (*FORMATS, "weight", "skip", "splits", "licence"), path, *keys)
    kind = next(key for key in FORMATS if key in values)
    options = _checked(path, DataSet, {k: v for k, v in values.items() if k not in FORMATS}, *keys)
    if "weight" not in options:
        raise config_error(path, keys, "`weight` is missing: its share of the samples")
    return DataSet(str(name), kind, _source(path, values[kind], *keys, kind), **options)


def read_validation(path: Path, values: Any) -> Validation | None:
    """The section ``validation`` of a training file. Raises :class:`UsageError`."""
    if values is None:
        return None
    keys = ("panoptic", "shapes", "limit_images", "max_masks_per_image", "min_area")
    if not isinstance(values, Mapping) or ("panoptic" in values) == ("shapes" in values):
        raise config_error(path, ("validation",), "expected a mapping with `panoptic` or `shapes`")
    check_keys(values, keys, path, "validation")
    numbers = {"limit_images": 20, "max_masks_per_image": 8, "min_area": 100}
    for key, default in numbers.items():
        value = values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < (key != "min_area"):
            raise config_error(path, ("validation", key), f"expected a whole number, not {value!r}")
        numbers[key] = value
    kind = "panoptic" if "panoptic" in values else "shapes"
    source = _source(path, values[kind], "validation", kind)
    which = MaskFilter(numbers["min_area"], numbers["max_masks_per_image"])
    return Validation(kind, source, numbers["limit_images"], which)


def check_held_out(path: Path, sets: Sequence[DataSet], validation: Validation | None) -> None:
    """Refuse to validate on photos that are trained on, which nobody means. Raises :class:`UsageError`."""
    if validation is None:
        return
    for one in sets:
        same = (one.format, one.source) == (validation.format, validation.source)
        if same and one.weight > 0 and one.skip < validation.limit_images:
            raise config_error(
                path,
                ("data", "sets", one.name),
                f"skip holds out {one.skip} photos, but validation uses the first "
                f"{validation.limit_images}: set skip to at least that",
            )


def _phases(path: Path, values: Any) -> tuple[Phase, ...]:
    known = [f.name for f in fields(Phase)]
    if not isinstance(values, list) or not values:
        raise config_error(path, ("phases",), "expected a list of {steps, size, batch}")
    for value in values:
        if not isinstance(value, Mapping) or set(value) != set(known):
            raise config_error(path, ("phases",), f"each phase is {{steps, size, batch}}, not {value!r}")
    try:
        return tuple(Phase(**_checked(path, Phase, value, "phases")) for value in values)
    except ValueError as error:
        raise config_error(path, ("phases",), str(error)) from error


def _options(
    path: Path, cls: type[Any], values: Mapping[str, Any], section: str, exclude: tuple[str, ...] = ()
) -> dict[str, Any]:
    options = _mapping(path, values, section)
    check_keys(options, [f.name for f in fields(cls) if f.name not in exclude], path, section)
    return _checked(path, cls, options, section)


def _checked(path: Path, cls: type[Any], values: Mapping[str, Any], *parents: str) -> dict[str, Any]:
    """``values`` as the types of the dataclass ``cls`` have them."""
    hints = get_type_hints(cls)
    checked = {key: _converted(path, hints[key], value, (*parents, key)) for key, value in values.items()}
    for key, value in checked.items():
        if expected := _out_of_range(key, value):
            raise config_error(path, (*parents, key), f"expected {expected}, not {values[key]!r}")
    return checked


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
    if key == "scale" and not 0 < value[0] <= value[1]:
        return "two numbers above 0, the smaller one first"
    return ""


def _converted(path: Path, kind: Any, value: Any, keys: tuple[str, ...]) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int and number and value == int(value):
        return int(value)
    if kind is float and number:
        return float(value)
    if kind in (str, str | None) and (isinstance(value, str) or (value is None and kind is not str)):
        return value
    if kind == tuple[float, float] and isinstance(value, list) and len(value) == 2:
        return tuple(_converted(path, float, part, keys) for part in value)
    if kind == tuple[str, ...] and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return tuple(value)
    raise config_error(path, keys, f"expected {getattr(kind, '__name__', kind)}, not {value!r}")


def _mapping(path: Path, values: Mapping[str, Any], key: str, *parents: str) -> Mapping[str, Any]:
    found = values.get(key)
    if found is None:
        found = {}
    if not isinstance(found, Mapping):
        raise config_error(path, (*parents, key), f"expected a mapping, not {found!r}")
    return found


def _source(path: Path, value: Any, *keys: str) -> str:
    if keys[-1] == "shapes":
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 100_000:
            raise config_error(path, keys, f"expected how many photos to make, not {value!r}")
        return str(value)
    if not isinstance(value, str) or not value or Path(value).is_absolute() or ".." in Path(value).parts:
        raise config_error(path, keys, f"expected a name under the data root, not {value!r}")
    return str(Path(value)).removesuffix(".tar")  # one spelling of each, so that they can be compared
