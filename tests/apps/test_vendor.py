"""Fetching the page's runtime from npm: only the pinned package is taken."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from apps.annotator import vendor
from sam.errors import EnvironmentProblem


def archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as content:
        for name in (*vendor.FILES, "something.else"):
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = len(name)
            content.addfile(entry, io.BytesIO(name.encode()))
    return buffer.getvalue()


@pytest.fixture
def npm(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """An npm that packs an archive of its own."""
    data = archive()

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        assert command[1:3] == ["pack", f"{vendor.PACKAGE}@{vendor.VERSION}"]
        folder = Path(command[command.index("--pack-destination") + 1])
        (folder / f"{vendor.PACKAGE}-{vendor.VERSION}.tgz").write_bytes(data)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(vendor.shutil, "which", lambda name: "/somewhere/npm")
    monkeypatch.setattr(vendor.subprocess, "run", run)
    return data


def test_what_is_needed_is_unpacked(npm: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vendor, "SHA256", hashlib.sha256(npm).hexdigest())
    assert not vendor.present(tmp_path)
    vendor.fetch(tmp_path)
    assert vendor.present(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*vendor.FILES, "VERSION"}
    (tmp_path / vendor.FILES[0]).unlink()
    assert not vendor.present(tmp_path)


def test_another_package_is_refused(npm: bytes, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="SHA-256"):
        vendor.fetch(tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(vendor.shutil, "which", lambda name: None)
    monkeypatch.setattr(vendor, "present", lambda: False)
    for options, code in ((["vendor"], 6), (["vendor", "--optional"], 0)):
        monkeypatch.setattr("sys.argv", options)
        assert vendor.main() == code
        assert "npm is not installed" in capsys.readouterr().err


def test_npm_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vendor.shutil, "which", lambda name: "/bin/false")
    with pytest.raises(EnvironmentProblem, match="check the network"):
        vendor.fetch(tmp_path)
