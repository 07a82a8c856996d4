"""One step of a pipeline: a request, some of whose fields come from earlier steps."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, get_type_hints

import numpy as np

from adapters.base import Adapter, Request
from adapters.results import EdgeMap, Instances, Result
from adapters.rle import IntArray, bounding_boxes, decode_mask, encode_mask
from composer.registry import adapter_for
from composer.requests import request_record
from sam.errors import SamComposerError, UsageError
from sam.training.deepest import deepest_point

Sort = Literal["boxes", "points", "instances"]
"""What a field takes of an earlier step: a box or a click for each of its instances, or them as they are."""
CODE = "pipeline_invalid"
MAX_NAME = 64
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_INSTANCES = re.compile(r"\bInstances\b")
_ONE_PIXEL = encode_mask(np.ones((1, 1), np.bool_))


@dataclass(frozen=True)
class From:
    """In a step's field: what an earlier step found.

    Attributes:
        step: that step's name. In a field ``boxes`` it stands for the boxes of its instances, in ``points``
            for the pixel of each mask that is farthest from its outline, in a field that takes
            :class:`adapters.results.Instances` for the instances.
    """

    step: str


@dataclass(frozen=True, eq=False, init=False)
class Step:
    """A named request, made when the steps that it needs are done. Checked when the step is made.

        Step("people", Detect(["person"]))
        Step("masks", Boxes, boxes=From("people"), margin=0.1)

    Args:
        name: letters, digits and underscores.
        request: a request; or a request's class or kind (``"boxes"``), whose fields follow.
        fields: the request's fields by name, :class:`From` in those that come from an earlier step.

    Attributes:
        kind: of the request.
        fields: those that were given.
        references: names of the earlier steps, by field.
        adapter: answers it.
        request: the request, with stand-ins for what earlier steps will have found.

    Raises:
        UsageError: ``pipeline_invalid``: a bad name; an unknown, missing or doubled field; a field that
            cannot come from a step. Errors name the step, ``field`` is ``step.field``.
        SamComposerError: what the request itself says of a value.
    """

    name: str
    kind: str
    fields: Mapping[str, Any]
    references: Mapping[str, str]
    adapter: Adapter
    request: Request
    _type: type[Request]

    def __init__(self, name: str, request: Request | type[Request] | str, /, **fields: Any) -> None:
        self._set("name", _checked_name(name))
        self._set("kind", getattr(request, "kind", request))
        if not isinstance(self.kind, str):
            raise self.error(None, f"give a request, a request's class or its kind, not {request!r}")
        try:
            self._set("adapter", adapter_for(self.kind))
        except SamComposerError as error:
            raise named(self.name, error) from error
        made = isinstance(request, Request)
        if made and fields:
            raise self.error(next(iter(fields)), "fields belong to a request's class, not to a request")
        given = _given(request) if isinstance(request, Request) else fields
        self._set("fields", MappingProxyType(given))
        references = {field: value.step for field, value in given.items() if isinstance(value, From)}
        self._set("references", MappingProxyType(references))
        kind = type(request) if made else request
        self._set("_type", self.adapter.request if isinstance(kind, str) else kind)
        if not issubclass(self._type, self.adapter.request):
            raise self.error(None, f"the adapter {self.kind!r} does not answer {self._type.__name__}")
        self._check_fields()
        self._set("request", request if made else self._build({f: _stand_in(s) for f, s in self.sorts()}))

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    @property
    def gives_edges(self) -> bool:
        """Whether its result is an edge map, as its adapter's annotations say."""
        try:
            return get_type_hints(type(self.adapter).__call__).get("return") is EdgeMap
        except Exception:  # annotations of another package that cannot be resolved say nothing
            return False

    def sorts(self) -> list[tuple[str, Sort]]:
        """The fields that come from earlier steps, and what of them."""
        return [(field, sort) for field, sort in _sorts(self._type).items() if field in self.references]

    def record(self) -> dict[str, Any]:
        """Name, kind and fields as plain JSON values, references as ``{"from": step}``."""
        values = request_record(self.request) | {f: {"from": s} for f, s in self.references.items()}
        if "points" in self.references:
            values.pop("labels", None)  # the stand-in's
        order = ["kind", *(field.name for field in dataclasses.fields(self._type))]
        return {"name": self.name} | {key: values[key] for key in order if key in values}

    def answer(self, scene: Any, results: Mapping[str, Result]) -> Result:
        """Make the request from what earlier steps found, and answer it.

        Nothing found before means nothing found here: prompts of no objects are not decoded, and no
        candidates are not asked about.

        Args:
            scene: the opened image.
            results: of the earlier steps by name.

        Raises:
            SamComposerError: what the adapter says, with the step's name.
        """
        try:
            if not self.references:
                return self.adapter(scene, self.request)
            return self._answer(scene, results)
        except SamComposerError as error:
            raise named(self.name, error) from error

    def _answer(self, scene: Any, results: Mapping[str, Result]) -> Result:
        values: dict[str, Any] = {}
        prompts: tuple[Instances, IntArray] | None = None
        for field, sort in self.sorts():
            source = results[self.references[field]]
            if not isinstance(source, Instances):
                raise self.error(field, f"step {self.references[field]!r} found edges, and no instances")
            if sort == "instances":
                values[field] = source
                nothing = field == "candidates" and len(source) == 0
            else:
                rows = _solid(source)
                values[field] = _boxes(source, rows) if sort == "boxes" else _points(source, rows)
                prompts, nothing = (source, rows), len(rows) == 0
            if nothing:
                return Instances.empty(source.image_size)
        result = self.adapter(scene, self._build(values))
        return result if prompts is None else _carried(result, *prompts)

    def _build(self, found: Mapping[str, Any]) -> Request:
        try:
            return self._type(**{**self.fields, **found})
        except SamComposerError as error:
            raise named(self.name, error) from error
        except (TypeError, ValueError) as error:
            raise self.error(None, f"{self.kind} does not take these values: {error}") from error

    def _check_fields(self) -> None:
        known = {field.name: field for field in dataclasses.fields(self._type) if field.init}
        sorts = _sorts(self._type)
        for name, value in self.fields.items():
            if name not in known:
                raise self.error(name, f"{self.kind} has no field {name!r}: {_hint(name, known)}")
            if name in self.references and name not in sorts:
                possible = f"only {', '.join(sorts)} can" if sorts else f"no field of {self.kind} can"
                raise self.error(name, f"{name} cannot come from a step: {possible}")
            if sorts.get(name) == "instances" and not isinstance(value, From | Instances | None):
                raise self.error(
                    name,
                    f"{name} takes what an earlier step found, {{from: STEP}} in a file, not {value!r:.80}",
                )
        # The signature and not the fields' defaults: a request may have an __init__ of its own.
        for name, parameter in inspect.signature(self._type).parameters.items():
            if name in known and parameter.default is parameter.empty and name not in self.fields:
                raise self.error(name, f"{self.kind} needs {name}")
        if "points" in self.references:
            for name in ("labels", "mask_logits"):
                if self.fields.get(name) is not None:
                    raise self.error(name, f"{name} cannot be given for points of a step: one click each")

    def error(self, field: str | None, message: str) -> UsageError:
        """An error about this step, to raise."""
        return step_error(self.name, field, message)


