"""``sam-composer eval points|boxes|thresholds``: how well a model finds labelled segments."""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apps.console import counting, flowing, one_line

if TYPE_CHECKING:
    from composer.composer import Composer
    from composer.evaluation.ground_truth import GroundTruth
    from composer.evaluation.scoring import Evaluation, MaskFilter

HELP = "Measure a model on labelled photos (COCO panoptic, COCO instances, or plain mask files)."
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
EPILOG = """
[bold]Data[/bold]

--panoptic DIR: images/, panoptic/ and panoptic.json, as COCO has them.

--coco IMAGES ANN: a folder of photos and a COCO instance file.

--masks DIR: images/NAME.jpg with masks/NAME.png (a map: 0 is unlabelled, every other value a segment) or with
a folder masks/NAME/ of PNG files, one for each segment.

[bold]Example[/bold]

sam-composer eval {command} --panoptic DATA --limit-images 20 --json {command}.json --plot {command}.png
"""
DATA, MODEL, RESULTS = "Labelled photos (one of)", "Model", "Results"

Panoptic = Annotated[
    Path | None,
    typer.Option("--panoptic", metavar="DIR", help="A COCO-panoptic folder.", rich_help_panel=DATA),
]
Coco = Annotated[
    tuple[Path, Path] | None,
    typer.Option(
        "--coco", metavar="IMAGES ANN", help="A photo folder and a COCO instance file.", rich_help_panel=DATA
    ),
]
Masks = Annotated[
    Path | None,
    typer.Option("--masks", metavar="DIR", help="A folder with images/ and masks/.", rich_help_panel=DATA),
]
LimitImages = Annotated[
    int | None,
    typer.Option("--limit-images", min=1, metavar="N", help="Only the first N photos, by image id or name."),
]
MaxMasks = Annotated[
    int | None,
    typer.Option("--max-masks-per-image", min=1, metavar="N", help="Only a photo's N largest segments."),
]
MinArea = Annotated[
    int, typer.Option("--min-area", min=0, metavar="PIXELS", help="Leave smaller segments out.")
]
PresetName = Annotated[
    str, typer.Option("--preset", help="A preset's name, or a YAML file.", rich_help_panel=MODEL)
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint", metavar="FILE", help="Other weights for the preset's model.", rich_help_panel=MODEL
    ),
]
Device = Annotated[
    str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel=MODEL)
]
Precision = Annotated[
    str, typer.Option("--precision", help="auto, fp32, bf16 or fp16.", rich_help_panel=MODEL)
]
Json = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Write all figures as JSON.", rich_help_panel=RESULTS),
]
Plot = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE", help="Draw them: .png, .svg or .pdf.", rich_help_panel=RESULTS),
]


def register(app: typer.Typer) -> None:
    """Add ``eval`` and its subcommands to the program."""
    group = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode="rich")
    for name, text, function in (
        ("points", POINTS_HELP, points),
        ("boxes", BOXES_HELP, boxes),
        ("thresholds", THRESHOLDS_HELP, thresholds),
    ):
        epilog = flowing(EPILOG.format(command=name))
        group.command(name, help=flowing(text), epilog=epilog, no_args_is_help=True)(function)
    app.add_typer(group, name="eval")


