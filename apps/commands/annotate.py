"""``sam-composer annotate``: the annotator over a folder of photos, in the browser."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from apps import model_options
from apps.console import flowing, say

PATIENCE = 600.0
"""Seconds that one answer may take: masks of all a photo with a large model, and nobody else waits."""
EPILOG = """
[bold]Examples[/bold]

sam-composer annotate PHOTOS

sam-composer annotate PHOTOS --preset vit_b --port 9000

FOLDER is one project if photos lie in it directly, else each of its folders is one. Masks are saved as you
work, into FOLDER/annotations.
"""


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("annotate", epilog=flowing(EPILOG))(annotate)


def annotate(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Photos, or folders of photos.")],
    host: Annotated[str, typer.Option(help="Address to listen at; whoever reaches it can "
                                           "see and change the annotations.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8008,
    preset: model_options.PresetName = "tiny",
    checkpoint: model_options.Checkpoint = None,
    device: model_options.Device = "auto",
    precision: model_options.Precision = "auto",
) -> None:  # fmt: skip
    """Outline objects in a folder of photos, in the browser."""
    from apps.annotator_api.server import serve
    from apps.listening import address_of, bind
    from composer import Composer
    from composer.limits import shipped_limits
    from composer.projects.project import find_projects

    find_projects(folder)  # before the model is loaded: a wrong folder is told at once
    socket = bind(host, port)
    try:
        limits = replace(shipped_limits(), deadline_seconds=PATIENCE)
        composer = Composer.load(
            preset, checkpoint=checkpoint, device=device, precision=precision, limits=limits
        )
        say(f"annotator: {address_of(socket)}/annotate/ (Ctrl-C ends it)")
        serve(composer, folder, socket)
    finally:
        socket.close()
