"""A server of its own process under thousands of mixed requests: does its memory grow, do files stay open?

    python benchmarks/soak.py [--requests 10000] [--clients 8] [--json FILE]

Good calls of every kind, images held and forgotten, malformed bodies and images, clients that go away. Memory
is looked at after a warm-up of a tenth of the requests, when caches are full, and at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
IMAGES = 64
LIMITS = """
embedding_cache_bytes: 16 MiB
held_images_bytes: 16 MiB
queue_size: 32
"""
"""So small that the caches are full, and evict, long before the warm-up ends."""


def main() -> None:
    """Run it, print the figures, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "soak.json")
    options = parser.parse_args()
    report = soak(options.requests, options.clients, options.preset)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(report, indent=1) + "\n")
    for name, value in report.items():
        print(f"{name:<28} {value}")
    print(f"written to {options.json}")


def soak(requests: int, clients: int, preset: str) -> dict[str, Any]:
    """Send ``requests`` calls from ``clients`` threads; what came of them and what they left behind."""
    with tempfile.TemporaryDirectory() as folder, serving(preset, Path(folder)) as (url, process):
        began = time.monotonic()
        warm_up = max(1, requests // 10)
        codes = send(url, range(warm_up), clients)
        before = state_of(process, Path(folder))
        codes += send(url, range(warm_up, requests), clients)
        after = state_of(process, Path(folder))
        return {
            "requests": requests,
            "seconds": round(time.monotonic() - began, 1),
            "answers": {str(code): count for code, count in sorted(codes.items())},
            "rss_before_mib": before["rss_mib"],
            "rss_after_mib": after["rss_mib"],
            "rss_growth_mib": round(after["rss_mib"] - before["rss_mib"], 1),
            "files_before": before["files"],
            "files_after": after["files"],
            "temporary_files": after["temporary_files"],
            "ready": httpx.get(f"{url}/readyz").status_code == 200,
        }


@contextlib.contextmanager
def serving(preset: str, folder: Path, **environment: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server of its own process, whose temporary files go to ``folder``; ended by SIGTERM."""
    limits = folder / "limits.yaml"
    limits.write_text(LIMITS)
    temporary = folder / "tmp"
    temporary.mkdir()
    command = [sys.executable, "-m", "apps.cli", "serve", "--port", "0", "--no-demo", "--preset", preset,
               "--device", "cpu", "--limits", str(limits)]  # fmt: skip
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)} | environment,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.match(r"ready at (http://\S+)", line):
                break
        else:
            raise RuntimeError("the server did not start")
        yield found[1], process
    finally:
        process.terminate()
        process.wait(60)
        if process.stdout is not None:
            process.stdout.close()


def send(url: str, numbers: range, clients: int) -> Counter[str]:
    """The calls of these numbers, dealt out to threads; answers by status."""
    codes: Counter[str] = Counter()
    lock = threading.Lock()
    ahead = iter(numbers)

    def work() -> None:
        with httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
            while True:
                with lock:
                    number = next(ahead, None)
                if number is None:
                    return
                code = one_call(client, number)
                with lock:
                    codes[code] += 1

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return codes


def one_call(client: httpx.Client, number: int) -> str:
    """The ``number``-th of the mixed calls: which one it is depends on the number alone."""
    data = image_file(number % IMAGES)
    click = json.dumps([{"kind": "points", "points": [[20 + number % 60, 30]]}])
    boxes = json.dumps([{"kind": "boxes", "boxes": [[5, 5, 60, 50], [20, 10, 90, 60]]}])
    match number % 12:
        case 0 | 1 | 2:
            answer = client.post("/v1/segment", files={"image": data}, data={"requests": click})
        case 3:
            answer = client.post("/v1/segment", files={"image": data}, data={"requests": boxes},
                                 headers={"accept": "application/zip"})  # fmt: skip
        case 4:
            few = json.dumps([{"kind": "everything", "points_per_side": 3}])
            answer = client.post("/v1/segment?masks=polygons", files={"image": data}, data={"requests": few})
        case 5:
            answer = client.post("/v1/images", files={"image": data})
            if answer.status_code == 201:
                path = answer.headers["location"]
                client.post(f"{path}/segment", json={"requests": json.loads(click)})
                client.get(f"{path}/embedding")
                if number % 2:
                    client.delete(path)
        case 6:
            answer = client.post(
                "/v1/segment", files={"image": data[: len(data) // 2]}, data={"requests": click}
            )
        case 7:
            answer = client.post(
                "/v1/segment", content=b"[" * 5000, headers={"content-type": "application/json"}
            )
        case 8:
            answer = client.post("/v1/segment", files={"image": data}, data={"requests": '[{"kind": "x"}]'})
        case 9:
            body = b"--X\r\nContent-Disposition: form-data; name=image; filename=x\r\n\r\n" + data
            kind = {"content-type": "multipart/form-data; boundary=X"}
            answer = client.post("/v1/segment", content=body, headers=kind)
        case 10:
            return go_away(client.base_url, number)
        case _:
            answer = client.post("/v1/segment", files={"image": data}, data={"requests": click},
                                 headers={"accept": "image/png"})  # fmt: skip
    return str(answer.status_code)


def go_away(url: httpx.URL, number: int) -> str:
    """Send a call, or half of it, and close the connection."""
    body = b'{"image": "' + b"A" * 20_000 + b'"}'
    head = f"POST /v1/segment HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    with socket.create_connection((url.host, url.port or 80)) as gone:
        gone.sendall(
            head.encode() + b"Content-Type: application/json\r\n\r\n" + body[: -(number % 2) * 9000 or None]
        )
    return "gone"


def image_file(number: int, size: tuple[int, int] = (120, 80)) -> bytes:
    """Noise as a PNG, different for each number."""
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def state_of(process: subprocess.Popen[str], folder: Path) -> dict[str, Any]:
    """Memory, open files and temporary files of the server, once its connections have closed."""
    time.sleep(1)
    status = Path(f"/proc/{process.pid}/status").read_text()
    resident = int(re.search(r"VmRSS:\s+(\d+) kB", status)[1])  # type: ignore[index]
    return {
        "rss_mib": round(resident / 1024, 1),
        "files": len(os.listdir(f"/proc/{process.pid}/fd")),
        "temporary_files": sum(path.is_file() for path in (folder / "tmp").rglob("*")),
    }


if __name__ == "__main__":
    main()
