"""Pipelines: steps that use what earlier steps found, about one image that is encoded once."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from adapters.base import Scene
from adapters.results import Instances, Result
from composer.limits import Limits
from composer.steps import CODE, From, Step, step_error
from sam.errors import UsageError

__all__ = ["From", "Pipeline", "PipelineResult", "Step", "run_pipeline", "run_steps"]


@dataclass(frozen=True, eq=False)
class Pipeline:
    """Steps in the order in which they run; each may use any earlier one.

        Pipeline([
            Step("people", Detect(["person"])),
            Step("all", Everything()),
            Step("carried", Select, candidates=From("all"), other=From("people"), touching=2, max_inside=0.5),
        ])

    Attributes:
        steps: one or more, of different names.
        output: names of the steps whose results are the answer; None: those that no later step uses.
        name, description: for people.

    Raises:
        UsageError: ``pipeline_invalid``: no steps; a name twice; a reference to a step that does not exist,
            comes later (the two would wait for each other) or finds edges; an unknown output.
    """

    steps: Sequence[Step]
    output: Sequence[str] | None = None
    name: str = "pipeline"
    description: str = ""

    def __post_init__(self) -> None:
        steps = tuple(self.steps)
        if not steps:
            raise UsageError("a pipeline needs at least one step", code=CODE, field="steps")
        object.__setattr__(self, "steps", steps)
        positions: dict[str, int] = {}
        for position, step in enumerate(steps):
            if not isinstance(step, Step):
                raise UsageError(
                    f"step {position + 1} is a {type(step).__name__}; expected Step(name, request)",
                    code=CODE,
                    field="steps",
                )
            if step.name in positions:
                raise step_error(step.name, "name", f"steps {positions[step.name] + 1} and {position + 1} "
                                 "have the same name")  # fmt: skip
            positions[step.name] = position
        for position, step in enumerate(steps):
            self._check_references(position, step, positions)
        if self.output is not None:
            object.__setattr__(self, "output", self._checked_output(positions))

    def _check_references(self, position: int, step: Step, positions: Mapping[str, int]) -> None:
        prompts: dict[str, str] = {}
        for field, wanted in step.references.items():
            place = positions.get(wanted)
            if place is None:
                earlier = [one.name for one in self.steps[:position]]
                raise step_error(
                    step.name, field, f"{field} comes from step {wanted!r}, and {_unknown(wanted, earlier)}"
                )
            if place == position:
                raise step_error(step.name, field, f"{field} comes from the step itself: a cycle")
            if place > position:
                cycle = self._needs(self.steps[place], step.name, positions)
                raise step_error(
                    step.name,
                    field,
                    f"{field} comes from step {wanted!r}, which "
                    + ("itself needs this one: a cycle" if cycle else "comes later; move it before this one"),
                )
            if self.steps[place].gives_edges:
                raise step_error(
                    step.name, field, f"{field} comes from step {wanted!r}, which finds edges, no instances"
                )
        for field, sort in step.sorts():
            if sort != "instances":
                prompts[field] = step.references[field]
        if len(set(prompts.values())) > 1:
            raise step_error(step.name, None, f"{' and '.join(prompts)} must come from the same step")

    def _needs(self, step: Step, name: str, positions: Mapping[str, int]) -> bool:
        """Whether ``step`` uses the step called ``name``, directly or not, even if there are cycles."""
        seen: set[str] = set()
        ahead = list(step.references.values())
        while ahead:
            one = ahead.pop()
            if one == name:
                return True
            if one in positions and one not in seen:
                seen.add(one)
                ahead += self.steps[positions[one]].references.values()
        return False

    def _checked_output(self, positions: Mapping[str, int]) -> tuple[str, ...]:
        given = self.output
        if isinstance(given, str) or not isinstance(given, Sequence) or not given:
            raise UsageError(
                f"output must be names of steps, such as [{self.steps[-1].name}], not {given!r}",
                code=CODE,
                field="output",
            )
        for name in given:
            if name not in positions:
                raise UsageError(
                    f"output {name!r}: {_unknown(str(name), list(positions))}", code=CODE, field="output"
                )
        return tuple(dict.fromkeys(given))

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the steps whose results are the answer, in the order of ``output`` or of the steps."""
        if self.output is not None:
            return tuple(self.output)
        used = {name for step in self.steps for name in step.references.values()}
        return tuple(step.name for step in self.steps if step.name not in used)

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def record(self) -> dict[str, Any]:
        """``steps`` and ``output`` as plain JSON values: what two runs must share to be one."""
        return {"steps": [step.record() for step in self.steps], "output": list(self.outputs)}

    def with_fields(self, kind: str, **fields: Any) -> Pipeline:
        """The same pipeline with fields set in the steps of a kind, where they do not say otherwise.

        ``pipeline.with_fields("detect", detector="yolo11n.pt", trust=True)`` says once which detector to use.

        Raises:
            UsageError: no step of that kind, or an unknown field.
            SamComposerError: what the request says of a value.
        """
        if kind not in {step.kind for step in self.steps}:
            raise UsageError(f"{self.name}: has no {kind} step", code=CODE, field=kind)
        steps = [
            Step(step.name, type(step.request), **{**fields, **step.fields}) if step.kind == kind else step
            for step in self.steps
        ]
        return Pipeline(steps, self.output, self.name, self.description)


@dataclass(frozen=True, eq=False)
class PipelineResult(Mapping[str, Result]):
    """What every step found, by the step's name.

    Attributes:
        pipeline: the steps.
        results: by name, in the order of the steps.
    """

    pipeline: Pipeline
    results: Mapping[str, Result]

    def __post_init__(self) -> None:
        object.__setattr__(self, "results", MappingProxyType(dict(self.results)))

    @property
    def outputs(self) -> dict[str, Result]:
        """The answer: results of the output steps, by name."""
        return {name: self.results[name] for name in self.pipeline.outputs}

    def __getitem__(self, name: str) -> Result:
        return self.results[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)


def run_steps(scene: Scene, pipeline: Pipeline) -> Iterator[tuple[Step, Result]]:
    """Answer step by step, as each is asked for.

    Steps that are no output keep no low-resolution logits: tens of megabytes each that nobody would read.

    Raises:
        SamComposerError: what went wrong, with the step's name.
    """
    results: dict[str, Result] = {}
    outputs = set(pipeline.outputs)
    for step in pipeline.steps:
        result = step.answer(scene, results)
        if isinstance(result, Instances) and step.name not in outputs:
            result = result.replace(low_res_logits=None)
        results[step.name] = result
        yield step, result


def run_pipeline(scene: Scene, pipeline: Pipeline) -> PipelineResult:
    """All steps about one scene, with its one embedding. Raises what :func:`run_steps` does."""
    return PipelineResult(pipeline, {step.name: result for step, result in run_steps(scene, pipeline)})


def check_length(pipeline: Pipeline, limits: Limits) -> None:
    """Raises UsageError for more steps than ``limits`` allow for one image."""
    if len(pipeline) > limits.max_requests:
        raise UsageError(
            f"{pipeline.name}: {len(pipeline)} steps; at most {limits.max_requests} are allowed",
            code=CODE,
            field="steps",
        )


def _unknown(name: str, known: Sequence[str]) -> str:
    """``there is no step 'peple': did you mean 'people'?``"""
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"there is no such step: did you mean {near[0]!r}?"
    listed = ", ".join(known)
    return f"there is no such step; known here: {listed}" if listed else "there is no step before this one"
