"""`models list`, `pull` and `verify`, with weights that a server on this machine hands out."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from apps import health
from composer import downloads, presets

BODY = bytes(range(256)) * 40


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *values: object) -> None:
        """Nothing on stderr."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAM_COMPOSER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(downloads, "PAUSE_SECONDS", 0.0)
    return tmp_path / "cache"


@pytest.fixture
def published(tmp_path: Path, cache: Path) -> Iterator[Path]:
    """A preset whose weights are at a URL."""
    served = tmp_path / "served"
    served.mkdir()
    (served / "mine.bin").write_bytes(BODY)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(served)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    weights = {
        "file": "mine.bin",
        "url": f"http://127.0.0.1:{server.server_port}/mine.bin",
        "bytes": len(BODY),
        "sha256": hashlib.sha256(BODY).hexdigest(),
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"description": "mine", "model": "vit_b", "weights": weights}))
    yield path
    server.shutdown()
    thread.join()
    server.server_close()


def test_list_tells_what_is_here(cli, cache: Path) -> None:
    ended = cli("models", "list")
    assert (ended.code, ended.err) == (0, "")
    rows = {line.split()[0]: line for line in ended.out.splitlines() if line}
    assert "in the package" in rows["tiny"]
    for name in ("mobile", "vit_b", "vit_l", "vit_h"):
        assert "not downloaded" in rows[name] and " MB " in rows[name] and str(cache) in rows[name]
    assert str(cache) in rows["cache"]


def test_list_tells_of_downloads_that_are_not_whole(cli, cache: Path) -> None:
    cache.mkdir()
    (cache / "sam_vit_b_01ec64.pth").write_bytes(b"short")
    ended = cli("models", "list")
    (row,) = [line for line in ended.out.splitlines() if line.startswith("vit_b")]
    assert "wrong size: 5 bytes" in row


def test_pull_then_verify(cli, published: Path, cache: Path) -> None:
    ended = cli("models", "pull", published)
    assert (ended.code, ended.err) == (0, "")
    assert str(cache / "mine.bin") in ended.out and "SHA-256 are right" in ended.out
    assert (cache / "mine.bin").read_bytes() == BODY
    ended = cli("models", "verify", published)
    assert ended.code == 0 and "size and SHA-256 are right" in ended.out


def test_weights_that_changed_do_not_verify(cli, published: Path, cache: Path) -> None:
    assert cli("models", "pull", published).code == 0
    (cache / "mine.bin").write_bytes(BODY[::-1])
    ended = cli("models", "verify", published)
    assert ended.code == 5 and ended.out == ""
    assert str(cache / "mine.bin") in ended.error and "SHA-256" in ended.error


def test_verify_all_checks_the_embedded_weights_and_skips_what_is_not_here(cli, cache: Path) -> None:
    ended = cli("models", "verify")
    assert ended.code == 0
    lines = {line.partition(": ")[0]: line for line in ended.out.splitlines()}
    assert lines["tiny"].endswith("size and SHA-256 are right")
    assert lines["vit_h"] == "vit_h: not downloaded"


def test_verify_all_names_what_is_wrong_and_goes_on(cli, cache: Path) -> None:
    cache.mkdir()
    (cache / "sam_vit_b_01ec64.pth").write_bytes(b"short")
    ended = cli("models", "verify")
    assert ended.code == 5
    assert ended.error.startswith("error: vit_b: ") and "vit_h: not downloaded" in ended.out


def test_a_server_without_the_file(cli, published: Path, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "served/mine.bin").unlink()
    ended = cli("models", "pull", published)
    assert ended.code == 5 and "404" in ended.error
    assert str(cache / "mine.bin") in ended.error  # where to put it by hand


def test_what_cannot_be_pulled(cli, cache: Path) -> None:
    ended = cli("models", "pull", "vit_x")
    assert ended.code == 2 and "vit_b" in ended.error
    ended = cli("models", "verify", "vit_b")
    assert ended.code == 5 and "models pull vit_b" in ended.error


@pytest.fixture
def with_companions(published: Path) -> Path:
    """The published preset with a text-image model beside it and a detector at the same URL."""
    values = yaml.safe_load(published.read_text())
    folder = published.parent / "clip"
    folder.mkdir()
    (folder / "open_clip_model.safetensors").write_bytes(BODY)
    values["clip"] = {"file": "clip/open_clip_model.safetensors", "sha256": values["weights"]["sha256"]}
    values["detector"] = values["weights"] | {"file": "detector.bin"}
    published.write_text(yaml.safe_dump(values))
    return published


def test_companions_are_pulled_and_verified_too(cli, with_companions: Path, cache: Path) -> None:
    ended = cli("models", "pull", with_companions)
    assert (ended.code, ended.err) == (0, "")
    assert (cache / "detector.bin").read_bytes() == BODY
    ended = cli("models", "verify", with_companions)
    titles = [line.partition(": ")[0] for line in ended.out.splitlines()]
    assert ended.code == 0 and titles == ["mine", "mine detector", "mine clip"]
    (with_companions.parent / "clip/open_clip_model.safetensors").write_bytes(BODY[::-1])
    ended = cli("models", "verify", with_companions)
    assert ended.code == 5 and "clip" in ended.error and "SHA-256" in ended.error


def test_list_and_verify_all_show_companions(cli, with_companions: Path, monkeypatch) -> None:
    preset = presets.load_preset(with_companions)
    monkeypatch.setattr(presets, "preset_names", lambda: ["mine"])
    monkeypatch.setattr(presets, "load_preset", lambda name: preset)
    lines = cli("models", "list").out.splitlines()
    rows = {
        title: line for line in lines for title in ("mine clip", "mine detector") if line.startswith(title)
    }
    assert "here" in rows["mine clip"] and "not downloaded" in rows["mine detector"]
    (with_companions.parent / "clip/open_clip_model.safetensors").write_bytes(BODY[::-1])
    ended = cli("models", "verify")
    assert ended.code == 5 and ended.error.startswith("error: mine clip: ")
    assert "mine detector: not downloaded" in ended.out
    found = {one.subject: one for one in health.weights()}
    assert found["weights mine clip"].state == "broken" and "SHA-256" in found["weights mine clip"].detail
    assert (
        found["weights mine detector"].state == "note"
        and "models pull mine" in found["weights mine detector"].detail
    )
