"""What all routes share: the engine, the images it holds, and what whoever runs the server has set."""

from __future__ import annotations

from dataclasses import dataclass

from apps.api.settings import ServiceSettings
from composer.engine.engine import Engine
from composer.engine.held_images import HeldImages
from composer.limits import Limits


@dataclass(frozen=True)
class Service:
    """The engine with its surroundings.

    Attributes:
        engine: started.
        settings: see :class:`ServiceSettings`.
        held: images that clients come back to.
    """

    engine: Engine
    settings: ServiceSettings
    held: HeldImages

    @classmethod
    def of(cls, engine: Engine, settings: ServiceSettings | None = None) -> Service:
        """A service around a started engine, with its limits."""
        limits = engine.composer.limits
        held = HeldImages(limits.held_images_bytes, limits.held_image_seconds)
        return cls(engine, settings or ServiceSettings(), held)

    @property
    def limits(self) -> Limits:
        """Those of the engine's composer."""
        return self.engine.composer.limits