def points(
    panoptic: Panoptic = None,
    coco: Coco = None,
    masks: Masks = None,
    clicks: Annotated[
        str, typer.Option("--clicks", metavar="N,N,...", help="Report after these numbers of clicks.")
    ] = "1,2,3,5,9",
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
    """Evaluate clicks; the texts of the options say what each is."""
    from composer.evaluation.scoring import MaskFilter, evaluate_points

    counts = _counts(clicks)
    truth = _ground_truth(panoptic, coco, masks, limit_images)
    which = MaskFilter(min_area, max_masks_per_image)
    _check_outputs(json, plot)
    composer = _composer(preset, checkpoint, device, precision)
    found = _with_progress(
        truth, lambda start: evaluate_points(composer.open, truth, counts, which, on_image=start)
    )
    _report(found, composer, truth, which, json, plot)


def boxes(
    panoptic: Panoptic = None,
    coco: Coco = None,
    masks: Masks = None,
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
    """Evaluate boxes; the texts of the options say what each is."""
    from composer.evaluation.scoring import MaskFilter, evaluate_boxes

    truth = _ground_truth(panoptic, coco, masks, limit_images)
    which = MaskFilter(min_area, max_masks_per_image)
    _check_outputs(json, plot)
    composer = _composer(preset, checkpoint, device, precision)
    found = _with_progress(truth, lambda start: evaluate_boxes(composer.open, truth, which, on_image=start))
    _report(found, composer, truth, which, json, plot)


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

    truth = _ground_truth(panoptic, coco, masks, limit_images)
    which = MaskFilter(min_area, max_masks_per_image)
    _check_outputs(json, plot)
    composer = _composer(preset, checkpoint, device, precision)
    with counting(len(truth), "photos") as (start, _):
        found = evaluate_thresholds(composer.open, truth, which, points_per_side, on_image=start)
    title = _title("everything", composer, truth)
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


def _ground_truth(
    panoptic: Path | None, coco: tuple[Path, Path] | None, masks: Path | None, limit: int | None
) -> GroundTruth:
    from composer.evaluation.ground_truth import open_coco, open_mask_folder, open_panoptic
    from sam.errors import UsageError

    if sum(option is not None for option in (panoptic, coco, masks)) != 1:
        raise UsageError("give one of --panoptic DIR, --coco IMAGES ANN and --masks DIR", field="data")
    if panoptic is not None:
        truth = open_panoptic(panoptic)
    elif coco is not None:
        truth = open_coco(*coco)
    else:
        assert masks is not None
        truth = open_mask_folder(masks)
    return truth.limited(limit)


def _check_outputs(json: Path | None, plot: Path | None) -> None:
    """What would fail at the end fails now."""
    from composer.evaluation.report import PLOT_FORMATS
    from composer.formats.atomic import ensure_folder, writing
    from sam.errors import UsageError

    if plot is not None and plot.suffix.lower() not in PLOT_FORMATS:
        raise UsageError(
            f"--plot {plot}: expected a name that ends in {', '.join(PLOT_FORMATS)}", field="plot"
        )
    for path in (json, plot):
        if path is not None:
            with writing(path):
                if path.is_dir():
                    raise UsageError(f"{path}: is a folder, expected a file to write")
                ensure_folder(path.parent)
                with tempfile.TemporaryFile(dir=path.parent):  # may be full, or not ours
                    pass


def _composer(preset: str, checkpoint: Path | None, device: str, precision: str) -> Composer:
    from composer.composer import Composer

    return Composer.load(preset, checkpoint=checkpoint, device=device, precision=precision)


def _with_progress(truth: GroundTruth, evaluate: Callable[[Callable[[str], None]], Evaluation]) -> Evaluation:
    with counting(len(truth), "photos") as (start, _):
        return evaluate(start)


def _report(
    found: Evaluation,
    composer: Composer,
    truth: GroundTruth,
    which: MaskFilter,
    json: Path | None,
    plot: Path | None,
) -> None:
    from rich.console import Console

    from composer.evaluation.report import save_json, save_plot, table

    title = _title(found.prompt, composer, truth)
    Console().print(table(found, title))
    if json is not None:
        save_json(json, found, _about(composer, truth, which))
    if plot is not None:
        save_plot(plot, found, title)


def _title(prompt: str, composer: Composer, truth: GroundTruth) -> str:
    # Resolved, since "." has no name.
    return one_line(f"{prompt}: {composer.preset.name} on {Path(truth.source).resolve().name}")


def _about(composer: Composer, truth: GroundTruth, which: MaskFilter) -> dict[str, Any]:
    """What a report's figures are about, so that they can be had again."""
    return {
        "preset": composer.preset.name,
        "weights_sha256": composer.model.digest or None,
        "model": composer.describe(),
        "data": truth.source,
        "min_area": which.min_area,
        "max_masks_per_image": which.max_per_image,
        "command": shlex.join(["sam-composer", *sys.argv[1:]]),
    }
