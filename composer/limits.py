"""What the program accepts before it starts to work: sizes, counts and waits, in one frozen object."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from composer.configs import check_keys, config_error, configs_folder, load_yaml
from sam.errors import UsageError

PILLOW_CEILING = 178_956_970
"""Pixels beyond which Pillow itself refuses to open an image (twice its ``MAX_IMAGE_PIXELS``)."""

_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


@dataclass(frozen=True)
class Limits:
    """Every limit of the program; ``configs/limits.yaml`` says the same with a comment on each.

    Attributes:
        max_body_bytes: HTTP request body, counted as it arrives.
        max_file_bytes: image file read from disk.
        max_pixels: width x height of an image; at most Pillow's own ceiling, 178,956,970.
        max_side: longer side, pixels.
        max_aspect_ratio: longer side / shorter side.
        mask_memory_bytes: dense masks that one request may hold at a time.
        embedding_cache_bytes: image embeddings kept for the next request; 0 keeps none.
        max_prompts: points, boxes or masks in one request.
        max_requests: requests for one image in one call.
        max_text_length: characters in one phrase.
        held_images_bytes: images with their embeddings that clients asked to be held; 0 holds none.
        held_image_seconds: for which such an image is held after its last use.
        batch_images: most images in one pass of the encoder, where several requests wait.
        queue_size: requests that wait for a device; one runs.
        deadline_seconds: from arrival to answer.
        drain_seconds: for requests in flight after SIGTERM.
        host: address that the server binds to.

    Raises:
        UsageError: a value of the wrong type or out of range; ``field`` names it.
    """

    max_body_bytes: int = 32 << 20
    max_file_bytes: int = 256 << 20
    max_pixels: int = 25_000_000
    max_side: int = 32_766
    max_aspect_ratio: float = 100.0
    mask_memory_bytes: int = 1 << 30
    embedding_cache_bytes: int = 256 << 20
    max_prompts: int = 4096
    max_requests: int = 32
    max_text_length: int = 1000
    held_images_bytes: int = 512 << 20
    held_image_seconds: float = 900.0
    batch_images: int = 8
    queue_size: int = 16
    deadline_seconds: float = 60.0
    drain_seconds: float = 30.0
    host: str = "127.0.0.1"

    def __post_init__(self) -> None:
        for field in fields(self):
            _check(field.name, field.type, getattr(self, field.name))
        if self.max_pixels > PILLOW_CEILING:
            raise _invalid("max_pixels", f"must be at most {PILLOW_CEILING:,}, the most that Pillow opens")
        if self.max_aspect_ratio < 1:
            raise _invalid("max_aspect_ratio", "must be at least 1 (longer side / shorter side)")

    @classmethod
    def from_file(cls, path: str | Path) -> Limits:
        """Read a YAML file; a key left out keeps its default, sizes may be written ``32 MiB``.

        Raises:
            UsageError: an unknown key or a bad value, naming file, line and key.
        """
        values = load_yaml(path)
        check_keys(values, [f.name for f in fields(cls)], path)
        try:
            return cls.from_mapping(values)
        except UsageError as error:
            raise config_error(path, (error.field or "",), str(error).partition(": ")[2]) from error

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Limits:
        """The limits with some replaced, sizes as numbers or as ``32 MiB``."""
        return cls(
            **{key: _bytes(value) if key.endswith("_bytes") else value for key, value in values.items()}
        )


def _bytes(value: Any) -> Any:
    """``"32 MiB"`` -> 33554432; anything that is no such text is left for the type check."""
    match = re.fullmatch(r"(\d{1,12})\s*(KiB|MiB|GiB|)", value) if isinstance(value, str) else None
    return int(match[1]) * _UNITS[match[2]] if match else value


def _check(name: str, kind: Any, value: Any) -> None:
    may_be_zero = name in {"embedding_cache_bytes", "held_images_bytes", "queue_size", "drain_seconds"}
    if kind == "str":
        if not isinstance(value, str) or not value.strip():
            raise _invalid(name, f"must be a non-empty text, not {value!r}")
        return
    wanted = "a whole number" if kind == "int" else "a number"
    if name.endswith("_bytes"):
        wanted += " of bytes or a text such as 32 MiB"
    types = (int,) if kind == "int" else (int, float)
    if isinstance(value, bool) or not isinstance(value, types) or not math.isfinite(value):
        raise _invalid(name, f"must be {wanted}, not {value!r}")
    if value < 0 or (value == 0 and not may_be_zero):
        raise _invalid(name, f"must be {'zero or more' if may_be_zero else 'more than zero'}, not {value!r}")


def _invalid(name: str, message: str) -> UsageError:
    return UsageError(f"{name}: {message}", code="limit_invalid", field=name)


DEFAULT_LIMITS = Limits()


@functools.cache
def shipped_limits() -> Limits:
    """The limits of ``configs/limits.yaml`` as installed, read once."""
    return Limits.from_file(configs_folder() / "limits.yaml")
