"""What a training file with a key ``clip`` says."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from composer.clip_training.phrases import Vocabulary
from composer.configs import check_keys, config_error, load_yaml
from composer.training_data import DataSet
from composer.training_sets import Validation, check_held_out, read_data, read_validation

_KEYS = ("clip", "description", "seed", "validation", "words", "pictures", "data", "vocabulary")
_CLIP = ("embed_dim", "backbone", "image_size", "backbone_from", "text")
_TEXT = ("context_length", "width", "heads", "layers")
_WORDS = ("teacher", "nouns", "composed", "batch", "steps", "learning_rate")
_PICTURES = ("batch", "steps", "learning_rate", "text_learning_rate")
_NOUNS = ("tar", "file")
_LISTS = ("held_out", "ignored")
_VOCABULARY = (*_LISTS, "same", "wider")
HELD_OUT = "held-out"
"""Name of the pack of the held-out photos."""
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
    clip, words = _section(values, path, _CLIP, "clip"), _section(values, path, _WORDS, "words")
    pictures = _section(values, path, _PICTURES, "pictures")
    text, nouns = _section(clip, path, _TEXT, "clip", "text"), _section(words, path, _NOUNS, "words", "nouns")
    _check(path, clip, _is_count, "a whole number from 1", ("embed_dim", "image_size"), "clip")
    _check(path, clip, _is_backbone, "the name of a backbone of timm", ("backbone",), "clip")
    _check(path, text, _is_count, "a whole number from 1", _TEXT, "clip", "text")
    if text["width"] % text["heads"]:
        raise config_error(path, ("clip", "text", "width"), f"expected a multiple of heads, {text['heads']}")
    _check(path, words, _is_name, "the name of a package", ("teacher",), "words")
    _check(path, nouns, _is_name, "a name", _NOUNS, "words", "nouns")
    _check(path, words, _is_count, "a whole number from 1", ("composed", "batch", "steps"), "words")
    _check(path, words, _is_rate, "a number above 0", ("learning_rate",), "words")
    _check(path, pictures, _is_count, "a whole number from 1", ("batch", "steps"), "pictures")
    _check(path, pictures, _is_rate, "a number above 0", ("learning_rate", "text_learning_rate"), "pictures")
    seed, origin = values.get("seed", 0), clip.get("backbone_from")
    _check(path, {"seed": seed}, lambda value: type(value) is int, "a whole number", ("seed",))
    if origin is not None:
        _check(
            path, clip, _is_name, "a weights file, from this file's own folder", ("backbone_from",), "clip"
        )
    data = values.get("data")
    data = dict(data) if isinstance(data, Mapping) else data
    folders = _folders(path, data.pop("folders", {})) if isinstance(data, dict) else {}
    sets, _, root = read_data(path, {**values, "data": data})
    for one in sets:
        if one.format != "panoptic":
            raise config_error(path, ("data", "sets", one.name), "expected `panoptic`: only that has names")
        if one.name in folders or one.name == HELD_OUT:
            raise config_error(path, ("data", "sets", one.name), "this name is taken: choose another")
    validation = read_validation(path, values.get("validation"))
    if validation is None or validation.format != "panoptic":
        raise config_error(path, ("validation",), "expected a mapping with `panoptic`: the held-out photos")
    check_held_out(path, sets, validation)
    return ClipRun(
        model=_model(clip),
        backbone_from=None if origin is None else (path.parent / str(origin)).resolve(),
        seed=seed,
        words=words,
        pictures=pictures,
        sets=sets,
        folders=folders,
        vocabulary=_vocabulary(values, path),
        root=root,
        validation=validation,
    )


def _section(values: Mapping[str, Any], path: Path, known: tuple[str, ...], *keys: str) -> dict[str, Any]:
    section = values.get(keys[-1])
    if not isinstance(section, Mapping):
        raise config_error(path, keys, f"expected a mapping with {', '.join(f'`{k}`' for k in known)}")
    check_keys(section, known, path, *keys)
    return dict(section)


def _check(
    path: Path,
    section: Mapping[str, Any],
    fits: Callable[[Any], bool],
    expected: str,
    keys: tuple[str, ...],
    *parents: str,
) -> None:
    for key in keys:
        if not fits(section.get(key)):
            found = f"not {section[key]!r}" if key in section else "and it is missing"
            raise config_error(path, (*parents, key), f"expected {expected}, {found}")


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1  # a bool is an int too


def _is_rate(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < math.inf


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_backbone(value: Any) -> bool:
    import timm  # brings torch, which reading other files does not need

    return _is_name(value) and timm.is_model(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and all(_is_name(one) for one in value)


def _folders(path: Path, values: Any) -> dict[str, float]:
    if not isinstance(values, Mapping):
        raise config_error(path, ("data", "folders"), "expected a mapping of sources, each with its weight")
    found = {}
    for name, entry in values.items():
        keys = ("data", "folders", str(name))
        if not _is_name(name) or Path(name).is_absolute() or ".." in Path(name).parts or name == HELD_OUT:
            raise config_error(path, keys, "expected a name under the data root, and not held-out")
        if not isinstance(entry, Mapping):
            raise config_error(path, keys, f"expected a mapping with `weight`, not {entry!r}")
        check_keys(entry, ("weight",), path, *keys)
        weight = {"weight": 1, **entry}
        _check(
            path, weight, lambda value: value == 0 or _is_rate(value), "a number from 0", ("weight",), *keys
        )
        found[name] = float(weight["weight"])
    return found


def _vocabulary(values: Mapping[str, Any], path: Path) -> Vocabulary:
    section = _section(values, path, _VOCABULARY, "vocabulary")
    _check(
        path, {"held_out": [], "ignored": [], **section}, _is_list, "a list of words", _LISTS, "vocabulary"
    )
    for key in ("same", "wider"):
        entries = section.get(key, {})
        if not isinstance(entries, Mapping):
            raise config_error(
                path, ("vocabulary", key), f"expected words with lists of words, not {entries!r}"
            )
        for name in entries:
            if not _is_name(name):
                raise config_error(path, ("vocabulary", key, str(name)), "expected a word: put it in quotes")
            _check(path, entries, lambda v: _is_list(v) and v, "a list of words", (name,), "vocabulary", key)
    return Vocabulary(**section)


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
