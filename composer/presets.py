"""Presets: a model, its weights and its thresholds under one name (``configs/presets/*.yaml``)."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from adapters.base import Defaults, EdgeSource, TextRoute
from composer.configs import check_keys, config_error, configs_folder, load_yaml
from sam.errors import UsageError
from sam.variants import ModelConfig

EMBEDDED = "embedded"
"""``weights.source`` of weights that come with the package, in ``sam/weights``."""
MOST_EDGE_SIZES = 8
_SECTIONS = ("everything", "boxes", "edges", "detect", "text")
_KEYS = ("description", "model", "weights", *_SECTIONS, "detector", "clip")


@dataclass(frozen=True)
class WeightsFile:
    """Where a preset's weights are, and how to tell that they are the right ones.

    Attributes:
        file: file name; for a preset given by path, relative to its YAML file.
        url: where ``sam-composer models pull`` gets it; None for embedded and local weights.
        bytes: size, or None where it is not pinned.
        sha256: hex digest, or None where it is not pinned.
        embedded: it comes with the package.
    """

    file: str
    url: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    embedded: bool = False


@dataclass(frozen=True)
class Preset:
    """A named way to load a segmenter.

    Attributes:
        name: ``tiny``, ``vit_b``, … or the stem of the YAML file.
        description: one line.
        model: shapes of the segmenter.
        weights: its weights.
        defaults: thresholds chosen for these weights.
        folder: where the YAML file is; a local preset's weights are looked for there.
        detector: its own detector, in the same places as its weights; None: it has none.
        clip: its own text-image model, the weights file of a folder in open_clip's form; None: it has none.
        part: the key of the YAML file that ``weights`` are from: ``weights``, or see :meth:`files`.
    """

    name: str
    description: str
    model: ModelConfig
    weights: WeightsFile
    defaults: Defaults
    folder: Path
    detector: WeightsFile | None = None
    clip: WeightsFile | None = None
    part: str = "weights"

    @property
    def embedded(self) -> bool:
        """Whether the weights come with the package."""
        return self.weights.embedded

    @property
    def label(self) -> str:
        """The name, and the part where it is not the segmenter."""
        return self.name if self.part == "weights" else f"{self.name} {self.part}"

    def files(self) -> list[Preset]:
        """The preset, and once more for each companion, with the companion's file for its weights."""
        companions = [("detector", self.detector), ("clip", self.clip)]
        return [
            self,
            *(replace(self, weights=file, part=key) for key, file in companions if file is not None),
        ]


def preset_names() -> list[str]:
    """The presets that come with the package, the embedded one first."""
    names = sorted(path.stem for path in (configs_folder() / "presets").glob("*.yaml"))
    return sorted(names, key=lambda name: (name != "tiny", name))


