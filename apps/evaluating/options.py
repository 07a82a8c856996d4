"""What the subcommands of ``sam-composer eval`` share: options, their checks, what reports say of a model."""

from __future__ import annotations

import enum
import shlex
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apps.console import one_line

if TYPE_CHECKING:
    from composer.composer import Composer
    from composer.evaluation.ground_truth import GroundTruth
    from composer.evaluation.scoring import MaskFilter

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
Bsds = Annotated[Path, typer.Option("--bsds", metavar="ROOT", help="BSDS500, or images/ with groundTruth/.")]
Split = Annotated[str | None, typer.Option("--split", help="train, val or test, of BSDS500. (default: test)")]
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


Metadata = Annotated[
    Path | None,
    typer.Option(
        "--metadata",
        metavar="FILE",
        help="CSV with file_name or annotation_id and further columns.",
        rich_help_panel=RESULTS,
    ),
]
GroupBy = Annotated[
    str | None,
    typer.Option(
        "--group-by",
        metavar="COLUMN",
        help="Means and intervals for each value of this column.",
        rich_help_panel=RESULTS,
    ),
]


class Clicker(str, enum.Enum):
    """How the simulated person clicks."""

    deepest = "deepest"
    random = "random"


def ground_truth(
    panoptic: Path | None, coco: tuple[Path, Path] | None, masks: Path | None, limit: int | None
) -> GroundTruth:
    """The labelled photos that the options name. Raises UsageError, BadAnnotation."""
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


def refuse_given(context: typer.Context, names: Iterable[str], because: str) -> None:
    """An option that would be ignored is a mistake.

    Args:
        context: of the command.
        names: of its parameters that ``because`` has no use for.
        because: the option that is in their way.

    Raises:
        UsageError: one of them was given; whether its value is the default plays no part.
    """
    from sam.errors import UsageError

    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        # By name: some versions of typer bring a click of their own, with an enum of its own.
        if parameter.name in names and source is not None and not source.name.startswith("DEFAULT"):
            option = parameter.opts[0]
            raise UsageError(f"{option} has no meaning with {because}; leave it out", field=option)


def check_outputs(json: Path | None, plot: Path | None) -> None:
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


def load_composer(preset: str, checkpoint: Path | None, device: str, precision: str) -> Composer:
    """See :meth:`composer.Composer.load`."""
    from composer.composer import Composer
    from composer.limits import shipped_limits

    return Composer.load(
        preset, checkpoint=checkpoint, device=device, precision=precision, limits=shipped_limits()
    )


def title_of(prompt: str, composer: Composer, truth: GroundTruth) -> str:
    """What was measured with what on what, in one line."""
    return named(f"{prompt}: {composer.preset.name}", Path(truth.source).resolve().name)


def named(what: str, source: str) -> str:
    """The title of a table or plot."""
    return one_line(f"{what} on {source}")


def about_filter(which: MaskFilter) -> dict[str, Any]:
    """Which segments were evaluated, for a report."""
    return {"min_area": which.min_area, "max_masks_per_image": which.max_per_image}


def about_model(composer: Composer) -> dict[str, Any]:
    """What model a report's figures are of."""
    return {
        "preset": composer.preset.name,
        "weights_sha256": composer.model.digest or None,
        "model": composer.describe(),
    }


def about_run(source: str) -> dict[str, Any]:
    """On what data and by what command, so that the figures can be had again."""
    return {"data": source, "command": shlex.join(["sam-composer", *sys.argv[1:]])}
