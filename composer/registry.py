"""Adapters by name: whatever installed packages register under ``sam_composer.adapters``."""

from __future__ import annotations

import difflib
import functools
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from adapters.base import Adapter, Request
from sam.errors import EnvironmentProblem, UsageError

GROUP = "sam_composer.adapters"


def adapter_names() -> list[str]:
    """The kinds of request that can be answered here, third-party ones included."""
    return sorted(_entry_points())


def adapter_for(kind: str) -> Adapter:
    """The adapter registered as ``kind``.

    Raises:
        UsageError: nothing is registered under that name; the known ones are listed.
        EnvironmentProblem: its package cannot be imported, or registers something else.
    """
    found = _entry_points().get(kind)
    if found is None:
        known = adapter_names()
        near = difflib.get_close_matches(kind, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(
            f"unknown kind of request {kind!r}: {hint}known: {', '.join(known)}",
            code="adapter_unknown",
            field="kind",
            allowed=known,
        )
    return _load(found)


def adapter_of(request: Request) -> Adapter:
    """The adapter that answers ``request``.

    Raises:
        UsageError: it is no request, or no adapter of its kind takes this type.
    """
    kind: Any = getattr(type(request), "kind", None)
    if not isinstance(request, Request) or not isinstance(kind, str):
        raise UsageError(
            f"cannot run a {type(request).__name__}: give a request such as Points, Boxes or Everything",
            code="request_invalid",
            field="request",
        )
    adapter = adapter_for(kind)
    if not isinstance(request, adapter.request):
        raise UsageError(
            f"the adapter registered as {kind!r} answers {adapter.request.__name__}, "
            f"not {type(request).__module__}.{type(request).__name__}",
            code="request_invalid",
            field="request",
        )
    return adapter


@functools.lru_cache(maxsize=1)
def _entry_points() -> dict[str, EntryPoint]:
    """The first of each name: ours come first, so that a plug-in cannot replace `points` unseen."""
    ordered = sorted(entry_points(group=GROUP), key=lambda e: not e.value.startswith("adapters."))
    found: dict[str, EntryPoint] = {}
    for entry in ordered:
        found.setdefault(entry.name, entry)
    return found


@functools.lru_cache(maxsize=64)
def _load(entry: EntryPoint) -> Adapter:
    try:
        adapter: Any = entry.load()()
    except Exception as error:
        raise EnvironmentProblem(
            f"adapter {entry.name!r} ({entry.value}) cannot be loaded: {error}; "
            "reinstall or remove the package that registers it",
            code="adapter_broken",
        ) from error
    request = getattr(adapter, "request", None)
    if not (isinstance(request, type) and issubclass(request, Request) and callable(adapter)):
        raise EnvironmentProblem(
            f"adapter {entry.name!r} ({entry.value}) is no adapter: it needs `request`, a Request class, "
            "and to be callable with a scene and a request",
            code="adapter_broken",
        )
    return adapter  # type: ignore[no-any-return]
