"""``eval regions``: the BSDS500 region benchmark, of contour maps that any program wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from apps.console import counting
from apps.evaluating.edges import drawn_name, photo_size
from apps.evaluating.options import Bsds, Json, LimitImages, Split, about_run, check_outputs, named

HELP = """Regions against those people drew: covering, probabilistic Rand index, variation of information.

Regions come from ultrametric contour maps, one segmentation for each threshold. ODS is a measure at the best
threshold for the whole set, OIS at the best for each photo; "best" lets each drawn region choose its own.
"""
EPILOG = """
[bold]Data[/bold]

--bsds ROOT: BSDS500 as it is distributed (data/images/SPLIT, data/groundTruth/SPLIT), or a folder with
images/ and groundTruth/.

--predictions DIR: NAME.mat with ucm2 (2 H + 1 rows, 2 W + 1 columns, values in 0 to 1) for each photo.

[bold]Example[/bold]

sam-composer eval regions --bsds BSDS500 --predictions ucm2 --json regions.json
"""


def regions(
    bsds: Bsds,
    predictions: Annotated[
        Path, typer.Option("--predictions", metavar="DIR", help="Contour maps, named as the photos.")
    ],
    split: Split = None,
    thresholds: Annotated[
        int, typer.Option(min=1, max=999, metavar="N", help="How many, evenly spaced.")
    ] = 99,
    limit_images: LimitImages = None,
    json: Json = None,
) -> None:
    """Evaluate regions; the texts of the options say what each is."""
    from rich.console import Console

    from composer.evaluation.boundaries.truth import open_bsds
    from composer.evaluation.region_report import region_table
    from composer.evaluation.regions import contour_maps_in, evaluate_regions
    from composer.formats.atomic import write_json
    from sam.errors import UsageError

    truth = open_bsds(bsds, split).limited(limit_images)
    check_outputs(json, None)
    if not predictions.is_dir():
        raise UsageError(f"{predictions}: no such folder", field="predictions")
    segment = contour_maps_in(predictions, truth, thresholds, photo_size)
    with counting(len(truth), "photos") as (start, _):
        found = evaluate_regions(truth, segment, start)
    title = named(f"regions: {predictions.resolve().name}", drawn_name(truth))
    Console().print(region_table(found, title))
    if json is not None:
        about = {"predictions": str(predictions), "split": truth.split, "thresholds": thresholds}
        write_json(json, found.to_json() | about | about_run(truth.source))
