"""``eval points``, ``eval boxes``, ``eval thresholds``: prompts simulated on labelled segments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apps.console import counting
from apps.evaluating.options import (
    Checkpoint,
    Clicker,
    Coco,
    Device,
    GroupBy,
    Json,
    LimitImages,
    Masks,
    MaxMasks,
    Metadata,
    MinArea,
    Panoptic,
    Plot,
    Precision,
    PresetName,
    about_filter,
    about_model,
    about_run,
    check_outputs,
    ground_truth,
    load_composer,
    refuse_given,
    title_of,
)

if TYPE_CHECKING:
    from composer.composer import Composer
    from composer.evaluation.ground_truth import GroundTruth
    from composer.evaluation.groups import Groups
    from composer.evaluation.scoring import Evaluation, MaskFilter

POINTS_HELP = """Mean IoU after 1, 2, 3, 5 and 9 simulated clicks (the paper's appendix D.1).

The first click is the point of a segment farthest from its boundary, each next one that of the larger
error. The table shows the mask that the model ranks first, which is what a user gets, and the oracle: a user
who picks the best of the three masks of the first click and goes on correcting that one.
"""
BOXES_HELP = """Mean IoU of the answer to each segment's own box, beside that of the box itself, filled."""
THRESHOLDS_HELP = """Precision and recall of `everything` over its two thresholds, to choose a preset's own.

Every photo is segmented with no threshold; each pair is then applied. A mask counts as right where it
overlaps a labelled segment at IoU 0.5 or more. Labels are rarely complete, so real precision is higher.
"""


def points(
    context: typer.Context,
    panoptic: Panoptic = None,
    coco: Coco = None,
    masks: Masks = None,
    clicks: Annotated[
        str, typer.Option("--clicks", metavar="N,N,...", help="Report after these numbers of clicks.")
    ] = "1,2,3,5,9",
    clicker: Annotated[
        Clicker,
        typer.Option(help="deepest: farthest from the boundary; random: anywhere on it, or in the error."),
    ] = Clicker.deepest,
    seed: Annotated[int, typer.Option(min=0, help="Of random clicks.")] = 0,
    limit_images: LimitImages = None,
    max_masks_per_image: MaxMasks = None,
    min_area: MinArea = 0,
    metadata: Metadata = None,
    group_by: GroupBy = None,
    preset: PresetName = "tiny",
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    precision: Precision = "auto",
    json: Json = None,
    plot: Plot = None,
) -> None:
    """Evaluate clicks; the texts of the options say what each is."""
    from composer.evaluation.clicks import DeepestClicks, RandomClicks
    from composer.evaluation.scoring import MaskFilter, evaluate_points

    if clicker is not Clicker.random:
        refuse_given(context, ["seed"], f"--clicker {clicker.value}")
    counts = _counts(clicks)
    groups = _groups(metadata, group_by)
    who = RandomClicks(seed) if clicker is Clicker.random else DeepestClicks()
    truth = ground_truth(panoptic, coco, masks, limit_images)
    if groups:
        groups.check(truth)
    which = MaskFilter(min_area, max_masks_per_image)
    check_outputs(json, plot)
    composer = load_composer(preset, checkpoint, device, precision)
    found = _with_progress(
        truth,
        lambda start: evaluate_points(composer.open, truth, counts, which, on_image=start, clicker=who),
    )
    about = _about(composer, truth, which) | {"clicker": clicker.value}
    if clicker is Clicker.random:
        about["seed"] = seed
    _report(found, title_of(found.prompt, composer, truth), about, groups, json, plot)


def boxes(
    panoptic: Panoptic = None,
    coco: Coco = None,
    masks: Masks = None,
    limit_images: LimitImages = None,
    max_masks_per_image: MaxMasks = None,
    min_area: MinArea = 0,
    metadata: Metadata = None,
    group_by: GroupBy = None,
    margin: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SHARE",
            help="How far a mask may leave its box, of its sides; 10 for no limit. (default: the preset's)",
        ),
    ] = None,
    zoom: Annotated[
        float,
        typer.Option(
            metavar="K", help="Look at small boxes in windows K times as wide, encoded apart; 0: do not."
        ),
    ] = 0,
    preset: PresetName = "tiny",
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    precision: Precision = "auto",
    json: Json = None,
    plot: Plot = None,
) -> None:
    """Evaluate boxes; the texts of the options say what each is."""
    import math

    from adapters.boxes import BoxesAdapter
    from adapters.windows import check_zoom
    from composer.evaluation.scoring import MaskFilter, evaluate_boxes

    check_zoom(zoom)
    groups = _groups(metadata, group_by)
    truth = ground_truth(panoptic, coco, masks, limit_images)
    if groups:
        groups.check(truth)
    which = MaskFilter(min_area, max_masks_per_image)
    check_outputs(json, plot)
    composer = load_composer(preset, checkpoint, device, precision)
    share = composer.preset.defaults.box_margin if margin is None else margin
    found = _with_progress(
        truth,
        lambda start: evaluate_boxes(
            composer.open,
            truth,
            which,
            on_image=start,
            answer=lambda scene, request: BoxesAdapter()(scene, replace(request, margin=margin, zoom=zoom)),
        ),
    )
    title = title_of(found.prompt, composer, truth)
    limit = share if math.isfinite(share) else None
    about = _about(composer, truth, which) | {"box_margin": limit, "box_zoom": zoom}
    _report(found, title, about, groups, json, plot)


