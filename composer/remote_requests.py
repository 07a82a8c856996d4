"""Requests of strangers: JSON values become dataclasses, and nothing in them names a file of ours."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from composer.allowed_models import AllowedModels
from composer.engine.jobs import Asked
from composer.limits import Limits
from composer.pipeline import Pipeline
from composer.pipeline_files import load_pipeline, pipeline_names
from composer.registry import adapter_for
from composer.request_limits import check_counts
from composer.request_models import HIDDEN, needs_instances, remote_fields, request_model
from composer.requests import request_record
from sam.errors import BadPrompt, SamComposerError, UsageError

CODE = "request_invalid"


def read_requests(items: Any, limits: Limits, allowed: AllowedModels) -> tuple[Asked, ...]:
    """The requests of a JSON list.

    Args:
        items: ``[{"kind": "points", "points": [[520, 375]]}, ...]`` as parsed.
        limits: how many, and how much in each.
        allowed: which detectors and text-image models they may name.

    Raises:
        UsageError: no list, no request or too many, an unknown kind, an unknown or missing field.
        BadPrompt: a value out of its range. Errors name the field as ``requests[0].points``.
    """
    if not isinstance(items, list) or not 0 < len(items) <= limits.max_requests:
        found = f"{len(items)} of them" if isinstance(items, list) else type(items).__name__
        raise UsageError(
            f"requests must be a list of 1 to {limits.max_requests} requests, not {found}",
            code=CODE,
            field="requests",
            allowed={"min": 1, "max": limits.max_requests},
        )
    return tuple(_read(item, f"requests[{i}]", limits, allowed) for i, item in enumerate(items))


def read_pipeline(name: Any, limits: Limits) -> Pipeline:
    """One of the pipelines that come with the program, by its name.

    Raises:
        UsageError: ``pipeline_unknown``; the known ones are listed.
    """
    known = pipeline_names()
    if not isinstance(name, str) or name not in known:
        raise UsageError(
            f"unknown pipeline {str(name)[:80]!r}; known: {', '.join(known)}",
            code="pipeline_unknown",
            field="pipeline",
            allowed=known,
        )
    pipeline = load_pipeline(name)
    for step in pipeline:
        check_counts(step.request, limits)
    return pipeline


def _read(item: Any, place: str, limits: Limits, allowed: AllowedModels) -> Asked:
    if not isinstance(item, dict) or not isinstance(item.get("kind"), str):
        raise UsageError(
            f'{place}: expected an object with a kind, such as {{"kind": "everything"}}',
            code=CODE,
            field=f"{place}.kind",
        )
    try:
        adapter = adapter_for(item["kind"][:80])
        if needs_instances(adapter.request):
            raise UsageError(
                f"{item['kind']} uses what another request found: ask for a pipeline that has it",
                code=CODE,
                field="kind",
            )
        request_model(item["kind"]).model_validate(item)
        values = {name: value for name, value in item.items() if name != "kind"}
        request = adapter.request(**_resolved(values, allowed))
        check_counts(request, limits)
    except ValidationError as error:
        raise _explained(error, place, item) from None
    except SamComposerError as error:
        raise _placed(error, place) from error
    except (TypeError, ValueError) as error:  # of a request of another package, which knows not our errors
        raise BadPrompt(
            f"{place}: {item['kind']} does not take these values", code=CODE, field=place
        ) from error
    record = request_record(request) | {k: v for k, v in values.items() if k in ("detector", "clip")}
    return Asked(request, {name: value for name, value in record.items() if name not in HIDDEN})


def _resolved(values: dict[str, Any], allowed: AllowedModels) -> dict[str, Any]:
    """The values with models' names replaced by what they stand for."""
    values = dict(values)
    if values.get("detector") is not None:
        values["detector"] = _choose(values["detector"], allowed.detectors, "detector")
        values["trust"] = allowed.trust
    if values.get("clip") is not None:
        values["clip"], values["pretrained"] = _choose(values["clip"], allowed.clips, "clip")
    return values


def _choose(name: str, known: Mapping[str, Any], field: str) -> Any:
    if name not in known:
        others = f"; this server knows {', '.join(known)}" if known else ""
        raise UsageError(
            f"this {field} is not known here: leave it out for the preset's own{others}",
            code=f"{field}_unknown",
            field=field,
            allowed=list(known),
        )
    return known[name]


def _placed(error: SamComposerError, place: str) -> SamComposerError:
    """The same error with the request's place in its field."""
    where = f"{place}.{error.field}" if error.field else place
    return type(error)(f"{place}: {error}", code=error.code, field=where, allowed=error.allowed)


def _explained(error: ValidationError, place: str, item: Mapping[str, Any]) -> SamComposerError:
    """The first complaint of pydantic, in one line of ours."""
    first = error.errors(include_url=False, include_input=False)[0]
    names = [part for part in first["loc"] if isinstance(part, str | int)]
    name = str(names[0]) if names else ""
    where = f"{place}.{name}" if name else place
    kind = first["type"]
    if kind == "extra_forbidden":
        return UsageError(f"{place}: {_unknown_field(name, item)}", code="field_unknown", field=where)
    if kind == "missing":
        return UsageError(f"{place}: {item['kind']} needs {name}", code="field_missing", field=where)
    said = first["msg"].removeprefix("Value error, ")
    return BadPrompt(f"{place}: {name}: {said}", code=CODE, field=where, allowed=_allowed(first))


def _allowed(error: Any) -> object:
    """The range or the choices of a pydantic error, where it has any."""
    context = error.get("ctx", {})
    if error["type"] == "literal_error":
        return re.findall(r"'([^']*)'", context["expected"])
    return {"min_length": context["min_length"]} if "min_length" in context else None


def _unknown_field(name: str, item: Mapping[str, Any]) -> str:
    if name in HIDDEN:
        return f"{name} cannot be given here: it is for whoever runs the server"
    known = list(remote_fields(adapter_for(item["kind"]).request))
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    return f"{item['kind']} has no field {name[:80]!r}: {hint}"
