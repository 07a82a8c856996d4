"""Which image files a user means by a list of files and folders."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from sam.errors import BadImage, UsageError

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff"}
)
"""Names that a folder is searched for, in lower case. A file named outright is taken whatever its name."""


def find_images(paths: Sequence[str | Path]) -> list[Path]:
    """Files named outright, in their order, and for a folder every image below it, sorted.

    Links to folders are followed, each folder is entered once, hidden names (``.x``) are skipped, and a file
    that is reached twice by the same path counts once. Whether a file really is an image shows when it is
    opened: a missing or damaged one is then an error of its own, so that the others of a batch are still
    done.

    Raises:
        UsageError: no paths, a missing folder (exit 2), or one that cannot be listed.
        BadImage: ``no_images``: nothing found (exit 3).
    """
    if not paths:
        raise UsageError("no image given: name files or folders", field="images")
    found: dict[Path, None] = {}  # a set that keeps the order
    for path in map(Path, paths):
        if path.is_dir():
            found.update(dict.fromkeys(_walk(path)))
        elif path.suffix.lower() in IMAGE_SUFFIXES or os.path.lexists(path):
            found[path] = None
        else:
            raise UsageError(f"{path}: no such file or folder", code="image_not_found", field="images")
    if not found:
        searched = ", ".join(str(p) for p in paths)
        known = " ".join(sorted(IMAGE_SUFFIXES))
        raise BadImage(f"{searched}: no images found (looked for {known})", code="no_images", field="images")
    return list(found)


def _walk(top: Path) -> Iterator[Path]:
    """Image files below ``top`` in sorted order, whatever order the file system lists them in."""
    entered: set[tuple[int, int]] = set()

    def problem(error: OSError) -> None:
        raise UsageError(f"{error.filename}: the folder cannot be listed: {error.strerror}") from error

    for folder, subfolders, files in os.walk(top, onerror=problem, followlinks=True):
        status = os.stat(folder)
        identity = (status.st_dev, status.st_ino)
        if identity in entered:  # a link back up, or a second way to the same folder
            subfolders.clear()
            continue
        entered.add(identity)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES:
                yield Path(folder, name)