def thresholds(
    panoptic: Panoptic = None,
    coco: Coco = None,
    masks: Masks = None,
    points_per_side: Annotated[
        int, typer.Option("--points-per-side", min=1, max=256, metavar="N", help="Clicks a side of the grid.")
    ] = 32,
    limit_images: LimitImages = None,
    max_masks_per_image: MaxMasks = None,
    min_area: MinArea = 0,
    preset: PresetName = "tiny",
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    precision: Precision = "auto",
    json: Json = None,
    plot: Plot = None,
) -> None:
    """Evaluate pairs of thresholds; the texts of the options say what each is."""
    from rich.console import Console

    from composer.evaluation.report import save_json, save_plot, threshold_table
    from composer.evaluation.scoring import MaskFilter
    from composer.evaluation.thresholds import evaluate_thresholds

    truth = ground_truth(panoptic, coco, masks, limit_images)
    which = MaskFilter(min_area, max_masks_per_image)
    check_outputs(json, plot)
    composer = load_composer(preset, checkpoint, device, precision)
    with counting(len(truth), "photos") as (start, _):
        found = evaluate_thresholds(composer.open, truth, which, points_per_side, on_image=start)
    title = title_of("everything", composer, truth)
    Console().print(threshold_table(found, title))
    if json is not None:
        about = {**_about(composer, truth, which), "points_per_side": points_per_side}
        save_json(json, found, about)
    if plot is not None:
        save_plot(plot, found, title)


def _counts(text: str) -> list[int]:
    from sam.errors import UsageError

    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(
            f"--clicks {text!r}: expected whole numbers such as 1,3,9", field="clicks"
        ) from error


def _with_progress(truth: GroundTruth, evaluate: Callable[[Callable[[str], None]], Evaluation]) -> Evaluation:
    with counting(len(truth), "photos") as (start, _):
        return evaluate(start)


def _groups(metadata: Path | None, group_by: str | None) -> Groups | None:
    from composer.evaluation.groups import Groups
    from sam.errors import UsageError

    if metadata is None or group_by is None:
        if metadata is not None or group_by is not None:
            raise UsageError("--group-by COLUMN and --metadata FILE belong together", field="group_by")
        return None
    return Groups.read(metadata, group_by)


def _report(
    found: Evaluation,
    title: str,
    about: dict[str, Any],
    groups: Groups | None,
    json: Path | None,
    plot: Path | None,
) -> None:
    from rich.console import Console

    from composer.evaluation.groups import group_scores
    from composer.evaluation.report import group_table, groups_json, save_json, save_plot, table
    from sam.errors import BadAnnotation

    Console().print(table(found, title))
    scores, problem = [], None
    try:
        scores = group_scores(found, groups) if groups else []
    except BadAnnotation as error:  # --min-area may leave none; what was measured is written all the same
        problem = error
    if scores and groups:
        Console().print(group_table(scores, f"by {groups.column}"))
        about |= {"group_by": groups.column, "groups": groups_json(scores)}
    if json is not None:
        save_json(json, found, about)
    if plot is not None:
        save_plot(plot, found, title)
    if problem is not None:
        raise problem


def _about(composer: Composer, truth: GroundTruth, which: MaskFilter) -> dict[str, Any]:
    return about_model(composer) | about_filter(which) | about_run(truth.source)
