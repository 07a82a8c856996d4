"""A file appears whole or not at all, and a folder that cannot be written is one clear line."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from composer.formats import atomic
from composer.formats.atomic import (
    alone_in,
    atomic_file,
    ensure_folder,
    json_bytes,
    write_bytes,
    write_json,
    write_text,
)
from sam.errors import EnvironmentProblem


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_content_and_folders(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "a.bin"
    assert write_bytes(path, b"\0\1") == path
    assert path.read_bytes() == b"\0\1"
    write_text(path, "grün\n")
    assert path.read_text(encoding="utf-8") == "grün\n"
    write_json(path, {"a": [1, 2.5, None, "é"]})
    assert json.loads(path.read_bytes()) == {"a": [1, 2.5, None, "é"]}
    assert names(path.parent) == ["a.bin"]


def test_permissions_are_the_umasks(tmp_path: Path) -> None:
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    write_bytes(tmp_path / "ours", b"x")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)


def test_json_has_no_nan() -> None:
    with pytest.raises(ValueError, match=r"JSON compliant"):
        json_bytes({"a": float("nan")})


def test_a_file_name_that_is_not_utf8_goes_through_json() -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    assert json.loads(json_bytes({"file_name": name})) == {"file_name": name}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_block_that_raises_leaves_the_old_file_and_no_other(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = write_bytes(tmp_path / "a.txt", b"old")
    with pytest.raises(error), atomic_file(path) as file:
        file.write(b"half of the new")
        raise error
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.txt"]


def test_the_name_appears_only_when_all_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with atomic_file(path) as file:
        file.write(b"some")
        file.flush()
        assert not path.exists()
        (waiting,) = names(tmp_path)
        assert waiting.startswith(atomic.TEMPORARY_PREFIX)
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(
    ("step", "number", "said"),
    [
        ("fsync", errno.ENOSPC, "the disk is full"),
        ("fsync", errno.EDQUOT, "quota"),
        ("fsync", errno.EIO, "Input/output error"),
        ("replace", errno.EACCES, "permission denied"),
        ("replace", errno.EROFS, "read-only"),
    ],
)
def test_every_step_that_fails_names_the_path_and_cleans_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int, said: str
) -> None:
    path = write_bytes(tmp_path / "a.txt", b"old")

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(f"composer.formats.atomic.os.{step}", fail)
    with pytest.raises(EnvironmentProblem, match=said) as caught:
        write_bytes(path, b"new")
    assert str(caught.value).startswith(f"{path}: cannot be written: ")
    assert (caught.value.exit_code, caught.value.code) == (6, "output_unwritable")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.txt"]


def test_a_file_system_that_cannot_sync_folders_is_fine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr("composer.formats.atomic.os.open", fail)
    assert write_bytes(tmp_path / "a.txt", b"x").read_bytes() == b"x"


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentProblem, match="in the way of the folder"):
        ensure_folder(tmp_path / "file")
    with pytest.raises(
        EnvironmentProblem, match=r"file/sub: cannot be written: a part of the path is a file"
    ):
        write_bytes(tmp_path / "file" / "sub" / "a.txt", b"x")


def test_a_folder_where_the_file_should_be(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(EnvironmentProblem, match="a folder of this name is in the way"):
        write_bytes(tmp_path / "a.txt", b"x")
    assert names(tmp_path) == ["a.txt"]


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="name is too long"):
        write_bytes(tmp_path / ("x" * 300), b"x")
    assert names(tmp_path) == []


def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    """A real limit on file size, in a process of its own: the error comes where a full disk gives its own."""
    code = f"""
import resource, sys
from pathlib import Path
from composer.formats.atomic import write_bytes
from sam.errors import EnvironmentProblem
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_bytes(Path({str(tmp_path / "big.bin")!r}), bytes(1 << 20))
except EnvironmentProblem as error:
    print(error)
    sys.exit(error.exit_code)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 6, done.stderr
    assert "big.bin: cannot be written: the file would exceed" in done.stdout
    assert names(tmp_path) == []


def test_killed_in_the_middle_the_old_file_stands(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "a.txt", b"old")
    code = f"""
import os, signal
from pathlib import Path
from composer.formats.atomic import atomic_file
with atomic_file(Path({str(path)!r})) as file:
    file.write(b"new" * 1000)
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=120, check=False)
    assert done.returncode == -9
    assert path.read_bytes() == b"old"
    assert [n for n in names(tmp_path) if not n.startswith(atomic.TEMPORARY_PREFIX)] == ["a.txt"]


def test_one_at_a_time_in_a_folder(tmp_path: Path) -> None:
    inside, go = threading.Event(), threading.Event()

    def first() -> None:
        with alone_in(tmp_path):
            inside.set()
            go.wait(30)

    def second() -> None:
        with alone_in(tmp_path):
            order.append("second")

    order: list[str] = []
    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert inside.wait(30)
    threads[1].start()
    threads[1].join(0.3)
    order.append("first still there")
    go.set()
    for thread in threads:
        thread.join(30)
    assert order == ["first still there", "second"]
