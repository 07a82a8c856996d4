"""Options about phrases, which ``segment`` and ``eval text`` share."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

PANEL = "With --text"


class Route(str, enum.Enum):
    """Ways from a phrase to masks; see :mod:`adapters.text`."""

    auto = "auto"
    token = "token"  # noqa: S105 - of the decoder
    rank = "rank"
    points = "points"
    detect = "detect"


Negatives = Annotated[
    list[str] | None,
    typer.Option(
        "--negative",
        metavar="PHRASE",
        help="What is not wanted: a mask that this fits better is none.",
        rich_help_panel=PANEL,
    ),
]
Synonyms = Annotated[
    list[str] | None,
    typer.Option(
        "--synonym",
        metavar="PHRASE=WORD",
        help="A further word for a phrase of --text; the label stays the phrase.",
        rich_help_panel=PANEL,
    ),
]
MaxInstances = Annotated[
    int | None,
    typer.Option(
        "--max-instances",
        help="At most so many of each phrase, the best. (default: all)",
        rich_help_panel=PANEL,
    ),
]
Hint = Annotated[
    str | None,
    typer.Option(
        "--hint",
        metavar="X,Y",
        help="The object of the one phrase is here, in pixels: a report's suggested point, say.",
        rich_help_panel=PANEL,
    ),
]
TextThreshold = Annotated[
    float | None,
    typer.Option(
        "--text-threshold",
        help="Least text score, 0 to 1. (default: the preset's, or what suits the model)",
        rich_help_panel=PANEL,
    ),
]
TextThresholds = Annotated[
    list[str] | None,
    typer.Option(
        "--text-threshold",
        metavar="[PHRASE=]T",
        help="Least text score, 0 to 1: of all phrases, or of one. (default: the preset's, or what suits the "
        "model)",
        rich_help_panel=PANEL,
    ),
]
RouteOption = Annotated[
    Route | None,
    typer.Option(
        "--route",
        help="Automatic masks that a text-image model names (rank), boxes of a detector (detect), clicks "
        "where the phrase is seen (points), the phrase as a prompt (token). (default: the preset's)",
        rich_help_panel=PANEL,
    ),
]
Clip = Annotated[
    str | None,
    typer.Option(
        "--clip",
        metavar="NAME|DIR",
        help="Text-image model: an architecture of open_clip, or a folder in its form. "
        "(default: the preset's)",
        rich_help_panel=PANEL,
    ),
]
Pretrained = Annotated[
    str | None,
    typer.Option(
        "--pretrained",
        metavar="TAG|FILE",
        help="Its weights: a tag of open_clip, or a file.",
        rich_help_panel=PANEL,
    ),
]
