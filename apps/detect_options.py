"""Options about boxes and detectors of ``segment``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PROMPTS, PANEL = "What to segment", "With --detect"

Zoom = Annotated[
    float | None,
    typer.Option(
        metavar="K",
        help="With --box or --detect: look at each small box in a window K times as wide, encoded apart. "
        "Finer masks of small things; 2 is good. (default: do not)",
        rich_help_panel=PROMPTS,
    ),
]
Detector = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|NAME",
        help="An ultralytics detector (.pt, .onnx, or a published name), one of ours (.safetensors), or "
        "a COCO results file (.json) of any other; serves --text too. (default: the preset's)",
        rich_help_panel=PANEL,
    ),
]
TrustDetector = Annotated[
    bool,
    typer.Option(
        "--trust-detector",
        help="Read a .pt file, which runs code that it holds; only if you know where it comes from.",
        rich_help_panel=PANEL,
    ),
]
Classes = Annotated[
    list[str] | None,
    typer.Option(
        "--class", metavar="NAME", help="A class to look for. (default: all)", rich_help_panel=PANEL
    ),
]
Conf = Annotated[
    float | None,
    typer.Option(
        help="Least score, 0 to 1. (default: the preset's for its own detector, else 0.25)",
        rich_help_panel=PANEL,
    ),
]
Annotations = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="With a results file: the COCO file that names its photos and classes.",
        rich_help_panel=PANEL,
    ),
]
