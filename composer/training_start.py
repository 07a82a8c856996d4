"""What a training run starts from: random weights, a weights file, or a preset's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from composer.configs import config_error
from composer.presets import Preset, load_preset, preset_names
from composer.weights import locate
from sam.checkpoints import TEXT_SLOT, load_weights, read_weights
from sam.model import SegmentAnything
from sam.variants import ModelConfig, build_model


@dataclass(frozen=True)
class Start:
    """Where the weights are that a run starts from.

    Attributes:
        preset: whose architecture they have, if one was named.
        file: of the weights; None: the preset's own.
    """

    preset: Preset | None
    file: Path | None


def read_start(path: Path, init: str | None, folder: Path) -> Start | None:
    """What ``FILE``, ``PRESET`` or ``PRESET:FILE`` means; whether the file is there shows later.

    Args:
        path: the training file, for messages.
        init: as it is said there or on the command line; None: random weights.
        folder: from which a file is looked for.

    Raises:
        UsageError: a preset that does not exist.
    """
    if init is None:
        return None
    if not init:
        raise config_error(path, ("init",), "expected FILE, PRESET or PRESET:FILE, not an empty text")
    if init in preset_names():
        return Start(load_preset(init), None)
    name, separator, file = init.partition(":")
    if separator and (name in preset_names() or name.endswith((".yaml", ".yml"))):
        if not file:
            raise config_error(path, ("init",), f"expected a file after {init!r}, or the preset's name alone")
        return Start(load_preset(name if name in preset_names() else folder / name), folder / file)
    if separator and not (folder / init).exists():
        known = ", ".join(preset_names())
        raise config_error(path, ("init",), f"no file {init!r}, nor a preset {name!r}; known: {known}")
    return Start(None, folder / init)


def new_model(config: ModelConfig, seed: int, start: Start | None, device: torch.device) -> SegmentAnything:
    """The model that a run starts from: random by its seed, or with given weights.

    Weights without a text slot give those that a run adds it to all but that; one that they have stays.

    Raises:
        CheckpointError: weights that are missing, damaged or of another model.
    """
    torch.manual_seed(seed)
    model = build_model(config)
    if start is None:
        return model.to(device)
    if start.file is not None:
        file, size, digest = start.file, None, None
    else:
        assert start.preset is not None
        file, weights = locate(start.preset), start.preset.weights
        size, digest = weights.bytes, weights.sha256
    if config.decoder.text_dim is None or _has_text_slot(file):
        load_weights(model, file, sha256=digest, size=size)
    else:
        plain = build_model(replace(config, decoder=replace(config.decoder, text_dim=None)))
        load_weights(plain, file, sha256=digest, size=size)
        model.load_state_dict(plain.state_dict(), strict=False)
    model.digest = ""  # from here on it is no longer what the file holds
    return model.to(device)


def _has_text_slot(file: Path) -> bool:
    return any(name.startswith(TEXT_SLOT) for name in read_weights(file).tensors)
