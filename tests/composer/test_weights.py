"""Downloads of weights from a server on this machine that misbehaves in every way a real one does."""

from __future__ import annotations

import fcntl
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from composer import downloads
from composer.presets import Preset, WeightsFile, load_preset
from composer.weights import cache_folder, expected_path, locate, locate_clip, locate_detector, pull, verify
from sam.errors import CheckpointError, EnvironmentProblem, UsageError

BODY = bytes(range(256)) * 3000
DIGEST = hashlib.sha256(BODY).hexdigest()
OTHER = bytes(reversed(BODY))


@dataclass
class Script:
    """What the server does, and what it was asked."""

    body: bytes = BODY
    ranges: bool = True
    wrong_place: bool = False
    cut_after: list[int] = field(default_factory=list)
    status: list[int] = field(default_factory=list)
    announce_length: bool = True
    asked: list[str | None] = field(default_factory=list)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    script: Script

    def do_GET(self) -> None:
        script = self.script
        wanted = self.headers.get("Range")
        script.asked.append(wanted)
        if script.status:
            self.send_error(script.status.pop(0))
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and script.ranges else 0
        if start and start >= len(script.body):
            self.send_error(416)
            return
        if start:
            self.send_response(206)
            shown = 0 if script.wrong_place else start
            self.send_header("Content-Range", f"bytes {shown}-{len(script.body) - 1}/{len(script.body)}")
        else:
            self.send_response(200)
        content = script.body[start:]
        if script.announce_length:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if script.cut_after:
            content = content[: script.cut_after.pop(0)]
        self.wfile.write(content)

    def log_message(self, format: str, *values: object) -> None:
        """Nothing on stderr."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(downloads, "PAUSE_SECONDS", 0.0)
    script = Script()
    handler = type("ScriptedHandler", (Handler,), {"script": script})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        script.url = f"http://127.0.0.1:{listening.server_port}/weights.bin"
        yield script
        listening.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("SAM_COMPOSER_CACHE", str(folder))
    return folder


@pytest.fixture
def preset(server: Script, cache: Path, tmp_path: Path) -> Preset:
    shape = load_preset("vit_b")
    weights = WeightsFile("weights.bin", server.url, len(BODY), DIGEST)
    return replace(shape, name="mine", weights=weights, folder=tmp_path)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_download_is_whole_and_leaves_nothing_else(preset: Preset, cache: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = pull(preset, lambda done, total: seen.append((done, total)))
    assert path == cache / "weights.bin" == locate(preset) == verify(preset)
    assert path.read_bytes() == BODY
    assert files(cache) == ["weights.bin"]
    assert seen[0] == (0, len(BODY)) and seen[-1] == (len(BODY), len(BODY))
    assert seen == sorted(seen)


def test_companions_come_from_where_their_own_source_says(preset: Preset, tmp_path: Path) -> None:
    mine = replace(
        preset, detector=WeightsFile("tiny.safetensors", embedded=True), clip=WeightsFile("no/clip")
    )
    _, detector, clip = mine.files()
    assert [part.label for part in mine.files()] == ["mine", "mine detector", "mine clip"]
    assert locate_detector(mine) == locate(detector) == expected_path(load_preset("tiny"))
    with pytest.raises(CheckpointError, match=r"no such file, though preset 'mine' names it in clip\.file"):
        locate_clip(mine)
    with pytest.raises(CheckpointError, match="the clip file of preset 'mine' is not here: run `sam-c"):
        locate(replace(clip, weights=replace(preset.weights, file="c.bin")))
    with pytest.raises(UsageError, match=r"no clip\.url"):
        pull(clip)


def test_what_is_there_already_is_not_fetched_again(preset: Preset, server: Script) -> None:
    pull(preset)
    pull(preset)
    assert len(server.asked) == 1


def test_a_damaged_file_is_fetched_again(preset: Preset, cache: Path) -> None:
    cache.mkdir()
    (cache / "weights.bin").write_bytes(OTHER)
    with pytest.raises(CheckpointError, match="models pull mine") as caught:
        verify(preset)
    assert caught.value.code == "checkpoint_digest"
    assert pull(preset).read_bytes() == BODY


def test_a_partial_file_is_continued(preset: Preset, cache: Path, server: Script) -> None:
    cache.mkdir()
    (cache / "weights.bin.part").write_bytes(BODY[:5000])
    assert pull(preset).read_bytes() == BODY
    assert server.asked == ["bytes=5000-"]
    assert files(cache) == ["weights.bin"]


def test_a_cut_connection_is_resumed_in_the_same_call(preset: Preset, server: Script) -> None:
    server.cut_after = [1000, 2000, 3000, 4000, 5000, 6000]
    assert pull(preset).read_bytes() == BODY
    assert server.asked[:3] == [None, "bytes=1000-", "bytes=3000-"]
    assert len(server.asked) == 7


def test_without_a_content_length_the_pinned_size_tells_that_something_is_missing(
    preset: Preset, server: Script
) -> None:
    server.announce_length = False
    server.cut_after = [700]
    assert pull(preset).read_bytes() == BODY
    assert server.asked == [None, "bytes=700-"]


def test_without_a_pinned_size_the_content_length_does(preset: Preset, server: Script) -> None:
    server.cut_after = [700]
    unsized = replace(preset, weights=replace(preset.weights, bytes=None))
    assert pull(unsized).read_bytes() == BODY
    assert server.asked == [None, "bytes=700-"]


def test_a_server_without_range_starts_over(preset: Preset, cache: Path, server: Script) -> None:
    cache.mkdir()
    (cache / "weights.bin.part").write_bytes(BODY[:5000])
    server.ranges = False
    assert pull(preset).read_bytes() == BODY
    assert server.asked == ["bytes=5000-"]


def test_a_server_that_continues_at_another_place_is_not_believed(
    preset: Preset, cache: Path, server: Script
) -> None:
    cache.mkdir()
    (cache / "weights.bin.part").write_bytes(BODY[:5000])
    server.wrong_place = True
    assert pull(preset).read_bytes() == BODY
    assert server.asked == ["bytes=5000-", None]


def test_a_complete_partial_file_needs_no_network(preset: Preset, cache: Path, server: Script) -> None:
    cache.mkdir()
    (cache / "weights.bin.part").write_bytes(BODY)
    assert pull(preset).read_bytes() == BODY
    assert server.asked == []


@pytest.mark.parametrize("left", [OTHER[:5000], OTHER, OTHER + b"more"], ids=["short", "as long", "longer"])
def test_a_partial_file_of_something_else_is_thrown_away(preset: Preset, cache: Path, left: bytes) -> None:
    cache.mkdir()
    (cache / "weights.bin.part").write_bytes(left)
    assert pull(preset).read_bytes() == BODY


def test_a_partial_file_longer_than_an_unpinned_one_starts_over(
    preset: Preset, cache: Path, server: Script
) -> None:
    cache.mkdir()
    (cache / "weights.bin.part").write_bytes(BODY + b"more")
    assert pull(replace(preset, weights=replace(preset.weights, bytes=None))).read_bytes() == BODY
    assert server.asked == [f"bytes={len(BODY) + 4}-", None]


def test_another_file_of_the_same_size_is_refused(preset: Preset, cache: Path, server: Script) -> None:
    server.body = OTHER
    with pytest.raises(CheckpointError) as caught:
        pull(preset)
    assert caught.value.code == "checkpoint_digest"
    assert DIGEST in str(caught.value) and hashlib.sha256(OTHER).hexdigest() in str(caught.value)
    assert files(cache) == []


@pytest.mark.parametrize("body", [BODY[:-1], BODY + b"x"], ids=["shorter", "longer"])
@pytest.mark.parametrize("announced", [True, False])
def test_a_file_of_another_size_is_refused(
    preset: Preset, cache: Path, server: Script, body: bytes, announced: bool
) -> None:
    server.body = body
    server.announce_length = announced
    with pytest.raises((CheckpointError, EnvironmentProblem), match=r"by hand: save http"):
        pull(preset)
    assert not (cache / "weights.bin").exists()


def test_a_missing_file_is_told_at_once_with_what_to_do(preset: Preset, cache: Path, server: Script) -> None:
    server.status = [404]
    with pytest.raises(CheckpointError) as caught:
        pull(preset)
    message = str(caught.value)
    assert "404" in message and "\n" not in message
    for needed in (server.url, str(cache / "weights.bin"), DIGEST):
        assert needed in message
    assert len(server.asked) == 1


def test_a_busy_server_is_asked_again(preset: Preset, server: Script) -> None:
    server.status = [503, 429]
    assert pull(preset).read_bytes() == BODY


def test_no_network_says_what_to_do_by_hand_and_keeps_what_there_is(
    preset: Preset, cache: Path, server: Script
) -> None:
    cache.mkdir()
    (cache / "weights.bin.part").write_bytes(BODY[:5000])
    server.status = [503] * downloads.ATTEMPTS
    with pytest.raises(EnvironmentProblem) as caught:
        pull(preset)
    message = str(caught.value)
    assert caught.value.code == "download_failed"
    for needed in ("models pull mine", server.url, str(cache / "weights.bin"), DIGEST):
        assert needed in message
    assert (cache / "weights.bin.part").read_bytes() == BODY[:5000]


def test_a_closed_port_is_no_network(preset: Preset) -> None:
    nobody = replace(preset, weights=replace(preset.weights, url="http://127.0.0.1:9/weights.bin"))
    with pytest.raises(EnvironmentProblem, match="by hand") as caught:
        pull(nobody)
    assert caught.value.code == "download_failed"


def test_a_cache_folder_that_cannot_be(
    preset: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SAM_COMPOSER_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(EnvironmentProblem, match="SAM_COMPOSER_CACHE") as caught:
        pull(preset)
    assert caught.value.code == "output_unwritable"


def test_a_full_disk_is_seen_before_the_download(preset: Preset, server: Script) -> None:
    huge = replace(preset, weights=replace(preset.weights, bytes=1 << 60))
    with pytest.raises(EnvironmentProblem, match="MB free") as caught:
        pull(huge)
    assert caught.value.code == "disk_full"
    assert server.asked == []


def test_two_downloads_of_one_file_do_not_mix(preset: Preset, cache: Path) -> None:
    cache.mkdir()
    with (cache / "weights.bin.part").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(EnvironmentProblem, match="another process") as caught:
            pull(preset)
    assert caught.value.code == "download_running"
    assert pull(preset).read_bytes() == BODY


@pytest.mark.parametrize("change", [{"url": None}, {"sha256": None}, {"url": "file:///etc/passwd"}])
def test_what_cannot_be_downloaded_safely_is_refused(preset: Preset, change: dict[str, str | None]) -> None:
    with pytest.raises(UsageError):
        pull(replace(preset, weights=replace(preset.weights, **change)))  # type: ignore[arg-type]


def test_weights_that_are_not_here_come_with_how_to_get_them(preset: Preset, cache: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        locate(preset)
    assert caught.value.code == "weights_missing"
    for needed in ("models pull mine", str(preset.weights.url), str(cache / "weights.bin"), DIGEST):
        assert needed in str(caught.value)


def test_a_preset_of_ones_own_has_its_weights_beside_it(preset: Preset, tmp_path: Path) -> None:
    local = replace(preset, weights=WeightsFile("sub/mine.safetensors"))
    assert expected_path(local) == tmp_path / "sub" / "mine.safetensors"
    with pytest.raises(CheckpointError, match="no such file"):
        locate(local)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "mine.safetensors").write_bytes(b"x")
    assert verify(local) == expected_path(local)


def test_a_file_name_cannot_leave_the_cache_folder(preset: Preset, cache: Path) -> None:
    sly = replace(preset, weights=replace(preset.weights, file="../../escaped.bin"))
    assert expected_path(sly) == cache / "escaped.bin"


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SAM_COMPOSER_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "sam-composer"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert cache_folder() == tmp_path / ".cache" / "sam-composer"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "sam-composer"
    monkeypatch.setenv("SAM_COMPOSER_CACHE", "~/own")
    assert cache_folder() == tmp_path / "own"
