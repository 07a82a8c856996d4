"""``sam-composer eval``: how good a model is on labelled photos, and how good edges and masks are."""

from __future__ import annotations

import typer

from apps.console import flowing
from apps.evaluating import edges, instances, prompts, proposals, regions, text, whole

HELP = "Measure a model, or results of any program, on labelled photos."
EPILOG = """
[bold]Data[/bold]

--panoptic DIR: images/, panoptic/ and panoptic.json, as COCO has them.

--coco IMAGES ANN: a folder of photos and a COCO instance file.

--masks DIR: images/NAME.jpg with masks/NAME.png (a map: 0 is unlabelled, every other value a segment) or with
a folder masks/NAME/ of PNG files, one for each segment.

[bold]Example[/bold]

sam-composer eval {command} --panoptic DATA --limit-images 20 --json {command}.json --plot {command}.png
"""
EDGES_EPILOG = """
[bold]Data[/bold]

--bsds ROOT: BSDS500 as it is distributed (data/images/SPLIT, data/groundTruth/SPLIT), or a folder with
images/ and groundTruth/.

--predictions DIR: NAME.png (grey, 8 or 16 bits), NAME.npy (numbers in 0 to 1) or NAME.mat (ucm2) for each
photo.

[bold]Example[/bold]

sam-composer eval edges --bsds BSDS500 --json edges.json --plot edges.png
"""
ALL_EPILOG = """
[bold]Example[/bold]

sam-composer eval all --data DATA --limit-images 20 --out report
"""
INSTANCES_EPILOG = """
[bold]Examples[/bold]

Results of any program, masks or boxes:

  sam-composer eval instances --coco val2017 instances_val2017.json --results results.json

Boxes of a detector, which the model turns into masks (the paper's zero-shot instance segmentation):

  sam-composer eval instances --coco val2017 instances_val2017.json --boxes detections.json --preset vit_b

The preset's own detector, which finds things and does not name them:

  sam-composer eval instances --panoptic DATA --limit-images 20 --detect --class-agnostic
"""
TEXT_EPILOG = """
[bold]Examples[/bold]

sam-composer eval text --panoptic DATA --limit-images 20 --baselines --json text.json --plot text.png

sam-composer eval text --coco val2017 instances_val2017.json --clip ViT-B-32 --pretrained openai --route rank
"""


def register(app: typer.Typer) -> None:
    """Add ``eval`` and its subcommands to the program."""
    group = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode="rich")
    for name, about, epilog, function in (
        ("points", prompts.POINTS_HELP, EPILOG, prompts.points),
        ("boxes", prompts.BOXES_HELP, EPILOG, prompts.boxes),
        ("thresholds", prompts.THRESHOLDS_HELP, EPILOG, prompts.thresholds),
        ("edges", edges.HELP, EDGES_EPILOG, edges.edges),
        ("regions", regions.HELP, regions.EPILOG, regions.regions),
        ("proposals", proposals.HELP, EPILOG, proposals.proposals),
        ("all", whole.HELP, ALL_EPILOG, whole.every),
        ("text", text.HELP, TEXT_EPILOG, text.text),
        ("instances", instances.HELP, INSTANCES_EPILOG, instances.instances),
    ):
        group.command(
            name, help=flowing(about), epilog=flowing(epilog.replace("{command}", name)), no_args_is_help=True
        )(function)
    app.add_typer(group, name="eval")
