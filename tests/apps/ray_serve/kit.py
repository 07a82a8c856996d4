"""Replicas in this process, chosen as Ray's routers choose them: everything of the application but Ray."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

from apps.api.problems import Problem
from apps.api.settings import ServeOptions, ServiceSettings
from apps.ray_serve.passing import Answer, Passed
from apps.ray_serve.placing import place_of
from apps.ray_serve.replica import Replica
from composer.limits import DEFAULT_LIMITS, Limits


class InProcess:
    """Stands for :class:`apps.ray_serve.deploying.RayEngines`.

    Attributes:
        replicas: by name; tests take them away.
        told: by name, the images that a replica says it holds. Nothing says so unless a test does: then the
            image alone decides.
    """

    def __init__(self, replicas: dict[str, Replica]) -> None:
        self.replicas = dict(replicas)
        self.told: dict[str, set[str]] = {name: set() for name in replicas}
        self._turn = itertools.count()

    async def ask(self, call: Passed) -> Answer:
        names = sorted(self.replicas)
        if not names:
            raise Problem(503, "broken", "all have ended")
        name = names[next(self._turn) % len(names)]
        if call.image_id:
            name = place_of(call.image_id, {known: self.told[known] for known in names})
        return await self.replicas[name].answer(call)

    async def figures(self) -> dict[str, str]:
        return dict([await replica.figures() for replica in self.replicas.values()])


class Hanging:
    """Replicas that do not answer, and note when nobody waits any more."""

    def __init__(self) -> None:
        self.dropped = 0

    async def ask(self, call: Passed) -> Answer:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.dropped += 1
            raise
        raise AssertionError("nobody sets that event")

    async def figures(self) -> dict[str, str]:
        return {}


def small_replica(
    preset: Path, name: str, settings: ServiceSettings | None = None, limits: Limits = DEFAULT_LIMITS
) -> Replica:
    """A replica with a very small model."""
    options = ServeOptions(
        "127.0.0.1", 0, str(preset), None, "cpu", "fp32", limits, settings or ServiceSettings()
    )
    return Replica(options, name)
