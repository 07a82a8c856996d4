"""All named pictures of a run, packed once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from composer.clip_training.config import ClipRun
from composer.clip_training.regions import PackedRegions, pack_folders, pack_panoptic
from composer.formats.atomic import ensure_folder
from composer.training_data import DataSet, find_source, opened

HELD_OUT = "held-out"


def pack_all(
    run: ClipRun, root: Path, folder: Path, on_set: Callable[[str, int], None] | None = None
) -> tuple[dict[str, PackedRegions], PackedRegions]:
    """The sets to learn from, by name, and the held-out photos' regions. What is packed already is opened.

    Raises:
        UsageError: a source that is not there.
        BadAnnotation: a set that contradicts itself.
    """
    ensure_folder(folder)
    found = {}
    for name in run.folders:
        found[name] = _packed(folder / name, lambda to, n=name: _pack_folders(n, root, folder, to))  # type: ignore[misc]
        _told(on_set, name, found[name])
    for one in run.sets:
        found[one.name] = _packed(folder / one.name, lambda to, o=one: _pack_set(o, root, folder, to))  # type: ignore[misc]
        _told(on_set, one.name, found[one.name])
    held = DataSet(HELD_OUT, "panoptic", run.validation.source, 1.0)
    count = run.validation.limit_images
    return found, _packed(folder / HELD_OUT, lambda to: _pack_set(held, root, folder, to, count))


def _packed(target: Path, pack: Callable[[Path], PackedRegions]) -> PackedRegions:
    return PackedRegions(target) if (target / "about.json").is_file() else pack(target)


def _pack_folders(source: str, root: Path, scratch: Path, target: Path) -> PackedRegions:
    find_source(root, source)
    with opened("folders", source, root, scratch) as data:
        return pack_folders(data, target)


def _pack_set(
    one: DataSet, root: Path, scratch: Path, target: Path, count: int | None = None
) -> PackedRegions:
    with opened("panoptic", one.source, root, scratch) as data:
        return pack_panoptic(data, target, one.skip, count)


def _told(on_set: Callable[[str, int], None] | None, name: str, packed: PackedRegions) -> None:
    if on_set:
        on_set(name, len(packed))
