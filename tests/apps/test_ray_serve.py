"""Two replicas on a real Ray. What needs no Ray is tested in ``tests/apps/ray_serve/``."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from apps.listening import bind
from composer import Composer, Points
from tests.apps.api.kit import CLICK, form, image_file

pytest.importorskip("ray.serve", reason="the extra `ray` is not installed: pip install -e '.[ray]'")

ROOT = Path(__file__).resolve().parents[2]
STARTS_TRIED, STARTS, ENDS = 3, 300.0, 60.0
"""Seconds after which a test that hangs fails; Ray needs some ten where nothing else runs."""
UNKNOWN = "0" * 64
RAY = {
    "RAY_AUTH_MODE": "disabled",  # it would write a token into the home folder
    "RAY_USAGE_STATS_ENABLED": "0",
    # A busy machine is none that Ray should give up on.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "120",
}


class Driver:
    """A process with its own Ray, and all that it said."""

    def __init__(self, preset: Path, folder: str) -> None:
        with contextlib.closing(bind("127.0.0.1", 0)) as listening:
            self.port = listening.getsockname()[1]
        self.log = Path(folder) / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("ray_driver.py")), str(self.port), str(preset)],
                env=os.environ | RAY | {"PYTHONPATH": str(ROOT), "RAY_TMPDIR": folder},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=ENDS)

    def says(self, word: str, seconds: float) -> bool:
        """Wait for a line; False where the process ends without."""
        end = time.monotonic() + seconds
        while word not in self.log.read_text().splitlines():
            if time.monotonic() > end or self.process.poll() is not None:
                return False
            time.sleep(0.1)
        return True

    def parts(self) -> list[psutil.Process]:
        """All processes of its Ray."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []

    def stop(self) -> None:
        """Whatever state it is in."""
        self.client.close()
        parts = self.parts()
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(ENDS)
        self.process.kill()
        self.process.wait()
        for part in parts:
            with contextlib.suppress(psutil.NoSuchProcess):
                part.kill()

    def replicas(self) -> list[psutil.Process]:
        """Processes that run an engine; their names begin with what Ray calls them."""
        return [
            part for part in self.parts() if "ServeReplica:sam-composer:engine" in " ".join(part.cmdline())
        ]


@pytest.fixture(scope="module")
def driver(small_preset: Path) -> Iterator[Driver]:
    for left in reversed(range(STARTS_TRIED)):
        # Ray's sockets lie below this folder, and a socket's path has at most 107 characters.
        with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
            made = Driver(small_preset, folder)
            try:
                if made.says("ready", STARTS):
                    yield made
                    return
                log = made.log.read_text()[-6000:]
            finally:
                made.stop()
        # Ray gives up where its own processes do not start within 15 or 30 seconds.
        assert left and "timed out during startup" in log, log


@pytest.fixture
def client(driver: Driver) -> httpx.Client:
    return driver.client


def hold(client: httpx.Client, number: int) -> Any:
    answer = client.post("/v1/images", files={"image": ("photo.png", image_file(number))})
    assert answer.status_code == 201, answer.text
    return answer


def ask(client: httpx.Client, image_id: str) -> Any:
    return client.post(f"/v1/images/{image_id}/segment", json={"requests": CLICK})


def test_both_replicas_work_and_answer_as_one_engine_does(client: httpx.Client, small_preset: Path) -> None:
    composer = Composer.load(small_preset, device="cpu", precision="fp32")
    # One after the other: answers from a batch may differ by rounding.
    answers = [client.post("/v1/segment", **form(image_file(number))) for number in range(20)]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.headers["X-Replica"] for answer in answers}) == 2
    for number, answer in enumerate(answers):
        expected = composer.open(image_file(number)).run(Points([[20, 20]]))
        (found,) = answer.json()["results"][0]["annotations"]
        assert found["segmentation"]["counts"] == expected.rles[0]["counts"].decode()
        assert found["predicted_iou"] == pytest.approx(float(expected.predicted_iou[0]), abs=1e-5)


def test_the_calls_of_an_image_go_to_one_replica(client: httpx.Client) -> None:
    places = {}
    for number in range(100, 108):
        held = hold(client, number)
        image_id, place = held.json()["id"], held.headers["X-Replica"]
        answers = [ask(client, image_id) for _ in range(4)] + [client.get(f"/v1/images/{image_id}/embedding")]
        assert [answer.status_code for answer in answers] == [200] * 5
        assert {answer.headers["X-Replica"] for answer in answers} == {place}
        places[image_id] = place
    assert len(set(places.values())) == 2
    time.sleep(1)  # by now the replicas have told what they hold, which changes nothing
    assert {image_id: ask(client, image_id).headers["X-Replica"] for image_id in places} == places


def test_an_image_that_nobody_holds_is_404(client: httpx.Client) -> None:
    answer = ask(client, UNKNOWN)
    assert (answer.status_code, answer.json()["code"]) == (404, "image_unknown")
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_health_and_figures_of_all(client: httpx.Client) -> None:
    assert client.get("/livez").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready"}
    ready = [
        line for line in client.get("/metrics").text.splitlines() if line.startswith("sam_composer_ready{")
    ]
    assert len(ready) == 2 and all(line.endswith(" 1.0") for line in ready)


def test_images_of_a_replica_that_was_killed_are_404_until_they_are_sent_again(
    driver: Driver, client: httpx.Client
) -> None:
    places = {hold(client, number).json()["id"]: number for number in range(200, 206)}
    for process in driver.replicas():
        process.kill()
    end = time.monotonic() + ENDS
    for image_id, number in places.items():
        while (answer := ask(client, image_id)).status_code == 503:  # until Ray has another one
            assert answer.json()["code"] == "broken"
            assert time.monotonic() < end
            time.sleep(0.1)
        assert (answer.status_code, answer.json()["code"]) == (404, "image_unknown")
        assert hold(client, number).json()["id"] == image_id
        assert ask(client, image_id).status_code == 200


def test_a_signal_lets_calls_finish_and_leaves_no_process(driver: Driver, client: httpx.Client) -> None:
    parts = driver.parts()
    everything = [{"kind": "everything", "points_per_side": 48}]
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(client.post, "/v1/segment", **form(image_file(300), everything))
        time.sleep(0.3)
        driver.process.send_signal(signal.SIGTERM)
        assert running.result(ENDS).status_code == 200
    assert driver.process.wait(ENDS) == 0
    assert driver.log.read_text().splitlines()[-1] == "ended"
    _, alive = psutil.wait_procs(parts, timeout=ENDS)
    assert not alive
