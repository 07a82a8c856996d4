"""The deployments of Ray Serve: fronts, and the replicas behind them. Imports Ray."""

from __future__ import annotations

import asyncio
from typing import Any

from ray import serve
from ray.exceptions import RayActorError
from ray.serve.config import AutoscalingConfig, RequestRouterConfig
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from starlette.requests import Request
from starlette.responses import Response

from apps.api.problems import Problem
from apps.api.settings import ServeOptions
from apps.ray_serve.front import Front
from apps.ray_serve.options import RayOptions
from apps.ray_serve.passing import Answer, Passed, answer_of
from apps.ray_serve.replica import Replica
from composer.limits import Limits

IMAGES_TOLD = 500
"""Held images that a replica tells Ray of, the latest; each change sends the list once more."""
FIGURES_SECONDS = 5.0
FRONT_CALLS = 1000
"""Requests that a front has at a time; how many bodies there may be is for its guard to say."""
RETRY = {"Retry-After": "1"}


def application(options: RayOptions) -> Any:
    """The application of Ray Serve. Raises what :meth:`RayOptions.serve_options` does."""
    chosen = options.serve_options()
    limits = chosen.limits
    # The engine has its own queue and its own rules for who is refused. Twice its size leaves room for calls
    # that use no device.
    at_once = 2 * (limits.queue_size + 1)
    engines = serve.deployment(
        EngineReplica,
        name="engine",
        autoscaling_config=AutoscalingConfig(
            min_replicas=options.min_replicas,
            max_replicas=options.max_replicas,
            target_ongoing_requests=options.target_ongoing_requests,
            upscale_delay_s=options.upscale_delay_s,
            downscale_delay_s=options.downscale_delay_s,
        ),
        max_ongoing_requests=at_once,
        max_queued_requests=at_once * options.max_replicas,
        ray_actor_options={"num_cpus": options.cpus, "num_gpus": options.gpus},
        request_router_config=RequestRouterConfig(request_router_class="apps.ray_serve.routing:ImageRouter"),
        graceful_shutdown_timeout_s=limits.drain_seconds,
    )
    fronts = serve.deployment(
        FrontReplica,
        name="front",
        num_replicas=options.fronts,
        max_ongoing_requests=FRONT_CALLS,
        ray_actor_options={"num_cpus": 0},
        graceful_shutdown_timeout_s=limits.drain_seconds,
    )
    return fronts.bind(engines.bind(chosen), chosen, options.in_front(limits))


class EngineReplica:
    """A replica as Ray Serve sees it. Args: of the single server."""

    def __init__(self, options: ServeOptions) -> None:
        self._replica = Replica(options, serve.get_replica_context().replica_id.unique_id)
        self._drain_seconds = options.limits.drain_seconds

    async def answer(self, call: Passed) -> Answer:
        """What the API answers; an image that is held now, or still, is told to the fronts."""
        answer = await self._replica.answer(call)
        if call.image_id and answer.status < 400:
            await self.tell(call.image_id)
        return answer

    @serve.multiplexed(max_num_models_per_replica=IMAGES_TOLD)  # type: ignore[untyped-decorator]
    async def tell(self, image_id: str) -> str:
        """Ray tells all its routers the ids that this was called with, as those of models that are loaded."""
        return image_id

    async def figures(self) -> tuple[str, str]:
        """The replica's name and figures."""
        return await self._replica.figures()

    def check_health(self) -> None:
        """Ray asks every few seconds, and replaces a replica that raises."""
        self._replica.check()

    def __del__(self) -> None:
        if hasattr(self, "_replica"):
            self._replica.close(self._drain_seconds)


class FrontReplica:
    """A front as Ray Serve sees it.

    Args:
        engines: handle of the engines' deployment.
        options: of the single server.
        limits: of a front.
    """

    def __init__(self, engines: Any, options: ServeOptions, limits: Limits) -> None:
        self._front = Front(RayEngines(engines), options.settings, limits, options.proxies)

    async def __call__(self, request: Request) -> Response:
        """Answer a request."""
        answer = await answer_of(self._front, request.scope, request.receive)
        return answer.response()


class RayEngines:
    """The replicas behind a handle of Ray Serve."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    async def ask(self, call: Passed) -> Answer:
        """What a replica answers.

        Raises:
            Problem: 503: all queues are full, or the replica that had the call has ended.
        """
        response = self._handle.answer.options(multiplexed_model_id=call.image_id).remote(call)
        try:
            answer: Answer = await response
        except asyncio.CancelledError:
            response.cancel()
            raise
        except BackPressureError:
            raise Problem(503, "queue_full", "too many calls are waiting", headers=RETRY) from None
        except (RayActorError, DeploymentUnavailableError):
            raise Problem(
                503, "broken", "the replica that had this call has ended; send it again", headers=RETRY
            ) from None
        return answer

    async def figures(self) -> dict[str, str]:
        """``/metrics`` of each replica that answers."""
        asked = self._handle.broadcast("figures")
        try:
            found = await asked.results_async(timeout_s=FIGURES_SECONDS, return_exceptions=True)
        except TimeoutError:
            return {}
        return dict(one for one in found if isinstance(one, tuple))
