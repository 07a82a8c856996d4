"""From the options of a server to its application: the model, the engine, the API, the pages."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from fastapi import FastAPI

from apps.api.app import create_app
from apps.api.pages import add_pages
from apps.api.service import Service
from apps.api.settings import ServeOptions
from composer import Composer, Points
from composer.engine.engine import Engine


def build(options: ServeOptions, demo_there: Callable[[], None] = lambda: None) -> tuple[FastAPI, Service]:
    """Load the model, start its engine and put the application together, around the service that it returns.

    Args:
        options: of the server.
        demo_there: see :func:`add_pages`.

    Raises:
        UsageError: an unknown preset, device or precision, or a folder of photos that is not there.
        CheckpointError, EnvironmentProblem: weights or device are missing, or a page is not installed.
    """
    composer = Composer.load(
        options.preset,
        checkpoint=options.checkpoint,
        device=options.device,
        precision=options.precision,
        limits=options.limits,
    )
    warm_up(composer)
    engine = Engine(composer).start()
    service = Service.of(engine, options.settings)
    app = create_app(service)
    add_pages(app, engine, demo=options.demo, projects=options.projects, demo_there=demo_there)
    return app, service


def warm_up(composer: Composer) -> None:
    """Encode and decode once: what libraries prepare at the first use is then done. The cache stays empty."""
    grey = np.full((64, 64, 3), 128, np.uint8)
    composer.open(grey).run(Points([[32, 32]]))
    composer.cache.clear()
