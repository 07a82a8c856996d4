"""Figures for Prometheus: what HTTP saw, and what the engine says of itself when it is asked."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import Scope

from apps.api.service import Service

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_COUNTERS = {
    "admitted": "Jobs that the queue took in",
    "answered": "Jobs that were answered",
    "failed": "Jobs that ended with an error of theirs or ours",
    "refused": "Jobs refused or broken off because of load, memory or shutdown",
    "cancelled": "Jobs whose client went away",
    "expired": "Jobs that were not ready in time",
    "passes": "Passes of the image encoder",
    "images_encoded": "Images in those passes",
    "decoded_together": "Jobs whose clicks were decoded together with others'",
    "memory_shortages": "Times that memory ran out and a smaller attempt was made",
    "busy_seconds": "Seconds for which the device's thread worked",
}


class Metrics:
    """The metrics of one service.

    Args:
        service: whose engine is asked at each scrape; None: there is no engine in this process.
    """

    def __init__(self, service: Service | None) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self._requests = Counter(
            "sam_composer_http_requests", "HTTP requests", labels, registry=self.registry
        )
        self._seconds = Histogram(
            "sam_composer_http_request_seconds",
            "Seconds from the arrival of a request's headers to the end of its answer",
            ("method", "route"),
            buckets=SECONDS,
            registry=self.registry,
        )
        if service is not None:
            self.registry.register(_EngineCollector(service))
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def count(self, scope: Scope, status: int, seconds: float) -> None:
        """One request has been answered. Paths that are no route of ours share one label."""
        route = getattr(scope.get("route"), "path", "") or "other"
        method = (
            scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "DELETE", "OPTIONS") else "other"
        )
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def exposition(self) -> bytes:
        """All figures in the text format of Prometheus."""
        return generate_latest(self.registry)


class _EngineCollector(Collector):
    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        stats = self._service.engine.stats
        for name, text in _COUNTERS.items():
            yield CounterMetricFamily(f"sam_composer_{name}", text, value=float(getattr(stats, name)))
        cache = self._service.engine.composer.cache.stats
        for name, text in (("hits", "found"), ("misses", "not found"), ("evictions", "evicted")):
            about = f"Embeddings {text} in the cache"
            yield CounterMetricFamily(f"sam_composer_cache_{name}", about, value=float(getattr(cache, name)))
        gauges = {
            "queue_waiting": ("Jobs that wait", stats.waiting),
            "queue_running": ("Jobs that the device's thread has taken", stats.running),
            "cache_bytes": ("Bytes of cached embeddings", cache.bytes),
            "held_images": ("Images held for their clients", len(self._service.held)),
            "held_bytes": ("Bytes of held images and embeddings", self._service.held.nbytes),
            "ready": ("1 where new jobs are taken", int(self._service.engine.state == "ready")),
        }
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(f"sam_composer_{name}", text, value=float(value))
