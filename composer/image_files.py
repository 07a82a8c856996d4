"""Reading the bytes of an image file, and nothing but a file: no folder, pipe or device."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sam.errors import BadImage, UsageError


def local_path(source: str | Path) -> Path:
    """The path that a user's text names.

    Raises:
        UsageError: a URL, an empty text, or one that no file system takes as a name.
    """
    text = str(source)
    if "://" in text[:16]:
        raise UsageError(f"{text[:200]}: URLs are not opened; download the file first", field="image")
    if "\0" in text or not text:
        raise UsageError(f"{text[:200]!r} is no file name", field="image")
    return Path(source)


def read_image_file(path: Path, max_bytes: int) -> bytes:
    """The bytes of a regular file of at most ``max_bytes``.

    Its kind is asked first, so that a FIFO is not opened at all and nothing can block.

    Raises:
        UsageError: ``image_not_found`` or ``image_is_folder``.
        BadImage: ``image_unreadable`` (a dangling link or a loop of links, a pipe, socket or device, no
            permission) or ``image_too_large``.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        if path.is_symlink():
            raise BadImage(
                f"{path}: a link to a file that does not exist", code="image_unreadable"
            ) from error
        raise UsageError(f"{path}: no such file", code="image_not_found", field="image") from error
    except OSError as error:
        raise BadImage(f"{path}: cannot be read: {error.strerror}", code="image_unreadable") from error
    if stat.S_ISDIR(mode):
        raise UsageError(
            f"{path}: is a folder, expected an image file", code="image_is_folder", field="image"
        )
    if not stat.S_ISREG(mode):
        raise BadImage(f"{path}: not a regular file (a pipe, socket or device)", code="image_unreadable")
    try:
        # O_NONBLOCK: if a FIFO has taken the file's place since, opening it still returns at once.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(path, flags), "rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise BadImage(f"{path}: cannot be read: {error.strerror}", code="image_unreadable") from error
    if len(data) > max_bytes:
        message = f"{path}: the file is over {max_bytes / 2**20:g} MiB; make it smaller or raise the limit"
        raise BadImage(message, code="image_too_large", field="image")
    return data
