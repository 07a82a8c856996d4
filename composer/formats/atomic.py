"""Files that appear whole or not at all.

Bytes go to a temporary file in the same folder, are flushed to the disk, and then take the name in one step.
Whoever reads the folder, or comes back after a crash, sees the old file or the new one. A temporary file can
only stay behind if the process is killed; its name starts with ``.sam-composer-``.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from sam.errors import EnvironmentProblem

TEMPORARY_PREFIX = ".sam-composer-"

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder",
    errno.EDQUOT: "your disk quota is used up; free some space or choose another folder",
    errno.EFBIG: "the file would exceed the largest size allowed here (ulimit -f or the file system)",
    errno.EACCES: "permission denied; choose a folder that you may write to",
    errno.EPERM: "permission denied; choose a folder that you may write to",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.ENAMETOOLONG: "the name is too long for this file system",
    errno.ENOENT: "its folder does not exist",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EEXIST: "a file of this name is in the way of the folder",
    errno.EISDIR: "a folder of this name is in the way",
}


def ensure_folder(folder: Path) -> Path:
    """Create ``folder`` and its parents where they are missing.

    Raises:
        EnvironmentProblem: ``output_unwritable``.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_bytes(path: Path, data: bytes) -> Path:
    """Put ``data`` into ``path``, creating its folder. Raises :class:`EnvironmentProblem`."""
    with atomic_file(path) as file:
        file.write(data)
    return path


def write_text(path: Path, text: str) -> Path:
    """Put ``text`` into ``path`` as UTF-8. Raises :class:`EnvironmentProblem`."""
    return write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> Path:
    """Put ``value`` into ``path`` as JSON. Raises :class:`EnvironmentProblem`."""
    return write_bytes(path, json_bytes(value) + b"\n")


def json_bytes(value: Any) -> bytes:
    """Strict JSON in UTF-8.

    Raises:
        ValueError: a NaN or infinity, which JSON does not have.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except UnicodeEncodeError:  # lone surrogates of a file name that is not UTF-8: only escapes carry them
        return json.dumps(value, allow_nan=False).encode("ascii")


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """A binary file to write into; it takes the name ``path`` when the block ends, and vanishes if it raises.

    Raises:
        EnvironmentProblem: ``output_unwritable``, naming ``path`` and what to do.
    """
    ensure_folder(path.parent)
    temporary = path.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}.tmp"
    with writing(path):
        try:
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(path.parent)


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A folder in ``parent`` for files on their way, gone afterwards. Raises :class:`EnvironmentProblem`."""
    ensure_folder(parent)
    with writing(parent):
        folder = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """One process at a time in the block, where the system has locks for that; others wait."""
    try:
        import fcntl
    except ImportError:  # Windows: one server, or run, at a time is asked for in the documentation
        yield
        return
    if not folder.is_dir():
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an :class:`OSError` of the block into an :class:`EnvironmentProblem` about ``path``."""
    try:
        yield
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, error.strerror or type(error).__name__)
        raise EnvironmentProblem(f"{path}: cannot be written: {reason}", code="output_unwritable") from error


def _sync_folder(folder: Path) -> None:
    """Make the new name itself survive a power cut. Some file systems cannot, which is no reason to fail."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
