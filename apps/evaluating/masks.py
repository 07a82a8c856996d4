"""``eval proposals`` and ``eval instances``: masks of objects against COCO-style annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from apps.console import counting
from apps.evaluating.options import (
    MODEL,
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
    refuse_given,
)

PROPOSALS_HELP = """Average recall of object proposals: what share of segments the best 10, 100, 1000 find.

Class-agnostic, one-to-one, over IoU thresholds from .5 to .95, as pycocotools counts it (the paper's appendix
D.3). With an LVIS file also by how frequent a category is.
"""
INSTANCES_HELP = """Average precision of instances with a class and a score: COCO's mask and box AP.

Of a results file in COCO's format, or of masks that the model gives for a detector's boxes (the paper's
appendix D.4): boxes from a file, or from a detector that is run here.
"""
OF_THE_DETECTOR = ("trust_detector", "conf")
OF_THE_MODEL = ("refine", "preset", "checkpoint", "device", "precision")
COCO_DETECTIONS = 100
"""As many of a photo's results as COCO's average precision looks at."""


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


def instances(
    context: typer.Context,
    coco: Annotated[
        tuple[Path, Path],
        typer.Option("--coco", metavar="IMAGES ANN", help="A photo folder and a COCO instance file."),
    ],
    results: Annotated[
        Path | None,
        typer.Option("--results", metavar="FILE", help="COCO results to evaluate: masks, boxes or both."),
    ] = None,
    boxes: Annotated[
        Path | None,
        typer.Option("--boxes", metavar="FILE", help="COCO box results, to be turned into masks."),
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(
            "--detector",
            metavar="FILE|NAME",
            help="A detector to run, as for `segment`.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    trust_detector: Annotated[
        bool,
        typer.Option(
            "--trust-detector", help="Read a .pt file, which runs code in it.", rich_help_panel=MODEL
        ),
    ] = False,
    conf: Annotated[
        float, typer.Option(help="Least score of the detector's boxes.", rich_help_panel=MODEL)
    ] = 0.001,
    refine: Annotated[
        int, typer.Option(min=0, max=10, metavar="N", help="Rounds of refinement.", rich_help_panel=MODEL)
    ] = 1,
    limit_images: LimitImages = None,
    preset: PresetName = "tiny",
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    precision: Precision = "auto",
    json: Json = None,
) -> None:
    """Evaluate instances; the texts of the options say what each is."""
    from rich.console import Console

    from adapters.detect import Detect
    from composer.evaluation.detected_masks import masks_of_boxes, masks_of_detector
    from composer.evaluation.instance_truth import InstanceTruth
    from composer.evaluation.instances import evaluate_instances, instance_table
    from composer.formats.atomic import write_json
    from composer.requests import request_record
    from sam.errors import UsageError

    if [results, boxes, detector].count(None) != 2:
        raise UsageError("give one of --results FILE, --boxes FILE and --detector FILE", field="results")
    if results is not None:
        refuse_given(context, (*OF_THE_DETECTOR, *OF_THE_MODEL), "--results")
    elif boxes is not None:
        refuse_given(context, OF_THE_DETECTOR, "--boxes")
    truth = InstanceTruth.open(*coco).limited(limit_images)
    check_outputs(json, None)
    if results is not None:
        found = evaluate_instances(truth, truth.read_results(results))
        who, about = results.name, {"results_file": str(results)}
    elif detector is not None:
        request = Detect(
            detector=detector, trust=trust_detector, conf=conf, refine=refine, limit=COCO_DETECTIONS
        )
        composer = load_composer(preset, checkpoint, device, precision)
        with counting(len(truth.image_ids), "photos") as (start, _):
            found = evaluate_instances(truth, masks_of_detector(composer.open, truth, request, start))
        who, about = (
            f"{detector} and {composer.preset.name}",
            about_model(composer) | {"request": request_record(request)},
        )
    else:
        assert boxes is not None
        detections = truth.read_results(boxes, boxes_only=True)
        composer = load_composer(preset, checkpoint, device, precision)
        with counting(len(truth.photos_of(detections)), "photos") as (start, _):
            found = evaluate_instances(truth, masks_of_boxes(composer.open, truth, detections, refine, start))
        who, about = (
            composer.preset.name,
            about_model(composer) | {"boxes_file": str(boxes), "refine": refine},
        )
    Console().print(instance_table(found, named(f"instances: {who}", coco[1].name)))
    if json is not None:
        write_json(json, found.to_json() | about | about_run(str(coco[1])))
