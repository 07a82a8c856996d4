"""Two replicas on a Ray of their own, in a process that tests start: ``ray_driver.py PORT PRESET``.

Says "ready", then waits for SIGTERM and says "ended" when nothing of Ray is left.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import threading
import time

import ray
from ray import serve

from apps.ray_serve import RayOptions, app


def listens(port: int) -> bool:
    """Whether somebody answers at the port."""
    with socket.socket() as trying:
        return trying.connect_ex(("127.0.0.1", port)) == 0


def main(port: int, preset: str) -> None:
    """Serve until a signal comes."""
    ended = threading.Event()
    # Without resources of its own to count, Ray would not put two replicas on a machine with one core.
    ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=100 << 20)
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    with contextlib.suppress(
        TimeoutError
    ):  # its HTTP server may take longer than Ray waits, on a busy machine
        serve.start(http_options={"host": "127.0.0.1", "port": port})
    options = RayOptions(preset=preset, device="cpu", precision="fp32", min_replicas=2, max_replicas=2)
    serve.run(app(options), name="sam-composer")
    while not listens(port):
        time.sleep(0.2)
    print("ready", flush=True)
    ended.wait()
    serve.delete("sam-composer")  # lets calls finish; a shutdown ends Ray's HTTP server under them
    serve.shutdown()
    ray.shutdown()
    print("ended", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
