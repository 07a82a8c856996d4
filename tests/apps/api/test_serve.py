"""``sam-composer serve`` as a process: from listening to its exit code."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from apps.listening import bind
from sam.errors import EnvironmentProblem
from tests.apps.api.kit import WAIT, form, image_file, until

ROOT = Path(__file__).resolve().parents[3]
LONG = 120.0
"""A machine that is busy with other things takes long to load torch."""
Start = Callable[..., "Process"]


class Process:
    """A server of its own process, its output read as it comes."""

    def __init__(self, *options: object) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "apps.cli", "serve", "--port", "0", *map(str, options)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def says(self, pattern: str) -> re.Match[str]:
        """Wait for a line that matches."""
        end = time.monotonic() + LONG
        while True:
            for line in list(self.lines):
                if found := re.search(pattern, line):
                    return found
            assert time.monotonic() < end and self.process.poll() is None, self.lines
            time.sleep(0.02)

    def ends(self) -> int:
        """Its exit code, once all of its output has been read."""
        code = self.process.wait(LONG)
        self._reader.join(WAIT)
        return code


@pytest.fixture
def start(small_preset: Path) -> Iterator[Start]:
    """Starts a server with the small model; kills it if the test has not ended it."""
    started: list[Process] = []

    def run(*options: object) -> Process:
        started.append(Process("--preset", small_preset, "--device", "cpu", "--no-demo", *options))
        return started[-1]

    yield run
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.ends()
        assert one.process.stdout is not None
        one.process.stdout.close()


def test_from_listening_to_drained(start: Start, tmp_path: Path) -> None:
    patient = tmp_path / "limits.yaml"
    patient.write_text("drain_seconds: 300\ndeadline_seconds: 300\n")
    server = start("--quota", 100, "--limits", patient)
    url = server.says(r"listening at (http://\S+),")[1]
    assert httpx.get(f"{url}/livez").status_code == 200
    early = httpx.get(f"{url}/readyz")
    if early.status_code == 503:  # it was not ready before it could be asked
        assert early.json() == {"status": "loading"}
        refused = httpx.post(f"{url}/v1/segment", **form(image_file()))
        assert refused.json()["code"] == "loading" and refused.headers["retry-after"]
    server.says(r"ready at http://\S+ after \d+\.\d s")
    assert httpx.get(f"{url}/readyz").json() == {"status": "ready"}
    assert httpx.get(url, timeout=LONG).text.startswith("<!doctype html>"), "it waits for the demo"
    assert httpx.post(f"{url}/v1/segment", **form(image_file())).status_code == 200

    asked = [{"kind": "everything", "points_per_side": 32}]
    answers: list[Any] = []
    long = threading.Thread(target=lambda: answers.append(
        httpx.post(f"{url}/v1/segment", **form(image_file(1, (900, 700)), asked), timeout=LONG)
    ))  # fmt: skip
    long.start()
    until(lambda: "sam_composer_queue_running 1.0" in httpx.get(f"{url}/metrics").text)
    server.process.send_signal(signal.SIGTERM)
    until(lambda: answers or httpx.get(f"{url}/readyz").json() == {"status": "draining"})
    if not answers:
        assert httpx.get(f"{url}/livez").status_code == 200
    long.join(LONG)
    assert answers[0].status_code == 200, "what had begun was finished"
    assert server.ends() == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_ctrl_c_while_it_loads(start: Start) -> None:
    server = start()
    server.says("listening")
    server.process.send_signal(signal.SIGINT)
    assert server.ends() == 0


def test_ctrl_c_at_once(small_preset: Path) -> None:
    """In the moment in which it says that it listens, before its event loop runs."""
    program = """
import signal
from apps import cli
from apps.api import server
say = server.say
def interrupted(text):
    say(text)
    if text.startswith("listening"):
        signal.raise_signal(signal.SIGINT)
server.say = interrupted
cli.main()
"""
    options = ["serve", "--port", "0", "--preset", str(small_preset), "--device", "cpu", "--no-demo"]
    ended = subprocess.run([sys.executable, "-c", program, *options], cwd=ROOT, timeout=LONG, check=False)
    assert ended.returncode == 0


def test_a_checkpoint_that_is_missing(start: Start, tmp_path: Path) -> None:
    server = start("--checkpoint", tmp_path / "missing.safetensors")
    assert server.ends() == 5
    assert server.lines[-1].startswith("error: ") and "missing.safetensors" in server.lines[-1]


def test_wrong_options_are_told_at_once(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = tmp_path / "limits.yaml"
    bad.write_text("queue_size: many\n")
    tokens = tmp_path / "tokens.txt"
    tokens.write_text("short\n")
    for options, said in (
        (("--limits", bad), "queue_size"),
        (("--token-file", tokens), "16"),
        (("--allow-detector", "x.json"), "results file"),
        (("--port", 70_000), "--port"),
        (("--quota", 0), "--quota"),
    ):
        ended = cli("serve", *options)
        assert ended.code == 2 and said in ended.error, options


def test_a_port_that_is_taken(cli: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = cli("serve", "--port", port)
        assert ended.code == 6 and str(port) in ended.error
        with pytest.raises(EnvironmentProblem):
            bind("127.0.0.1", port)
    with pytest.raises(EnvironmentProblem):
        bind("no-such-host.invalid", 0)
    with bind("127.0.0.1", 0) as free:
        assert free.getsockname()[1] > 0
