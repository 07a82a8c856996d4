"""Vectors of segments' pictures for text-aware training, computed once and packed beside the photos (D.5)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from composer.configs import config_error
from composer.formats.atomic import write_json, writing
from composer.presets import load_preset, preset_names
from composer.training_data import ABOUT
from composer.weights import locate_clip
from sam.checkpoints import file_digest
from sam.errors import CheckpointError
from sam.training.config import TextConfig
from sam.training.data import PackedSet
from sam.training.text_vectors import TextVectors, save_vectors

UInt8 = npt.NDArray[np.uint8]
FOLDER = "texts"  # one of PACKED
DESCRIPTION, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
FULL_SIDE = 1024
"""Of the square in which ``min_side`` is meant, pixels."""
AT_ONCE = 256


class Looks(Protocol):
    """The part of :class:`adapters.clip.TextImageModel` that is needed here."""

    width: int

    def encode_pictures(self, shown: Sequence[UInt8]) -> Tensor:
        """(n, d) float32 unit vectors of pictures (h, w, 3)."""


def clip_folder(path: Path, clip: str) -> Path:
    """The folder of the text-image model that a training file names: a preset's own, or a folder beside it.

    Raises:
        UsageError: neither a preset nor a folder in open_clip's form.
    """
    if clip in preset_names():
        return locate_clip(load_preset(clip)).parent
    folder = path.parent / clip
    if not all((folder / part).is_file() for part in (DESCRIPTION, WEIGHTS)):
        raise config_error(
            path, ("text", "clip"), f"{folder} is no folder with {DESCRIPTION} and {WEIGHTS}, nor a preset"
        )
    return folder


def text_width(folder: Path) -> int:
    """Width of the vectors of an open_clip folder. Raises :class:`CheckpointError`."""
    try:
        width = json.loads((folder / DESCRIPTION).read_text())["model_cfg"]["embed_dim"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / DESCRIPTION}: not a description of open_clip's") from error
    return int(width)


def with_texts(
    sets: Sequence[PackedSet],
    packed: Path,
    clip: Path,
    config: TextConfig,
    load: Callable[[], Looks],
    on_set: Callable[[str, int], None] | None = None,
) -> list[PackedSet]:
    """The same sets with the vectors of their segments' pictures; those packed already are only opened.

    Args:
        sets: as packed in ``packed``.
        packed: folder of all packs.
        clip: folder of the text-image model.
        config: which segments, and how they are cropped.
        load: loads the model; called if any vector is missing.
        on_set: called with a set's name and how many of its segments have vectors.

    Raises:
        EnvironmentProblem: the folder cannot be written.
    """
    made_of = {
        "clip": file_digest(clip / WEIGHTS),
        **{k: v for k, v in asdict(config).items() if k not in ("clip", "share")},
    }
    model: Looks | None = None
    found = []
    for one in sets:
        folder = packed / one.name / FOLDER
        about = {**made_of, "pack": json.loads((packed / one.name / ABOUT).read_text())}
        if not _is_made_of(folder, about):
            model = model or load()
            with writing(folder):
                (folder / ABOUT).unlink(missing_ok=True)
                _look(one, config, model, folder)
            write_json(folder / ABOUT, about)  # last: its presence says that all is there
        texts = TextVectors.open(folder)
        if on_set:
            on_set(one.name, len(texts.rows))
        found.append(replace(one, texts=texts if texts.rows else None))
    return found


def _is_made_of(folder: Path, about: dict[str, object]) -> bool:
    try:
        return bool(json.loads((folder / ABOUT).read_text()) == about)
    except (OSError, ValueError):
        return False


def _look(one: PackedSet, config: TextConfig, model: Looks, folder: Path) -> None:
    keys: list[tuple[int, int, int]] = []
    parts: list[npt.NDArray[np.float16]] = []
    pictures: list[UInt8] = []

    def flush() -> None:
        if pictures:
            parts.append(model.encode_pictures(pictures).numpy().astype(np.float16))
            pictures.clear()

    for key, crops in segment_crops(one, config):
        keys.append(key)
        pictures.extend(crops)
        if len(pictures) >= AT_ONCE:
            flush()
    flush()
    flat = np.concatenate(parts) if parts else np.zeros((0, model.width), np.float16)
    save_vectors(folder, flat.reshape(-1, config.variants, model.width), np.array(keys, np.int64))


def segment_crops(one: PackedSet, config: TextConfig) -> Iterator[tuple[tuple[int, int, int], list[UInt8]]]:
    """Of each segment that is large enough: photo, layer and id, and ``variants`` crops of it (h, w, 3)."""
    for photo in range(len(one)):
        pixels = one.photo(photo)
        least = (config.min_side * max(pixels.shape[:2]) / FULL_SIDE) ** 2
        for layer in range(one.layers(photo)):
            ids = one.layer(photo, layer)
            counts = np.bincount(ids.ravel(), minlength=256)
            for segment in np.flatnonzero(counts >= max(1, least)):
                if segment == 0:
                    continue
                rng = np.random.default_rng((photo, layer, int(segment)))
                mask = ids == segment
                crops = [
                    crop_of(pixels, mask, config.enlarge, n % 2 == 1, rng) for n in range(config.variants)
                ]
                yield (photo, layer, int(segment)), crops


def crop_of(
    pixels: UInt8, mask: npt.NDArray[np.bool_], most: float, alone: bool, rng: np.random.Generator
) -> UInt8:
    """The square around a mask's box, enlarged at random; black beyond the photo.

    Args:
        pixels: (H, W, 3). mask: (H, W), not empty.
        most: the box is enlarged by 1 to this.
        alone: black outside of the mask too.
        rng: source of randomness.
    """
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, bottom, left, right = ys[0], ys[-1] + 1, xs[0], xs[-1] + 1
    side = max(1, round(max(bottom - top, right - left) * float(rng.uniform(1, most))))
    y, x = round((top + bottom - side) / 2), round((left + right - side) / 2)
    square = np.zeros((side, side, 3), np.uint8)
    height, width = mask.shape
    rows, columns = slice(max(0, y), min(height, y + side)), slice(max(0, x), min(width, x + side))
    part = pixels[rows, columns]
    if alone:
        part = np.where(mask[rows, columns, None], part, 0).astype(np.uint8)
    square[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x] = part
    return square
