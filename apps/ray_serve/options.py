"""What whoever starts the application may choose."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from apps.api.settings import ServeOptions, ServiceSettings, read_tokens
from composer.limits import Limits, shipped_limits


class RayOptions(BaseModel):
    """The options of the application; an unknown one is an error.

    Attributes:
        preset, checkpoint, device, precision: of each replica; see :meth:`composer.Composer.load`.
        limits: YAML file with limits that differ from the shipped ones; they hold for each replica.
        token_file: bearer tokens, one a line; without it, those in ``SAM_COMPOSER_TOKENS``, or none.
        quota: calls a minute of one client, for each front.
        allow_origin: web pages' origins that may call the API.
        proxies: addresses whose ``X-Forwarded-For`` is believed, between commas.
        min_replicas, max_replicas: how many engines there are, at least and at most.
        target_ongoing_requests: calls in flight on a replica, on average, that Ray scales towards.
        upscale_delay_s: seconds for which there must be more of them before a replica is added.
        downscale_delay_s: seconds for which there must be fewer before one is taken away, and with it the
            images that it holds.
        cpus, gpus: of each replica; Ray places replicas by them. PyTorch uses as many threads as ``cpus``.
        fronts: processes that take requests in; each can use a core.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: str = "tiny"
    checkpoint: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    limits: Path | None = None
    token_file: Path | None = None
    quota: int | None = Field(default=None, ge=1)
    allow_origin: tuple[str, ...] = ()
    proxies: str | None = None
    min_replicas: int = Field(default=1, ge=1)
    max_replicas: int = Field(default=2, ge=1)
    target_ongoing_requests: float = Field(default=4.0, gt=0)
    upscale_delay_s: float = Field(default=30.0, ge=0)
    downscale_delay_s: float = Field(default=900.0, ge=0)
    cpus: float = Field(default=1.0, gt=0)
    gpus: float = Field(default=0.0, ge=0)
    fronts: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _in_order(self) -> RayOptions:
        if self.max_replicas < self.min_replicas:
            raise ValueError(f"max_replicas is {self.max_replicas}, below min_replicas, {self.min_replicas}")
        return self

    def serve_options(self) -> ServeOptions:
        """Of one replica, as of one server. Files are read here, where the application is started.

        Raises:
            UsageError: a file cannot be read, or what it says is wrong.
        """
        limits = shipped_limits() if self.limits is None else Limits.from_file(self.limits)
        settings = ServiceSettings(read_tokens(self.token_file), self.quota, self.allow_origin)
        return ServeOptions(
            limits.host,
            0,
            self.preset,
            self.checkpoint,
            self.device,
            self.precision,
            limits,
            settings,
            proxies=self.proxies,
        )

    def in_front(self, limits: Limits) -> Limits:
        """Limits of a front: it lets in bodies for all the queues behind it."""
        return dataclasses.replace(limits, queue_size=limits.queue_size * self.max_replicas)
