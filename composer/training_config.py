"""A training run as its YAML file tells it: what to train, on which photos, and how it is watched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from composer.configs import check_keys, config_error, load_yaml
from composer.presets import load_model_config
from composer.training_data import DataSet
from composer.training_sets import FIGURES, Validation, check_held_out, read_data, read_validation
from composer.training_start import Start, read_start
from composer.training_text import clip_folder, text_width
from composer.training_values import checked, options
from sam.image_encoder.compact import CompactConfig
from sam.training.canvas import SamplingConfig
from sam.training.config import OPTIMISERS, SCHEDULES, DistillConfig, Phase, TextConfig, TrainingConfig
from sam.training.losses import LossConfig
from sam.variants import ModelConfig

_APART = ("phases", "sampling", "losses", "model", "distill", "text")
_SCALARS = [f.name for f in fields(TrainingConfig) if f.name not in _APART]
_SECTIONS = (*_APART, "data", "validation", "description")


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
        start: where ``config.init`` is, or None.
        clip: folder of the text-image model of ``config.text``, or None.
    """

    config: TrainingConfig
    model: ModelConfig
    sets: tuple[DataSet, ...]
    long_side: int
    root: Path
    validation: Validation | None
    start: Start | None = None
    clip: Path | None = None


def read_training_run(path: Path, init: str | None = None) -> TrainingRun:
    """Read and check a training file.

    Args:
        path: of the file.
        init: instead of the file's own ``init``; files are looked for from the working folder then.

    Raises:
        UsageError: an unknown key or a bad value, with its line.
    """
    values = load_yaml(path)
    check_keys(values, (*_SECTIONS, *_SCALARS), path)
    sets, long_side, root = read_data(path, values)
    scalars = checked(path, TrainingConfig, {k: values[k] for k in _SCALARS if k in values})
    if init is not None:
        scalars["init"] = init
    start = read_start(path, scalars.get("init"), Path() if init is not None else path.parent)
    name, model = _model(path, values, start)
    config = _config(path, values, scalars, name, sets)
    for key, message in config.misfits(model.encoder):
        raise config_error(path, tuple(key.split(".")), message)
    if config.drop_path is not None and not isinstance(model.encoder, CompactConfig):
        model = replace(model, encoder=replace(model.encoder, drop_path=config.drop_path))
    clip = None if config.text is None else clip_folder(path, config.text.clip)
    if clip is not None:
        model = _with_text_slot(path, model, text_width(clip))
    validation = read_validation(path, values.get("validation"))
    if config.patience and validation is None:
        raise config_error(path, ("patience",), "needs a `validation` to be patient about")
    run = TrainingRun(config, model, sets, long_side, root, validation, start, clip)
    check_held_out(path, run.sets, run.validation)
    return run


def _model(path: Path, values: Mapping[str, Any], start: Start | None) -> tuple[str, ModelConfig]:
    """Name and shapes of what is trained: of the key ``model``, else of the preset that it starts from."""
    named = values.get("model")
    preset = None if start is None else start.preset
    if named is None and preset is not None:
        return preset.model.name, preset.model
    if not isinstance(named, str):
        raise config_error(
            path, ("model",), "expected the name of a model of configs/models, or a preset in `init` instead"
        )
    model = load_model_config(named, path.parent)
    if preset is not None and (preset.model.encoder, preset.model.decoder) != (model.encoder, model.decoder):
        raise config_error(
            path, ("init",), f"preset {preset.name!r} is not of model {named!r}; leave `model` out"
        )
    return named, model


def _with_text_slot(path: Path, model: ModelConfig, width: int) -> ModelConfig:
    known = model.decoder.text_dim
    if known not in (None, width):
        raise config_error(
            path, ("text", "clip"), f"gives vectors of width {width}, but model {model.name!r} takes {known}"
        )
    return replace(model, decoder=replace(model.decoder, text_dim=width))


def _config(
    path: Path, values: Mapping[str, Any], scalars: dict[str, Any], model: str, sets: tuple[DataSet, ...]
) -> TrainingConfig:
    sampling = options(path, SamplingConfig, values, "sampling", exclude=("weights",))
    sampling["weights"] = {one.name: one.weight for one in sets}
    losses = LossConfig(**options(path, LossConfig, values, "losses"))
    for key, known in (("schedule", SCHEDULES), ("optimiser", OPTIMISERS)):
        if scalars.get(key) not in (None, *known):
            raise config_error(path, (key,), f"expected {' or '.join(known)}, not {scalars[key]!r}")
    if unknown := [name for name in scalars.get("best_by", ()) if name not in FIGURES]:
        raise config_error(path, ("best_by",), f"unknown figure {unknown[0]!r}; known: {', '.join(FIGURES)}")
    try:
        return TrainingConfig(
            model=model,
            phases=_phases(path, values.get("phases")),
            sampling=SamplingConfig(**sampling),
            losses=losses,
            distill=_distill(path, values),
            text=_text(path, values),
            **scalars,
        )
    except ValueError as error:
        raise config_error(path, ("phases",), str(error).removeprefix("phases: ")) from error


def _distill(path: Path, values: Mapping[str, Any]) -> DistillConfig | None:
    if values.get("distill") is None:
        return None
    found = options(path, DistillConfig, values, "distill")
    if "preset" not in found:
        raise config_error(path, ("distill",), "`preset` is missing: the teacher's")
    config = DistillConfig(**found)
    if not config.weight and not config.embedding:
        raise config_error(path, ("distill", "weight"), "expected a weight or embedding above 0")
    return config


def _text(path: Path, values: Mapping[str, Any]) -> TextConfig | None:
    if values.get("text") is None:
        return None
    found = options(path, TextConfig, values, "text")
    if "clip" not in found:
        raise config_error(
            path, ("text",), "`clip` is missing: a preset with a text-image model, or a folder"
        )
    return TextConfig(**found)


def _phases(path: Path, values: Any) -> tuple[Phase, ...]:
    known = [f.name for f in fields(Phase)]
    if not isinstance(values, list) or not values:
        raise config_error(path, ("phases",), "expected a list of {steps, size, batch}")
    for value in values:
        if not isinstance(value, Mapping) or set(value) != set(known):
            raise config_error(path, ("phases",), f"each phase is {{steps, size, batch}}, not {value!r}")
    try:
        return tuple(Phase(**checked(path, Phase, value, "phases")) for value in values)
    except ValueError as error:
        raise config_error(path, ("phases",), str(error)) from error
