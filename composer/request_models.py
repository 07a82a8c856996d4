"""What each kind of request looks like in JSON: pydantic models, made from the requests' dataclasses.

Fields, defaults and choices come from the dataclass, descriptions from its docstring. A model checks types
and names alone; what a value may be is the dataclass's own business, which says it in one line.
"""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, Literal, get_type_hints

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, create_model

from adapters.base import Request
from composer.registry import adapter_for, adapter_names
from sam.errors import EnvironmentProblem

HIDDEN = frozenset({"trust", "annotations", "pretrained"})
"""Fields that name files, or vouch for them: whoever runs the server sets them."""
MAX_DEPTH = 4
_ONLY_WITH_CANDIDATES = frozenset({"relabel"})
"""Its candidates have a default all the same, so that it can be written before they are known."""
_INSTANCES = re.compile(r"\bInstances\b")
_HEADING = re.compile(r"^    (?:Attributes|Args):\n((?:        .*\n|\n)+)", re.MULTILINE)


def _numbers(value: Any, depth: int = 0) -> Any:
    """Numbers in lists, nothing else: numpy would take texts and booleans for numbers."""
    if isinstance(value, list) and depth < MAX_DEPTH:
        for item in value:
            _numbers(item, depth + 1)
    elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("expected finite numbers, in lists")
    return value


def _array(schema: dict[str, Any]) -> Any:
    return Annotated[Any, AfterValidator(_numbers), WithJsonSchema(schema)]


_NUMBER: dict[str, Any] = {"type": "number"}
_POINT = {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2, "description": "x, y in pixels"}
_BOX = {
    "type": "array", "items": _NUMBER, "minItems": 4, "maxItems": 4, "description": "x1, y1, x2, y2, pixels",
}  # fmt: skip
_LABEL = {"type": "integer", "enum": [0, 1]}


def _list(items: dict[str, Any], least: int = 1) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": least}


_ARRAYS = {
    "points": {"oneOf": [_list(_POINT), _list(_list(_POINT))]},
    "labels": {"oneOf": [_list(_LABEL), _list(_list(_LABEL))]},
    "boxes": _list(_BOX),
    "mask_logits": _list(_list(_list(_NUMBER))),
    "point_grids": _list(_list(_POINT)),
    "hint_point": _POINT,
}
"""Shapes that ``ArrayLike`` does not tell; fields of other names are any numbers in lists."""
_CONFIG = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@functools.lru_cache(maxsize=64)
def request_model(kind: str) -> type[BaseModel]:
    """The model of the requests of a kind.

    Raises:
        UsageError: an unknown kind; the known ones are listed.
        EnvironmentProblem: its adapter cannot be loaded.
    """
    request = adapter_for(kind).request
    about = descriptions(request)
    members: dict[str, Any] = {"kind": (Literal[kind], Field(description="Which request this is."))}
    for name, parameter in remote_fields(request).items():
        required = parameter.default is parameter.empty or name == "phrases"
        default = ... if required else _plain_default(parameter.default)
        described = Field(default, description=about.get(name), min_length=1 if name == "phrases" else None)
        members[name] = (_json_type(request, name), described)
    summary = inspect.cleandoc(request.__doc__ or "").partition("\n\n")[0]
    return create_model(request.__name__, __config__=_CONFIG, __doc__=_prose(summary), **members)


def remote_fields(request: type[Request]) -> dict[str, inspect.Parameter]:
    """The fields that can be given in JSON from outside, with their defaults."""
    own = {field.name: str(field.type) for field in fields(request)}
    return {
        name: parameter
        for name, parameter in inspect.signature(request).parameters.items()
        if name in own and name not in HIDDEN and not _INSTANCES.search(own[name])
    }


def needs_instances(request: type[Request]) -> bool:
    """Whether it cannot be asked without what another request found: such requests are steps of pipelines."""
    if request.kind in _ONLY_WITH_CANDIDATES:
        return True
    own = {field.name: str(field.type) for field in fields(request)}
    return any(
        parameter.default is parameter.empty and _INSTANCES.search(own.get(name, ""))
        for name, parameter in inspect.signature(request).parameters.items()
    )


def request_schemas() -> dict[str, dict[str, Any]]:
    """The JSON schema of every kind that can be asked by itself; one whose package is broken is left out."""
    schemas = {}
    for kind in adapter_names():
        try:
            if not needs_instances(adapter_for(kind).request):
                schemas[kind] = request_model(kind).model_json_schema()
        except EnvironmentProblem:
            continue
    return schemas


def descriptions(request: type[Request]) -> dict[str, str]:
    """What the docstring's ``Attributes:`` says of each field."""
    text = request.__doc__ or ""
    section = _HEADING.search(text + "\n")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in section[1].splitlines() if section else []:
        entry = re.match(r" {8}(\w[\w, ]*): (.*)", line)
        if entry:
            names = [name.strip() for name in entry[1].split(",")]
            found |= dict.fromkeys(names, entry[2])
        elif line.strip():
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return {name: _prose(sentence) for name, sentence in found.items()}


def _prose(text: str) -> str:
    """A docstring's sentence without the marks of its markup."""
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", " ".join(text.split()))
    text = text.replace("``", "`").strip()
    return text[:1].upper() + text[1:]


def _json_type(request: type[Request], name: str) -> Any:
    own = {field.name: str(field.type) for field in fields(request)}
    if name in _ARRAYS or "ArrayLike" in own[name]:
        array = _array(_ARRAYS.get(name, {"type": ["array", "number"]}))
        return array | None if "None" in own[name] else array
    try:
        hints = get_type_hints(request.__init__)
    except Exception:  # names of another package that cannot be resolved: the dataclass checks
        return Any
    return hints.get(name, Any)


def _plain_default(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, np.generic):
        return value.item()
    return dict(value) if isinstance(value, Mapping) else value