def load_preset(name_or_path: str | Path) -> Preset:
    """Read a preset by name, or by the path of a YAML file.

    Raises:
        UsageError: no such preset (the known ones are listed), or a file with an unknown or bad key.
    """
    path = Path(name_or_path)
    if path.suffix.lower() in (".yaml", ".yml"):
        return _read(path)
    known = preset_names()
    if str(name_or_path) not in known:
        near = difflib.get_close_matches(str(name_or_path), known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(
            f"unknown preset {str(name_or_path)!r}: {hint}known: {', '.join(known)}, or a YAML file's path",
            code="preset_unknown",
            field="preset",
            allowed=known,
        )
    return _read(configs_folder() / "presets" / f"{name_or_path}.yaml")


def load_model_config(name: str, beside: Path | None = None) -> ModelConfig:
    """The model description ``configs/models/NAME.yaml``.

    Args:
        name: of a packaged description, or a YAML file's path relative to ``beside``.
        beside: folder of the file that names it.

    Raises:
        UsageError: no such model (the known ones are listed), or a bad file.
    """
    if name.endswith((".yaml", ".yml")):
        path = (beside or Path()) / name
    else:
        folder = configs_folder() / "models"
        known = sorted(p.stem for p in folder.glob("*.yaml"))
        if name not in known:
            raise UsageError(
                f"unknown model {name!r}: known: {', '.join(known)}", code="model_unknown", field="model"
            )
        path = folder / f"{name}.yaml"
    return ModelConfig.from_mapping(path.stem, load_yaml(path))


def _read(path: Path) -> Preset:
    values = load_yaml(path)
    check_keys(values, _KEYS, path)
    model = values.get("model")
    if isinstance(model, str):
        config = load_model_config(model, path.parent)
    elif isinstance(model, Mapping):
        config = ModelConfig.from_mapping(path.stem, model)
    else:
        raise config_error(path, ("model",), "expected the name of a model, or its description")
    detector, clip = _companion(values, path, "detector"), _companion(values, path, "clip")
    if clip is not None and clip.url is not None:
        # One URL would fetch the weights without the description beside them.
        raise config_error(path, ("clip", "url"), "a text-image model is a folder, which cannot be pulled")
    return Preset(
        name=path.stem,
        description=str(values.get("description", "")),
        model=config,
        weights=_weights(values.get("weights"), path),
        defaults=_defaults(values, path),
        folder=path.parent,
        detector=detector,
        clip=clip,
    )


def _companion(values: Mapping[str, Any], path: Path, key: str) -> WeightsFile | None:
    """A file of the preset's own, or that of a shipped preset, which is named."""
    given = values.get(key)
    if not isinstance(given, str):
        return None if given is None else _weights(given, path, key)
    if given not in preset_names():
        raise config_error(
            path, (key,), f"expected a mapping with `file`, or a shipped preset, not {given!r}"
        )
    file: WeightsFile | None = getattr(load_preset(given), key)
    if file is None or not file.embedded:
        raise config_error(path, (key,), f"preset {given!r} has none that comes with the package")
    return file


def _weights(values: Any, path: Path, key: str = "weights") -> WeightsFile:
    if not isinstance(values, Mapping) or not isinstance(values.get("file"), str):
        raise config_error(path, (key,), "expected a mapping with at least `file`")
    check_keys(values, ("file", "url", "bytes", "sha256", "source"), path, key)
    source = values.get("source")
    if source not in (None, EMBEDDED):
        raise config_error(path, (key, "source"), f"expected {EMBEDDED!r} or nothing, not {source!r}")
    size, digest = values.get("bytes"), values.get("sha256")
    if size is not None and (not isinstance(size, int) or size < 1):
        raise config_error(path, (key, "bytes"), f"expected a number of bytes, not {size!r}")
    if digest is not None and (not isinstance(digest, str) or len(digest) != 64):
        raise config_error(path, (key, "sha256"), "expected 64 hexadecimal digits, in quotes")
    return WeightsFile(values["file"], values.get("url"), size, digest, source == EMBEDDED)


def _defaults(values: Mapping[str, Any], path: Path) -> Defaults:
    everything = _section(values, path, "everything", ("pred_iou_thresh", "stability_score_thresh"))
    boxes = _section(values, path, "boxes", ("margin",))
    edges = _section(values, path, "edges", ("source", "sizes"))
    detect = _section(values, path, "detect", ("conf",))
    text = _section(values, path, "text", ("threshold", "route"))
    numbers = {"everything": everything, "boxes": boxes, "detect": detect}
    numbers["text"] = {key: value for key, value in text.items() if key == "threshold"}
    for section, given in numbers.items():
        for key, value in given.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise config_error(path, (section, key), f"expected a number, not {value!r}")
    for section, key, given in (("text", "threshold", text), ("detect", "conf", detect)):
        if not 0 <= given.get(key, 0) <= 1:
            raise config_error(path, (section, key), f"expected a number from 0 to 1, not {given[key]!r}")
    if boxes.get("margin", 0) < 0:
        raise config_error(path, ("boxes", "margin"), f"expected a number from 0, not {boxes['margin']!r}")
    choices = (
        ("edges", "source", edges.get("source", Defaults.edge_source), get_args(EdgeSource)),
        ("text", "route", text.get("route", Defaults.text_route), get_args(TextRoute)),
    )
    for section, key, value, known in choices:
        if value not in known:
            raise config_error(path, (section, key), f"expected one of {', '.join(known)}, not {value!r}")
    return Defaults(
        **{key: float(value) for key, value in everything.items()},
        box_margin=float(boxes.get("margin", Defaults.box_margin)),
        edge_source=edges.get("source", Defaults.edge_source),
        edge_sizes=_edge_sizes(edges.get("sizes", []), path),
        detector_conf=float(detect.get("conf", Defaults.detector_conf)),
        text_threshold=float(text["threshold"]) if "threshold" in text else None,
        text_route=text.get("route", Defaults.text_route),
    )


def _edge_sizes(value: Any, path: Path) -> tuple[int, ...]:
    whole = isinstance(value, list) and all(isinstance(v, int) and not isinstance(v, bool) for v in value)
    if not whole or not all(64 <= side <= 4096 for side in value) or len(value) > MOST_EDGE_SIZES:
        raise config_error(
            path,
            ("edges", "sizes"),
            f"expected up to {MOST_EDGE_SIZES} sides of 64 to 4096 pixels, not {value!r}",
        )
    return tuple(value)


def _section(values: Mapping[str, Any], path: Path, name: str, known: tuple[str, ...]) -> Mapping[str, Any]:
    section = values.get(name) or {}
    if not isinstance(section, Mapping):
        raise config_error(path, (name,), f"expected a mapping with {' and '.join(f'`{k}`' for k in known)}")
    check_keys(section, known, path, name)
    return section
