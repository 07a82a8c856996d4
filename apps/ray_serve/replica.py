"""One engine with the API of the single server, in a process of its own."""

from __future__ import annotations

from typing import Any

from apps.api.building import build
from apps.api.settings import ServeOptions
from apps.ray_serve.passing import Answer, Passed, answer_of, replayed

METRICS = {"type": "http", "method": "GET", "path": "/metrics", "query_string": b"", "headers": []}


class Replica:
    """What runs in a replica.

    Args:
        options: of the single server; where to listen and pages are not used.
        name: of the replica.
    """

    def __init__(self, options: ServeOptions, name: str) -> None:
        self.name = name
        self._app, self._service = build(options)

    async def answer(self, call: Passed) -> Answer:
        """What the API answers. Cancelled, the work for it stops at the next step."""
        return await answer_of(self._app, call.scope_here(), replayed(call.body), self.name)

    async def figures(self) -> tuple[str, str]:
        """The replica's name, and its figures in the text format of Prometheus."""
        scope: dict[str, Any] = dict(METRICS) | {"sam_composer.client": "front"}
        answer = await answer_of(self._app, scope, replayed(b""))
        return self.name, answer.body.decode()

    def check(self) -> None:
        """For whoever looks every few seconds: held images expire in passing, where nobody else comes.

        Raises:
            RuntimeError: only a restart helps.
        """
        self._service.held.forget_expired()
        if self._service.engine.state == "broken":
            raise RuntimeError("the device does not answer any more")

    def close(self, seconds: float) -> None:
        """Finish what is here within ``seconds``, and end."""
        self._service.engine.drain(seconds)
