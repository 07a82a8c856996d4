"""``eval instances``: masks with a class and a score against COCO-style annotations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apps.console import counting
from apps.evaluating.options import (
    MODEL,
    Checkpoint,
    Coco,
    Device,
    Json,
    LimitImages,
    Panoptic,
    Precision,
    PresetName,
    about_model,
    about_run,
    check_outputs,
    load_composer,
    named,
    refuse_given,
)

if TYPE_CHECKING:
    from composer.evaluation.instance_truth import InstanceTruth

HELP = """Average precision of instances with a class and a score: COCO's mask and box AP.

Of a results file in COCO's format, or of masks that the model gives for a detector's boxes (the paper's
appendix D.4): boxes from a file, or from a detector that is run here. Of a panoptic set, its things.
"""
OF_THE_DETECTOR = ("trust_detector", "conf")
OF_THE_MODEL = ("refine", "preset", "checkpoint", "device", "precision")
COCO_DETECTIONS = 100
"""As many of a photo's results as COCO's average precision looks at."""


def instances(
    context: typer.Context,
    panoptic: Panoptic = None,
    coco: Coco = None,
    results: Annotated[
        Path | None,
        typer.Option("--results", metavar="FILE", help="COCO results to evaluate: masks, boxes or both."),
    ] = None,
    boxes: Annotated[
        Path | None,
        typer.Option("--boxes", metavar="FILE", help="COCO box results, to be turned into masks."),
    ] = None,
    detect: Annotated[
        bool, typer.Option("--detect", help="Run a detector, the preset's own unless one is named.")
    ] = False,
    detector: Annotated[
        str | None,
        typer.Option(
            "--detector",
            metavar="FILE|NAME",
            help="The detector to run, as for `segment`.",
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
    class_agnostic: Annotated[
        bool,
        typer.Option("--class-agnostic", help="Whatever the classes: of detectors that know one alone."),
    ] = False,
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
    from composer.evaluation.instances import evaluate_instances, instance_table
    from composer.formats.atomic import write_json
    from composer.requests import request_record
    from sam.errors import UsageError

    detect = detect or detector is not None
    if [results is not None, boxes is not None, detect].count(True) != 1:
        raise UsageError(
            "give one of --results FILE, --boxes FILE, --detect and --detector FILE", field="results"
        )
    if results is not None:
        refuse_given(context, (*OF_THE_DETECTOR, *OF_THE_MODEL), "--results")
    elif boxes is not None:
        refuse_given(context, OF_THE_DETECTOR, "--boxes")
    truth = _truth(panoptic, coco, limit_images)
    check_outputs(json, None)
    about: dict[str, Any]
    if results is not None:
        found = truth.read_results(results)
        who, about = results.name, {"results_file": str(results)}
    else:
        composer = load_composer(preset, checkpoint, device, precision)
        who, about = composer.preset.name, about_model(composer)
    if boxes is not None:
        detections = truth.read_results(boxes, boxes_only=True)
        with counting(len(truth.photos_of(detections)), "photos") as (start, _):
            found = masks_of_boxes(composer.open, truth, detections, refine, start)
        about |= {"boxes_file": str(boxes), "refine": refine}
    elif detect:
        request = Detect(
            detector=detector, trust=trust_detector, conf=conf, refine=refine, limit=COCO_DETECTIONS
        )
        with counting(len(truth.image_ids), "photos") as (start, _):
            found = masks_of_detector(composer.open, truth, request, start, class_agnostic=class_agnostic)
        who = f"{detector or 'the detector'} and {who}"
        about |= {"request": request_record(request)}
    evaluation = evaluate_instances(truth, found, class_agnostic=class_agnostic)
    Console().print(instance_table(evaluation, named(f"instances: {who}", truth.path.name)))
    if json is not None:
        write_json(json, evaluation.to_json() | about | about_run(str(truth.path)))


def _truth(panoptic: Path | None, coco: tuple[Path, Path] | None, limit: int | None) -> InstanceTruth:
    """The labelled photos that the options name. Raises UsageError, BadAnnotation."""
    from composer.evaluation.instance_truth import InstanceTruth
    from composer.evaluation.panoptic_instances import things_of_panoptic
    from sam.errors import UsageError

    if (panoptic is None) == (coco is None):
        raise UsageError("give one of --panoptic DIR and --coco IMAGES ANN", field="data")
    if panoptic is not None:
        return things_of_panoptic(panoptic, limit)
    assert coco is not None
    return InstanceTruth.open(*coco).limited(limit)
