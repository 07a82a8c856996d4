"""``eval all``: every measure on every set of a folder, in one report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apps.console import counting, one_line, say, warn
from apps.evaluating.options import (
    Checkpoint,
    Device,
    LimitImages,
    MaxMasks,
    MinArea,
    Precision,
    PresetName,
    about_model,
    about_run,
    load_composer,
    named,
)

if TYPE_CHECKING:
    from composer.composer import Composer
    from composer.evaluation.scoring import MaskFilter
    from composer.evaluation.whole_report import FoundSet, Section

HELP = """Every measure on every labelled set of a folder: a report in Markdown and JSON, with plots.

Points, boxes and proposals on COCO-panoptic folders and on folders with instances.json and images/, edges on
BSDS500. What is done is kept: the report is written again after each measure, and where one fails the others
are still done (exit code 4).
"""
SOME_FAILED = 4
"""Exit code where some measures failed and the others are done."""


def every(
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="A folder of labelled sets.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the report.")],
    limit_images: LimitImages = None,
    max_masks_per_image: MaxMasks = None,
    min_area: MinArea = 0,
    preset: PresetName = "tiny",
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Evaluate everything; the texts of the options say what each is."""
    from composer.evaluation.scoring import MaskFilter
    from composer.evaluation.whole_report import MEASURES, find_sets, write_report
    from composer.formats.atomic import ensure_folder

    sets = find_sets(data)
    ensure_folder(out)
    composer = load_composer(preset, checkpoint, device, precision)
    which = MaskFilter(min_area, max_masks_per_image)
    about = about_model(composer) | about_run(str(data))
    about |= {"limit_images": limit_images, "min_area": min_area, "max_masks_per_image": max_masks_per_image}
    sections: list[Section] = []
    for found in sets:
        for measure in MEASURES[found.kind]:
            sections.append(_measured(composer, found, measure, which, limit_images, out))
            written = write_report(out, sections, about)
    failed = sum(section.error is not None for section in sections)
    said = f", {failed} failed" if failed else ""
    say(f"{len(sections)} measures on {len(sets)} sets{said}; {', '.join(map(str, written))}")
    if failed:
        raise typer.Exit(SOME_FAILED)


def _measured(
    composer: Composer, found: FoundSet, measure: str, which: MaskFilter, limit: int | None, out: Path
) -> Section:
    """A section of the report: its figures, or why there are none. What concerns the machine is raised."""
    from composer.evaluation.whole_report import Section
    from sam.errors import CheckpointError, EnvironmentProblem, SamComposerError

    plot = f"{found.name.replace('/', '-')}-{measure}.png"
    title = named(f"{measure}: {composer.preset.name}", found.name)
    run = _edges if measure == "edges" else _masks
    try:
        figures = run(composer, found, measure, which, limit, out / plot, title)
    except (EnvironmentProblem, CheckpointError):
        raise
    except SamComposerError as error:
        warn(f"error: {found.name}, {measure}: {error}")
        return Section(found, measure, {}, None, one_line(str(error)))
    return Section(found, measure, figures, plot)


def _edges(
    composer: Composer,
    found: FoundSet,
    measure: str,
    which: MaskFilter,
    limit: int | None,
    plot: Path,
    title: str,
) -> dict[str, Any]:
    from apps.evaluating.edges import of_model
    from composer.evaluation.boundaries.evaluate import evaluate_boundaries
    from composer.evaluation.boundaries.report import save_curve
    from composer.evaluation.boundaries.truth import open_bsds

    truth = open_bsds(found.folder).limited(limit)
    predict, request = of_model(composer)
    with counting(len(truth), "photos") as (start, _):
        evaluation = evaluate_boundaries(truth, predict, on_image=start)
    save_curve(plot, evaluation, title)
    return evaluation.to_json() | {"request": request}


def _masks(
    composer: Composer,
    found: FoundSet,
    measure: str,
    which: MaskFilter,
    limit: int | None,
    plot: Path,
    title: str,
) -> dict[str, Any]:
    from composer.evaluation.ground_truth import open_coco, open_panoptic
    from composer.evaluation.proposal_report import save_recall_plot
    from composer.evaluation.proposals import evaluate_proposals
    from composer.evaluation.report import save_plot
    from composer.evaluation.scoring import evaluate_boxes, evaluate_points

    if found.kind == "panoptic":
        truth = open_panoptic(found.folder).limited(limit)
    else:
        truth = open_coco(found.folder / "images", found.folder / "instances.json").limited(limit)
    with counting(len(truth), "photos") as (start, _):
        if measure == "proposals":
            recall = evaluate_proposals(composer.open, truth, on_image=start)
            save_recall_plot(plot, recall, title)
            return recall.to_json()
        if measure == "points":
            evaluation = evaluate_points(composer.open, truth, which=which, on_image=start)
        else:
            evaluation = evaluate_boxes(composer.open, truth, which, on_image=start)
    save_plot(plot, evaluation, title)
    return evaluation.to_json()
