"""``/metrics`` of several replicas as one page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

HTTP = "sam_composer_http_"
"""Replicas count what the front has counted already."""


def together(front: bytes, replicas: Mapping[str, str]) -> bytes:
    """The figures of a front, and those of replicas with a label ``replica``.

    Args:
        front: exposition of the front's own figures.
        replicas: name -> exposition.
    """
    registry = CollectorRegistry()
    registry.register(_Replicas(replicas))
    return front + generate_latest(registry)


class _Replicas(Collector):
    def __init__(self, expositions: Mapping[str, str]) -> None:
        self._expositions = expositions

    def collect(self) -> Iterator[Metric]:
        merged: dict[str, Metric] = {}
        for replica, text in sorted(self._expositions.items()):
            for family in text_string_to_metric_families(text):
                if not family.name.startswith("sam_composer_") or family.name.startswith(HTTP):
                    continue
                one = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    one.add_sample(sample.name, sample.labels | {"replica": replica}, sample.value)
        yield from merged.values()
