"""Several engines behind one address, with Ray Serve: ``serve run apps.ray_serve:app``. Extra ``ray``."""

# No `from __future__ import annotations` here: Ray reads the annotation of the builder's argument as a class.
from typing import Any

from apps.ray_serve.options import RayOptions
from sam.errors import EnvironmentProblem


def app(options: RayOptions) -> Any:
    """The application, for ``serve run`` and for the ``import_path`` of a config file.

    Args:
        options: keyword arguments of the command line, or ``args`` of the config file.

    Raises:
        UsageError: a file of limits or tokens, or an option, is wrong.
        EnvironmentProblem: Ray is not installed.
    """
    try:
        from apps.ray_serve.deploying import application
    except ImportError as error:
        raise EnvironmentProblem(
            "Ray Serve is not installed: pip install 'sam-composer[ray]'", code="ray_missing"
        ) from error
    return application(options)
