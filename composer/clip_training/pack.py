"""All named pictures of a run, packed once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from composer.clip_training.config import HELD_OUT, ClipRun
from composer.clip_training.regions import PackedRegions, is_packed, pack_folders, pack_panoptic
from composer.formats.atomic import ensure_folder
from composer.training_data import find_source, opened


def pack_all(
    run: ClipRun, root: Path, folder: Path, on_set: Callable[[str, int], None] | None = None
) -> tuple[dict[str, PackedRegions], PackedRegions]:
    """The sets to learn from, by name, and the held-out photos' regions. A set that is packed already is
    opened; one that was made of another source, or of other photos of it, is packed anew.

    Raises:
        UsageError: a source that is not there.
        BadAnnotation: a set that contradicts itself.
    """
    ensure_folder(folder)
    found = {}
    for name in run.folders:
        found[name] = _packed("folders", name, root, folder / name)
        _told(on_set, name, found[name])
    for one in run.sets:
        found[one.name] = _packed("panoptic", one.source, root, folder / one.name, one.skip)
        _told(on_set, one.name, found[one.name])
    held = run.validation
    return found, _packed("panoptic", held.source, root, folder / HELD_OUT, 0, held.limit_images)


def _packed(
    format: str, source: str, root: Path, target: Path, skip: int = 0, count: int | None = None
) -> PackedRegions:
    path = find_source(root, source)
    size = path.stat().st_size if path.is_file() else 0
    photos = {"skip": skip, "count": count} if format == "panoptic" else {}
    made_of: dict[str, Any] = {"format": format, "path": str(path.resolve()), "size": size, **photos}
    if is_packed(target, made_of):
        return PackedRegions(target)
    with opened(format, source, root, target.parent) as data:
        if format == "folders":
            return pack_folders(data, target, made_of)
        return pack_panoptic(data, target, skip, count, made_of)


def _told(on_set: Callable[[str, int], None] | None, name: str, packed: PackedRegions) -> None:
    if on_set:
        on_set(name, len(packed))
