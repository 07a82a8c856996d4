"""``eval proposals``: what share of the segments the best proposals find."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from apps.console import counting
from apps.evaluating.options import (
    Checkpoint,
    Coco,
    Device,
    Json,
    LimitImages,
    Masks,
    Panoptic,
    Plot,
    Precision,
    PresetName,
    about_model,
    about_run,
    check_outputs,
    ground_truth,
    load_composer,
    named,
)

HELP = """Average recall of object proposals: what share of segments the best 10, 100, 1000 find.

Class-agnostic, one-to-one, over IoU thresholds from .5 to .95, as pycocotools counts it (the paper's appendix
D.3). With an LVIS file also by how frequent a category is.
"""


def proposals(
    panoptic: Panoptic = None,
    coco: Coco = None,
    masks: Masks = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=10_000, metavar="N", help="Proposals for each photo.")
    ] = 1000,
    points_per_side: Annotated[
        int, typer.Option(min=1, max=256, metavar="N", help="Clicks a side of the grid.")
    ] = 64,
    limit_images: LimitImages = None,
    preset: PresetName = "tiny",
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    precision: Precision = "auto",
    json: Json = None,
    plot: Plot = None,
) -> None:
    """Evaluate proposals; the texts of the options say what each is."""
    from rich.console import Console

    from adapters.proposals import Proposals
    from composer.evaluation.proposal_report import proposal_table, save_recall_plot
    from composer.evaluation.proposals import evaluate_proposals
    from composer.formats.atomic import write_json
    from composer.requests import request_record

    truth = ground_truth(panoptic, coco, masks, limit_images)
    check_outputs(json, plot)
    composer = load_composer(preset, checkpoint, device, precision)
    request = Proposals(limit=limit, points_per_side=points_per_side)
    with counting(len(truth), "photos") as (start, _):
        found = evaluate_proposals(composer.open, truth, request, start)
    title = named(f"proposals: {composer.preset.name}", Path(truth.source).resolve().name)
    Console().print(proposal_table(found, title))
    if json is not None:
        about = about_model(composer) | {"request": request_record(request)} | about_run(truth.source)
        write_json(json, found.to_json() | about)
    if plot is not None:
        save_recall_plot(plot, found, title)
