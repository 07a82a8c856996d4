"""Fetching one large file over HTTP so that a broken connection costs what is missing, not what is there."""

from __future__ import annotations

import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from composer.formats.atomic import writing
from sam.errors import CheckpointError, EnvironmentProblem, UsageError

Progress = Callable[[int, int], None]
"""Called with bytes that are here and bytes in all (0 where the server does not say)."""

CHUNK = 1 << 18
TIMEOUT_SECONDS = 30.0
ATTEMPTS = 4
"""In a row without a single new byte; as long as bytes arrive, a connection may break any number of times."""
PAUSE_SECONDS = 1.0
"""Before the second attempt in a row; each further one waits twice as long."""
_PASSING = (408, 425, 429, 500, 502, 503, 504)
"""HTTP answers that the same request may well not get a minute later."""


class _Interrupted(Exception):
    """The connection failed in a way that trying again may cure."""


@contextmanager
def partial_file(path: Path) -> Iterator[IO[bytes]]:
    """``path`` opened for appending, what is there kept, and locked against a second download of the file.

    Raises:
        EnvironmentProblem: it cannot be written, or another process is at it.
    """
    with writing(path):
        file = path.open("ab")
    with file:
        _lock(file, path)
        yield file


def fetch(url: str, file: IO[bytes], path: Path, *, size: int | None, progress: Progress) -> None:
    """Append to ``file`` what it still lacks of ``url``.

    Args:
        url: http or https.
        file: from :func:`partial_file`; its first bytes are taken to be the first bytes of ``url``.
        path: of ``file``, for messages.
        size: bytes of the whole, where it is known.
        progress: called after every piece.

    Raises:
        UsageError: another kind of URL.
        CheckpointError: ``download_refused``: the server does not have the file, or has another one.
        EnvironmentProblem: ``download_failed``: no connection after several attempts; what has arrived stays.
            ``disk_full``, ``output_unwritable``.
    """
    if not url.startswith(("https://", "http://")):
        raise UsageError(f"{url}: expected an http or https URL", code="config_invalid", field="weights.url")
    if size is not None and _length(file) > size:  # of an older, larger file: nothing to continue from
        restart(file, path)
    failures = most = 0
    while size is None or _length(file) < size:
        most = max(most, _length(file))
        try:
            _stream(url, file, path, size, progress)
            if size is None or _length(file) == size:
                return
            problem = f"the connection closed at {_length(file):,} of {size:,} bytes"
        except _Interrupted as error:
            problem = str(error)
        failures = 1 if _length(file) > most else failures + 1
        if failures >= ATTEMPTS:
            raise EnvironmentProblem(f"download of {url} failed: {problem}", code="download_failed")
        time.sleep(PAUSE_SECONDS * 2 ** (failures - 1))


def restart(file: IO[bytes], path: Path) -> None:
    """Throw away what has been downloaded. Raises :class:`EnvironmentProblem`."""
    with writing(path):
        file.truncate(0)
        file.seek(0)


def check_space(folder: Path, needed: int) -> None:
    """Raise :class:`EnvironmentProblem` (``disk_full``) unless ``needed`` bytes are free in ``folder``."""
    with writing(folder):
        free = shutil.disk_usage(folder).free
    if needed > free:
        raise EnvironmentProblem(
            f"{folder}: {needed / 1e6:,.0f} MB needed, {free / 1e6:,.0f} MB free; free some space",
            code="disk_full",
        )


def _stream(url: str, file: IO[bytes], path: Path, size: int | None, progress: Progress) -> None:
    """One connection: everything that it gives goes into ``file``."""
    offset = _length(file)
    with _open(url, offset, file, path) as response:
        if offset and not _continues(response, offset):
            restart(file, path)
            if response.status == 206:
                raise _Interrupted("the server continues at another place than it was asked to")
            offset = 0  # it knows no Range, and sends the whole file again
        length = response.headers.get("Content-Length", "")
        total = offset + int(length) if length.isdecimal() else 0
        if size is not None and total not in (0, size):
            raise CheckpointError(
                f"{url} has {total:,} bytes, expected {size:,}: not the published file",
                code="download_refused",
            )
        progress(offset, size or total)
        while chunk := _read(response):
            offset += len(chunk)
            if size is not None and offset > size:
                raise CheckpointError(
                    f"{url} sends more than the expected {size:,} bytes: not the published file",
                    code="download_refused",
                )
            with writing(path):
                file.write(chunk)
            progress(offset, size or total)
        with writing(path):
            file.flush()
    if total and offset < total:
        raise _Interrupted(f"the connection closed at {offset:,} of {total:,} bytes")


def _open(url: str, offset: int, file: IO[bytes], path: Path) -> Any:
    headers = {"User-Agent": "sam-composer", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - fetch has checked the scheme
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)  # noqa: S310
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing at that place: the server's file is shorter than our part
            restart(file, path)
            raise _Interrupted("the server cannot continue the partial file") from error
        if error.code in _PASSING:
            raise _Interrupted(f"the server answers {error.code} {error.reason}") from error
        raise CheckpointError(
            f"download of {url} failed: the server answers {error.code} {error.reason}",
            code="download_refused",
        ) from error
    except urllib.error.URLError as error:
        raise _Interrupted(_reason(error.reason)) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(_reason(error)) from error


def _read(response: Any) -> bytes:
    try:
        return bytes(response.read(CHUNK))
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(f"the connection broke: {_reason(error)}") from error


def _continues(response: Any, offset: int) -> bool:
    """Whether the answer starts where we asked it to; servers without Range send the whole with a 200."""
    where = str(response.headers.get("Content-Range", ""))
    return bool(response.status == 206) and where.replace(" ", "").lower().startswith(f"bytes{offset}-")


def _reason(error: Any) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())


def _length(file: IO[bytes]) -> int:
    file.flush()
    return os.fstat(file.fileno()).st_size


def _lock(file: IO[bytes], path: Path) -> None:
    """Advisory, and gone with the process, so that no stale lock can stay behind."""
    try:
        import fcntl
    except ImportError:  # no such locks on Windows: there the last step, the digest, must catch a collision
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise EnvironmentProblem(
            f"{path}: another process is downloading this file; wait for it", code="download_running"
        ) from error
    except OSError:  # a file system without locks
        return
