"""``eval regions``: the region measures of BSDS500."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from apps.console import counting
from apps.evaluating.options import Bsds as Root
from apps.evaluating.options import BsdsSplit as Split
from apps.evaluating.options import Json, LimitImages, about_run, check_outputs, named

HELP = """Segmentations against those that people drew: covering, Rand index, variation of information.

Of ultrametric contour maps, at the best threshold for the set and at the best for each photo, or of one
segmentation a photo. Covering and the probabilistic Rand index are best at 1, variation of information at 0.
"""


def regions(
    bsds: Root,
    predictions: Annotated[
        Path,
        typer.Option("--predictions", metavar="DIR", help="Contour or label maps, named as the photos."),
    ],
    split: Split = None,
    thresholds: Annotated[
        int, typer.Option(min=1, max=999, metavar="N", help="Of contour maps: how many, evenly spaced.")
    ] = 99,
    limit_images: LimitImages = None,
    json: Json = None,
) -> None:
    """Evaluate regions; the texts of the options say what each is."""
    from rich.console import Console

    from composer.evaluation.boundaries.maps import find_maps
    from composer.evaluation.boundaries.truth import open_bsds
    from composer.evaluation.regions import evaluate_regions, read_scales, region_table
    from composer.formats.atomic import write_json
    from composer.images import open_image
    from sam.errors import UsageError

    truth = open_bsds(bsds, split).limited(limit_images)
    check_outputs(json, None)
    if not predictions.is_dir():
        raise UsageError(f"{predictions}: no such folder", field="predictions")
    paths = find_maps(predictions, (image.path.stem for image in truth))
    with counting(len(truth), "photos") as (start, _):
        found = evaluate_regions(
            truth,
            lambda image: read_scales(paths[image.path.stem], thresholds, open_image(image.path).size),
            start,
        )
    title = named(f"regions: {predictions.resolve().name}", truth.title)
    Console().print(region_table(found, title))
    if json is not None:
        about = {"predictions": str(predictions), "split": truth.split} | about_run(truth.source)
        write_json(json, found.to_json() | about)
