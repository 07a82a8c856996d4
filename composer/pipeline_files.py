"""Pipelines as YAML files: ``configs/pipelines/*.yaml``, and those of users."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from composer.configs import check_keys, config_error, configs_folder, load_yaml, place_of
from composer.limits import shipped_limits
from composer.pipeline import Pipeline, check_length
from composer.steps import CODE, From, Step
from sam.errors import EnvironmentProblem, SamComposerError, UsageError

Keys = tuple[str | int, ...]


def pipeline_names() -> list[str]:
    """The pipelines that come with the package."""
    return sorted(path.stem for path in (configs_folder() / "pipelines").glob("*.yaml"))


def pipeline_path(name_or_path: str | Path) -> Path:
    """The file of a pipeline, by its name or as it is.

    Raises:
        UsageError: no such name; the known ones are listed.
    """
    path = Path(name_or_path)
    if path.suffix.lower() in (".yaml", ".yml"):
        return path
    known = pipeline_names()
    if str(name_or_path) not in known:
        near = difflib.get_close_matches(str(name_or_path), known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(
            f"unknown pipeline {str(name_or_path)!r}: {hint}known: {', '.join(known)}, or a YAML file's path",
            code="pipeline_unknown",
            field="pipeline",
            allowed=known,
        )
    return configs_folder() / "pipelines" / f"{name_or_path}.yaml"


def describe_pipeline(name_or_path: str | Path) -> str:
    """Its ``description``, read without making the steps. Raises UsageError."""
    path = pipeline_path(name_or_path)
    return _description(load_yaml(path), path)


def load_pipeline(name_or_path: str | Path) -> Pipeline:
    """Read a pipeline by name, or by the path of a YAML file.

        description: People, and what they carry.
        steps:
          - {name: people, detect: {classes: [person]}}
          - {name: all, everything: {}}
          - {name: carried, select: {candidates: {from: all}, other: {from: people}, touching: 2}}
        output: [people, carried]

    Raises:
        UsageError: no such pipeline; a file that is none, naming file, line, step and key.
        EnvironmentProblem: a kind of request whose adapter cannot be loaded.
    """
    path = pipeline_path(name_or_path)
    values = load_yaml(path)
    check_keys(values, ("description", "steps", "output"), path)
    description = _description(values, path)
    items = values.get("steps")
    if not isinstance(items, list) or not items:
        raise config_error(path, ("steps",), "expected a list of steps such as {name: all, everything: {}}")
    steps = [_step(path, number, item) for number, item in enumerate(items)]
    try:
        pipeline = Pipeline(steps, values.get("output"), path.stem, description)
    except UsageError as error:
        raise _located(path, _keys_of(error, steps), error) from error
    check_length(pipeline, shipped_limits())
    return pipeline


def _description(values: Mapping[str, Any], path: Path) -> str:
    description = values.get("description", "")
    if not isinstance(description, str):
        raise config_error(path, ("description",), f"expected a text, not {description!r}")
    return " ".join(description.split())


def _step(path: Path, number: int, item: Any) -> Step:
    here: Keys = ("steps", number)
    kinds = [key for key in item if key != "name"] if isinstance(item, Mapping) else []
    if not isinstance(item, Mapping) or "name" not in item or len(kinds) != 1:
        found = f"found {', '.join(map(str, item)) or 'nothing'}" if isinstance(item, Mapping) else repr(item)
        raise _error(
            path,
            here,
            f"step {number + 1}: expected a name and one kind of request, such as "
            f"{{name: people, detect: {{classes: [person]}}}}, {found}",
        )
    name, kind = item["name"], kinds[0]
    fields = {} if item[kind] is None else item[kind]
    if not isinstance(fields, Mapping) or not all(isinstance(key, str) for key in fields):
        raise _error(path, (*here, kind), f"step {name!r}: {kind}: expected fields with values, or nothing")
    if "trust" in fields:
        raise _error(
            path,
            (*here, kind, "trust"),
            f"step {name!r}: a file cannot vouch for a detector; leave trust out, give --trust-detector or "
            'pipeline.with_fields("detect", trust=True)',
        )
    given = {field: _reference(value) for field, value in fields.items()}
    try:
        return Step(name, str(kind), **given)
    except EnvironmentProblem:  # of the machine; the file is right
        raise
    except SamComposerError as error:
        field = (error.field or "").rpartition(".")[2]
        raise _located(
            path, (*here, kind, field) if field in fields else _name_or(here, field), error
        ) from error


def _name_or(here: Keys, field: str) -> Keys:
    return (*here, "name") if field == "name" else here


def _reference(value: Any) -> Any:
    """``{from: people}`` as a reference; any other value, even a mapping with other keys, as it is."""
    if isinstance(value, Mapping) and list(value) == ["from"] and isinstance(value["from"], str):
        return From(value["from"])
    return value


def _keys_of(error: UsageError, steps: list[Step]) -> Keys:
    """Where in the file the fault is that a pipeline's error names as ``step.field``."""
    step, _, field = (error.field or "").partition(".")
    numbers = [number for number, one in enumerate(steps) if one.name == step]
    if not numbers:
        return (step,)
    here: Keys = ("steps", numbers[-1])
    return (*here, "name") if field == "name" else (*here, steps[numbers[-1]].kind, field)


def _located(path: Path, keys: Keys, error: SamComposerError) -> UsageError:
    return _error(path, keys, str(error), error.field)


def _error(path: Path, keys: Keys, message: str, field: str | None = None) -> UsageError:
    return UsageError(f"{place_of(path, keys)}: {message}", code=CODE, field=field)
