"""What a training file with a key ``clip`` says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from composer.clip_training.phrases import Vocabulary
from composer.configs import check_keys, config_error, load_yaml
from composer.training_config import Validation, check_held_out, read_data, read_validation
from composer.training_data import DataSet

_KEYS = ("clip", "description", "seed", "validation", "words", "pictures", "data", "vocabulary")
_CLIP = ("embed_dim", "backbone", "image_size", "backbone_from", "text")
_TEXT = ("context_length", "width", "heads", "layers")
_WORDS = ("teacher", "nouns", "composed", "batch", "steps", "learning_rate")
_PICTURES = ("batch", "steps", "learning_rate", "text_learning_rate")
_VOCABULARY = ("held_out", "ignored", "same", "wider")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""What the segmenter's backbone was trained with."""


@dataclass(frozen=True)
class ClipRun:
    """One training of a text-image pair.

    Attributes:
        model: in the form of open_clip's ``open_clip_config.json``.
        backbone_from: the segmenter's weights whose backbone it starts with, or None.
        seed: of all that is drawn.
        words, pictures: numbers of the two parts.
        sets: photos with named regions.
        folders: sources of class folders and their weights.
        vocabulary: what their names mean.
        root: folder that holds all of them.
        validation: held-out photos with named regions.
    """

    model: Mapping[str, Any]
    backbone_from: Path | None
    seed: int
    words: Mapping[str, Any]
    pictures: Mapping[str, Any]
    sets: tuple[DataSet, ...]
    folders: Mapping[str, float]
    vocabulary: Vocabulary
    root: Path
    validation: Validation


def is_clip_run(path: Path) -> bool:
    """Whether a training file is about a text-image pair. Raises :class:`UsageError` for what is no YAML."""
    return "clip" in load_yaml(path)


def read_clip_run(path: Path) -> ClipRun:
    """Read and check a training file.

    Raises:
        UsageError: an unknown key or a bad value, with its line.
    """
    values = load_yaml(path)
    check_keys(values, _KEYS, path)
    clip, words = _section(values, path, "clip", _CLIP), _section(values, path, "words", _WORDS)
    pictures = _section(values, path, "pictures", _PICTURES)
    vocabulary = _section(values, path, "vocabulary", _VOCABULARY)
    data = dict(values.get("data") or {})
    folders = data.pop("folders", {})
    if not isinstance(folders, Mapping):
        raise config_error(path, ("data", "folders"), "expected a mapping of sources, each with its weight")
    sets, _, root = read_data(path, {**values, "data": data})
    validation = read_validation(path, values.get("validation"))
    if validation is None or validation.format != "panoptic":
        raise config_error(path, ("validation",), "expected a mapping with `panoptic`: the held-out photos")
    check_held_out(path, sets, validation)
    for section, keys in ((words, ("composed", "batch", "steps")), (pictures, ("batch", "steps"))):
        for key in keys:
            if not isinstance(section.get(key), int) or section[key] < 1:
                where = "words" if section is words else "pictures"
                raise config_error(path, (where, key), f"expected a whole number, not {section.get(key)!r}")
    origin = clip.get("backbone_from")
    return ClipRun(
        model=_model(clip),
        backbone_from=None if origin is None else (path.parent / str(origin)).resolve(),
        seed=int(values.get("seed", 0)),
        words=words,
        pictures=pictures,
        sets=sets,
        folders={name: float(entry.get("weight", 1)) for name, entry in folders.items()},
        vocabulary=Vocabulary(**vocabulary),
        root=root,
        validation=validation,
    )


def _section(values: Mapping[str, Any], path: Path, name: str, known: tuple[str, ...]) -> dict[str, Any]:
    section = values.get(name)
    if not isinstance(section, Mapping):
        raise config_error(path, (name,), f"expected a mapping with {', '.join(f'`{k}`' for k in known)}")
    check_keys(section, known, path, name)
    return dict(section)


def _model(clip: Mapping[str, Any]) -> dict[str, Any]:
    text = {"vocab_size": 49408, **clip["text"]}
    vision = {
        "timm_model_name": clip["backbone"],
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "linear",
        "image_size": clip["image_size"],
    }
    towers = {"vision_cfg": vision, "text_cfg": text}
    return {
        "model_cfg": {
            "embed_dim": clip["embed_dim"],
            "custom_text": True,
            "init_logit_bias": -10.0,
            **towers,
        },
        "preprocess_cfg": {"mean": list(MEAN), "std": list(STD), "interpolation": "bicubic"},
    }
