"""``sam-composer self-label``: photos with the masks of which a model is sure, as a training set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from apps import model_options
from apps.console import counting, flowing, one_line, say

HELP = """Label photos with the masks of which the present model is sure, as a set to train on.

A mask is kept if its predicted IoU and its stability exceed the thresholds, and if its box gives the same
mask again in the mirrored photo. The set has SA-1B's layout; a training file names it as
{sa1b: NAME, weight: W}.

Run the same command again after an interruption: photos that are done are left as they are.
"""
EPILOG = """
[bold]Examples[/bold]

sam-composer self-label PHOTOS --out DATA/own

sam-composer self-label PHOTOS --out DATA/own --checkpoint runs/mine/best.safetensors --agreement 0.9
"""


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("self-label", help=flowing(HELP), epilog=flowing(EPILOG), no_args_is_help=True)(self_label)


def self_label(
    photos: Annotated[list[Path], typer.Argument(metavar="IMAGE|DIR...", help="Unlabelled photos.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the training set.")],
    preset: model_options.PresetName = "tiny",
    checkpoint: model_options.Checkpoint = None,
    device: model_options.Device = "auto",
    precision: model_options.Precision = "auto",
    points_per_side: Annotated[
        int, typer.Option(min=1, max=256, help="Grid of clicks, as for --everything.")
    ] = 32,
    pred_iou: Annotated[
        float | None, typer.Option(help="Least predicted IoU. (default: the preset's own)")
    ] = None,
    stability: Annotated[
        float | None, typer.Option(min=0, max=1, help="Least stability. (default: the preset's own)")
    ] = None,
    agreement: Annotated[
        float, typer.Option(min=0, max=1, help="Least IoU with the mirrored photo's mask; 0: do not look.")
    ] = 0.8,
    min_masks: Annotated[int, typer.Option(min=1, help="Photos with fewer masks are left out.")] = 2,
    max_masks: Annotated[int, typer.Option(min=1, max=500, help="Most masks of a photo.")] = 100,
) -> None:
    """The command; see ``HELP``."""
    from apps.segment_job import find_photos
    from composer.composer import Composer
    from composer.limits import shipped_limits
    from composer.self_labels import Trust, label_photos

    files = find_photos(photos, out)
    composer = Composer.load(
        preset, checkpoint=checkpoint, device=device, precision=precision, limits=shipped_limits()
    )
    trust = Trust(points_per_side, pred_iou, stability, agreement, min_masks=min_masks, max_masks=max_masks)
    with counting(len(files), "photos") as (start, note):

        def on_photo(path: Path, told: str) -> None:
            start(path.name)
            note(one_line(f"{path}: {told}"))

        found = label_photos(composer, files, out, trust, on_photo)
    say(
        f"{found.photos} photos labelled in {out} ({found.masks} masks now); "
        f"{found.unlabelled} without enough sure masks, {found.broken} unreadable"
    )
