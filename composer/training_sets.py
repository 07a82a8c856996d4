"""The sets of a training file: what to learn from, and what is held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from composer.configs import check_keys, config_error
from composer.evaluation.scoring import MaskFilter
from composer.training_data import COCO_FILES, FORMATS, DataSet
from composer.training_values import checked, mapping

FIGURES = ("miou@1", "miou@2", "miou@3", "oracle@1", "box", "box_filled")
"""Of a validation: mean IoU of one to three clicks, of the best of three masks, of boxes, of filled boxes."""
VALIDATED = tuple(name for name in FORMATS if name != "bsds")
"""Formats of which photos can be held out."""


@dataclass(frozen=True)
class Validation:
    """Held-out photos that are evaluated now and then.

    Attributes:
        format, source, images, annotations: as of a :class:`composer.training_data.DataSet`, but not BSDS.
        limit_images: its first so many photos; these must be held out of training.
        which: masks of each photo.
        floor: figures that a finished run must reach, by name (:data:`FIGURES`).
    """

    format: str
    source: str
    limit_images: int
    which: MaskFilter
    images: str = COCO_FILES[0]
    annotations: str = COCO_FILES[1]
    floor: Mapping[str, float] = field(default_factory=dict)


def read_data(path: Path, values: Mapping[str, Any]) -> tuple[tuple[DataSet, ...], int, Path]:
    """The section ``data`` of a training file: its sets, the most pixels of a side, and the sets' folder.

    Raises:
        UsageError: an unknown key or a bad value, with its line.
    """
    section = mapping(path, values, "data")
    check_keys(section, ("root", "sets", "long_side"), path, "data")
    named = mapping(path, section, "sets", "data")
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
        known = ", ".join(f"`{name}`" for name in FORMATS)
        raise config_error(path, keys, f"expected a mapping with one of {known}, and `weight`")
    if not str(name).replace("-", "").replace("_", "").isalnum():
        raise config_error(path, keys, "a set's name is letters, digits, - and _")
    kind = next(key for key in FORMATS if key in values)
    own = {"bsds": ("splits",), "coco": ("images", "annotations")}.get(kind, ())
    check_keys(values, (kind, "weight", "skip", "licence", *own), path, *keys)
    options = checked(path, DataSet, {k: v for k, v in values.items() if k not in FORMATS}, *keys)
    if "weight" not in options:
        raise config_error(path, keys, "`weight` is missing: its share of the samples")
    for key in ("images", "annotations"):
        if key in options:
            _source(path, options[key], *keys, key)
    return DataSet(str(name), kind, _source(path, values[kind], *keys, kind), **options)


def read_validation(path: Path, values: Any) -> Validation | None:
    """The section ``validation`` of a training file. Raises :class:`UsageError`."""
    if values is None:
        return None
    known = ", ".join(f"`{name}`" for name in VALIDATED)
    if not isinstance(values, Mapping) or sum(key in values for key in VALIDATED) != 1:
        raise config_error(path, ("validation",), f"expected a mapping with one of {known}")
    kind = next(key for key in VALIDATED if key in values)
    own = ("images", "annotations") if kind == "coco" else ()
    keys = (kind, "limit_images", "max_masks_per_image", "min_area", "floor", *own)
    check_keys(values, keys, path, "validation")
    files = {key: _source(path, values[key], "validation", key) for key in own if key in values}
    numbers = {"limit_images": 20, "max_masks_per_image": 8, "min_area": 100}
    for key, default in numbers.items():
        value = values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < (key != "min_area"):
            raise config_error(path, ("validation", key), f"expected a whole number, not {value!r}")
        numbers[key] = value
    source = _source(path, values[kind], "validation", kind)
    which = MaskFilter(numbers["min_area"], numbers["max_masks_per_image"])
    floor = _floor(path, mapping(path, values, "floor", "validation"))
    return Validation(kind, source, numbers["limit_images"], which, **files, floor=floor)


def _floor(path: Path, values: Mapping[str, Any]) -> dict[str, float]:
    check_keys(values, FIGURES, path, "validation", "floor")
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise config_error(
                path, ("validation", "floor", key), f"expected a number from 0 to 1, not {value!r}"
            )
    return {key: float(value) for key, value in values.items()}


def check_held_out(path: Path, sets: Sequence[DataSet], validation: Validation | None) -> None:
    """Refuse to validate on photos that are trained on, which nobody means. Raises :class:`UsageError`."""
    if validation is None:
        return
    for one in sets:
        same = (one.format, one.source) == (validation.format, validation.source)
        same = same and one.annotations == validation.annotations
        if same and one.weight > 0 and one.skip < validation.limit_images:
            raise config_error(
                path,
                ("data", "sets", one.name),
                f"skip holds out {one.skip} photos, but validation uses the first "
                f"{validation.limit_images}: set skip to at least that",
            )


def _source(path: Path, value: Any, *keys: str) -> str:
    if keys[-1] == "shapes":
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 100_000:
            raise config_error(path, keys, f"expected how many photos to make, not {value!r}")
        return str(value)
    if not isinstance(value, str) or not value or Path(value).is_absolute() or ".." in Path(value).parts:
        raise config_error(path, keys, f"expected a name under the data root, not {value!r}")
    return str(Path(value)).removesuffix(".tar")  # one spelling of each, so that they can be compared
