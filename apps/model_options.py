"""Options about the model, which several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PANEL = "Model"

PresetName = Annotated[
    str, typer.Option(help="A name of `sam-composer models list`, or a YAML file.", rich_help_panel=PANEL)
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Weights to use instead of the preset's own.", rich_help_panel=PANEL),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel=PANEL)]
Precision = Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.", rich_help_panel=PANEL)]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Compile the encoder first (torch.compile): worth its wait for many photos only.",
        rich_help_panel=PANEL,
    ),
]
