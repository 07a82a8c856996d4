"""The service under many clients, against the engine by itself, with the same images and clicks.

    python benchmarks/serve.py [--clients 64] [--images 256] [--preset tiny] [--json FILE]

Every call is about another image, a window of one photo as JPEG, so that each costs an encode. The engine's
own rate is that of its batches with no HTTP before it. Each answer is compared with what one call after
another gives. Clients that are told to come back (503) do so after a moment; latencies are of the accepted
calls.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from _models import bundled_photo
from foundation import machine
from PIL import Image
from pycocotools import mask as coco_mask
from soak import serving, state_of

from adapters.results import Instances
from composer import Composer, Points
from composer.engine.engine import Engine
from composer.engine.jobs import Asked, Job
from composer.images import HTTP_FORMATS, open_image
from composer.limits import DEFAULT_LIMITS
from composer.requests import request_record

ROOT = Path(__file__).resolve().parents[1]
SIZE = (640, 480)
PAUSE = 1.0
"""Most seconds after which a client that was told to come back does: less than `Retry-After` says."""


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "serve.json")
    options = parser.parse_args()
    report = measure(options.clients, options.images, options.preset)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(report, indent=1) + "\n")
    for name, value in report.items():
        print(f"{name:<34} {value}")
    print(f"written to {options.json}")


def measure(clients: int, images: int, preset: str) -> dict[str, Any]:
    """The figures of one run: the engine first, then the service in a process of its own."""
    files = windows(images + clients)
    files, others = files[:images], files[images:]
    limits = replace(DEFAULT_LIMITS, embedding_cache_bytes=0, queue_size=images, deadline_seconds=3600.0)
    composer = Composer.load(preset, device="cpu", limits=limits)
    expected = [composer.open(data).run(click(number)) for number, data in enumerate(files)]
    engine_runs = [through_engine(composer, files)]
    with tempfile.TemporaryDirectory() as folder, serving(preset, Path(folder)) as (url, process):
        through_http(url, others, clients)  # connections, threads, and memory for as many at once
        before = state_of(process, Path(folder))["rss_mib"]
        seconds, latencies, codes, reports = through_http(url, files, clients)
        after = state_of(process, Path(folder))["rss_mib"]
    engine_runs.append(through_engine(composer, files))  # before and after: other work on the machine shows
    engine_seconds = statistics.mean(engine_runs)
    overlaps = [iou(report, alone) for report, alone in zip(reports, expected, strict=True)]
    return {
        "machine": machine(),
        "clients": clients,
        "images": images,
        "engine_images_per_second": round(images / engine_seconds, 2),
        "engine_runs_seconds": [round(seconds, 2) for seconds in engine_runs],
        "service_images_per_second": round(images / seconds, 2),
        "service_over_engine": round(engine_seconds / seconds, 3),
        "p50_seconds": round(statistics.median(latencies), 3),
        "p99_seconds": round(float(np.percentile(latencies, 99)), 3),
        "answers": dict(codes),
        "wrong_answers": sum(overlap < 0.99 for overlap in overlaps),
        "least_iou_with_serial": round(min(overlaps), 5),
        "rss_before_mib": before,
        "rss_after_mib": after,
    }


def windows(count: int) -> list[bytes]:
    """So many different windows of :data:`SIZE` of one photo, as JPEG files."""
    width, height = SIZE
    files = []
    with Image.open(bundled_photo()) as opened:
        right, down = opened.width - width, opened.height - height
        for number in range(count):
            x, y = number * 7 % right, number * 11 % down
            buffer = io.BytesIO()
            opened.crop((x, y, x + width, y + height)).save(buffer, "JPEG", quality=90)
            files.append(buffer.getvalue())
    return files


def click(number: int) -> Points:
    """A click that is another one for each image."""
    return Points([[100 + number % 400, 100 + number % 250]])


def through_engine(composer: Composer, files: list[bytes]) -> float:
    """Seconds in which the engine answers all, given them at once."""
    with Engine(composer) as engine:
        began = time.perf_counter()
        futures = []
        for number, data in enumerate(files):
            asked = Asked(click(number), request_record(click(number)))
            futures.append(
                engine.submit(Job(lambda data=data: open_image(data, formats=HTTP_FORMATS), (asked,)))
            )  # type: ignore[misc]
        wait(futures)
        seconds = time.perf_counter() - began
        assert all(future.exception() is None for future in futures)
        return seconds


def through_http(
    url: str, files: list[bytes], clients: int
) -> tuple[float, list[float], Counter[str], list[Any]]:
    """Seconds for all, latencies of accepted calls, statuses, and the report of each image."""
    ahead = iter(range(len(files)))
    lock = threading.Lock()
    latencies: list[float] = []
    codes: Counter[str] = Counter()
    reports: list[Any] = [None] * len(files)

    def work() -> None:
        with httpx.Client(base_url=url, timeout=300, trust_env=False) as client:
            while True:
                with lock:
                    number = next(ahead, None)
                if number is None:
                    return
                asked = json.dumps(
                    [{"kind": "points", "points": np.asarray(click(number).points)[0].tolist()}]
                )
                while True:
                    began = time.perf_counter()
                    answer = client.post(
                        "/v1/segment", files={"image": files[number]}, data={"requests": asked}
                    )
                    with lock:
                        codes[str(answer.status_code)] += 1
                    if answer.status_code != 503:
                        break
                    time.sleep(min(PAUSE, float(answer.headers.get("retry-after", PAUSE))))
                with lock:
                    latencies.append(time.perf_counter() - began)
                reports[number] = answer.json()

    began = time.perf_counter()
    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began, latencies, codes, reports


def iou(report: Any, alone: Instances) -> float:
    """Of the service's mask with the one that the image gives by itself."""
    (record,) = report["results"][0]["annotations"]
    found = coco_mask.decode(record["segmentation"]).astype(bool)
    other = alone.masks[0]
    union = int((found | other).sum())
    return 1.0 if union == 0 else float((found & other).sum() / union)


if __name__ == "__main__":
    main()
