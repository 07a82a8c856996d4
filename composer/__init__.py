"""Compose one promptable segmenter with whatever says what to segment.

    from composer import Composer, Points

    scene = Composer.load("tiny").open("street.jpg")
    instances = scene.run(Points([[520, 375]]))

Names are imported when they are first used: ``import composer`` alone stays light, without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapters.boxes import Boxes
    from adapters.detect import Detect
    from adapters.edges import Edges
    from adapters.everything import Everything
    from adapters.points import Points
    from adapters.proposals import Proposals
    from adapters.relabel import Relabel
    from adapters.results import EdgeMap, Instances
    from adapters.select import Select
    from adapters.text import Text
    from composer.composer import Composer, Scene
    from composer.limits import Limits
    from composer.pipeline import Pipeline, PipelineResult
    from composer.pipeline_files import load_pipeline
    from composer.steps import From, Step
    from sam.errors import (
        BadAnnotation,
        BadImage,
        BadPrompt,
        CheckpointError,
        EnvironmentProblem,
        SamComposerError,
        UsageError,
    )

__version__ = "0.1.0"

_HOMES = {
    "Composer": "composer.composer",
    "Scene": "composer.composer",
    "Limits": "composer.limits",
    "From": "composer.steps",
    "Step": "composer.steps",
    "Pipeline": "composer.pipeline",
    "PipelineResult": "composer.pipeline",
    "load_pipeline": "composer.pipeline_files",
    "Points": "adapters.points",
    "Boxes": "adapters.boxes",
    "Everything": "adapters.everything",
    "Proposals": "adapters.proposals",
    "Edges": "adapters.edges",
    "Detect": "adapters.detect",
    "Text": "adapters.text",
    "Relabel": "adapters.relabel",
    "Select": "adapters.select",
    "Instances": "adapters.results",
    "EdgeMap": "adapters.results",
    "SamComposerError": "sam.errors",
    "UsageError": "sam.errors",
    "BadImage": "sam.errors",
    "BadPrompt": "sam.errors",
    "BadAnnotation": "sam.errors",
    "CheckpointError": "sam.errors",
    "EnvironmentProblem": "sam.errors",
}

__all__ = [
    "BadAnnotation",
    "BadImage",
    "BadPrompt",
    "Boxes",
    "CheckpointError",
    "Composer",
    "Detect",
    "EdgeMap",
    "Edges",
    "EnvironmentProblem",
    "Everything",
    "From",
    "Instances",
    "Limits",
    "Pipeline",
    "PipelineResult",
    "Points",
    "Proposals",
    "Relabel",
    "SamComposerError",
    "Scene",
    "Select",
    "Step",
    "Text",
    "UsageError",
    "load_pipeline",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'composer' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
