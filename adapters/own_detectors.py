"""What a detector's file of our own says of itself: tensors, and in words what they belong to."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sam.checkpoints import read_weights
from sam.errors import CheckpointError

OWN_SUFFIX = ".safetensors"
PUBLISHED_ARCHITECTURE = re.compile(r"[a-z0-9-]+\.yaml")


@dataclass(frozen=True)
class About:
    """What the tensors belong to.

    Attributes:
        architecture: name of one of ultralytics', such as ``yolo11n.yaml``.
        names: the classes, in the order of their numbers.
        image_size: side of the square that it was trained for, pixels.
    """

    architecture: str
    names: tuple[str, ...]
    image_size: int

    def to_metadata(self) -> dict[str, str]:
        """As the file holds it."""
        return {
            "architecture": self.architecture,
            "names": json.dumps(list(self.names)),
            "image_size": str(self.image_size),
        }


def read_about(path: Path) -> About:
    """Read and check it.

    Raises:
        CheckpointError: missing, damaged, or no detector of ours.
    """
    about = read_weights(path).metadata
    missing = [key for key in ("architecture", "names", "image_size") if key not in about]
    if missing:
        raise _invalid(path, f"not a detector of ours (its metadata lacks {', '.join(missing)})")
    if not PUBLISHED_ARCHITECTURE.fullmatch(about["architecture"]):  # a path could lead to a pickle
        raise _invalid(path, f"{about['architecture']!r} is not the name of an ultralytics architecture")
    return About(about["architecture"], *_names_and_size(path, about))


def _names_and_size(path: Path, about: Mapping[str, str]) -> tuple[tuple[str, ...], int]:
    try:
        names, image_size = json.loads(about["names"]), int(about["image_size"])
        if not (names and isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise ValueError(f"names are {names!r:.80}")
    except ValueError as error:
        raise _invalid(path, f"the metadata of this detector is damaged ({error})") from error
    return tuple(names), image_size


def _invalid(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path}: {reason}", code="detector_invalid", field="detector")