def step_error(step: str, field: str | None, message: str) -> UsageError:
    """An error about one step, to raise; ``field`` of the step is the one at fault."""
    where = f"{step}.{field}" if field else step
    return UsageError(f"step {step!r}: {message}", code=CODE, field=where)


def named(step: str, error: SamComposerError) -> SamComposerError:
    """The same error with the step's name in message and field."""
    if str(error).startswith(f"step {step!r}: "):
        return error
    where = f"{step}.{error.field}" if error.field else step
    return type(error)(f"step {step!r}: {error}", code=error.code, field=where, allowed=error.allowed)


def _hint(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise UsageError(
            f"a step's name is made of letters, digits and underscores, up to {MAX_NAME}, and starts with no "
            f"digit; this is {str(name)[:80]!r}",
            code=CODE,
            field="name",
        )
    return name


def _given(request: Request) -> dict[str, Any]:
    """The fields of a request that differ from the defaults of its signature."""
    parameters = inspect.signature(type(request)).parameters
    values = {field.name: getattr(request, field.name) for field in dataclasses.fields(request)}
    return {
        name: value
        for name, value in values.items()
        if not (name in parameters and _is_default(value, parameters[name].default))
    }


def _is_default(value: Any, default: Any) -> bool:
    if value is default:
        return True
    plain = (str, int, float, tuple, list, Mapping)  # arrays and instances are not compared
    if not (isinstance(value, plain) and isinstance(default, plain)):
        return False
    return bool(value == default)


def _sorts(request: type[Request]) -> dict[str, Sort]:
    """The fields that may come from an earlier step: ``boxes``, ``points``, and those typed as Instances."""
    found: dict[str, Sort] = {}
    for field in dataclasses.fields(request):
        if _INSTANCES.search(str(field.type)):
            found[field.name] = "instances"
        elif field.name in ("boxes", "points"):
            found[field.name] = "boxes" if field.name == "boxes" else "points"
    return found


def _stand_in(sort: Sort) -> Any:
    """The least that an earlier step may have found, to check the other fields with."""
    if sort == "boxes":
        return [[0, 0, 1, 1]]
    if sort == "points":
        return [[[0, 0]]]
    rles = [_ONE_PIXEL]
    return Instances((1, 1), tuple(rles), bounding_boxes(rles), np.ones(1, np.float32))


def _solid(found: Instances) -> IntArray:
    """Numbers of the instances that have a mask and a box that is not flat: the others prompt for nothing."""
    wide = (found.boxes[:, 2:] > found.boxes[:, :2]).all(1)
    return np.flatnonzero((found.areas > 0) & wide)


def _boxes(found: Instances, rows: IntArray) -> Any:
    return found.boxes[rows]


def _points(found: Instances, rows: IntArray) -> Any:
    """(n, 1, 2) the deepest pixel of each mask; one mask is dense at a time."""
    deepest = [deepest_point(decode_mask(found.rles[row])) for row in rows]
    return np.array([point[:2] for point in deepest if point is not None], np.float32).reshape(-1, 1, 2)


def _carried(result: Result, source: Instances, rows: IntArray) -> Result:
    """What each answer inherits from the instance that prompted for it, where it has nothing of its own.

    That is the label and the scores of detector and text. ``prompt_index`` becomes the instance's number in
    the earlier step, which differs from the prompt's where an empty mask was passed over.
    """
    if not isinstance(result, Instances):
        return result
    number = result.prompt_index
    if ((number < 0) | (number >= len(rows))).any():
        return result
    origin = rows[number]
    scores = {
        name: np.where(np.isnan(own), getattr(source, name)[origin], own)
        for name in ("detector_score", "text_score")
        for own in (getattr(result, name),)
    }
    labels = [own or source.labels[row] for own, row in zip(result.labels, origin, strict=True)]
    return result.replace(labels=tuple(labels), prompt_index=origin, **scores)
